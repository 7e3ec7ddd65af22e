"""Both executors of the recipes: exact against torchvision's functions, and one distribution of views."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from benchmark.runtime.errors import UserError
from benchmark.runtime.seeds import fork_rng, generator
from benchmark.views import PROBE_CROPS, RECIPES, recipe
from benchmark.views import batched as batch
from benchmark.views import per_image as sample
from benchmark.views.batched import central_crop
from benchmark.views.recipes import (
    Affine,
    CentralCrop,
    ColourJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Interpolation,
    Operation,
    RandomCrop,
    RandomResizedCrop,
    Solarize,
)

SIDE = 24


def picture(side: int = SIDE, channels: int = 3) -> Tensor:
    """uint8 (C, side, side): smooth, coloured and not symmetric, as photographs are."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    waves = torch.stack([x * y, (3 * x + y).sin().abs(), (1 - x) * (5 * y).cos().abs()])
    return (255 * waves[:channels]).round().to(torch.uint8)


def draws(size: int, *parts: str | int) -> batch.Draws:
    return batch.Draws(generator("test", *parts), size, slice(0, size))


def test_the_published_recipes_are_these() -> None:
    first, second = recipe("vicreg").views
    assert (first[4], second[4]) == (GaussianBlur(1.0, (0.1, 2.0)), GaussianBlur(0.1, (0.1, 2.0)))
    assert (first[5], second[5]) == (Solarize(0.0), Solarize(0.2))
    assert first[:4] == second[:4]
    assert first[:3] == (
        RandomResizedCrop((0.08, 1), (3 / 4, 4 / 3)),
        HorizontalFlip(0.5),
        ColourJitter(0.4, 0.4, 0.2, 0.1, 0.8),
    )
    for view in recipe("simclr").views:
        assert view[2:] == (ColourJitter(0.8, 0.8, 0.8, 0.2, 0.8), Grayscale(0.2), GaussianBlur(0.5))
    for view in recipe("auh").views:
        assert view[2:] == (ColourJitter(0.4, 0.4, 0.4, 0.4, 1.0), Grayscale(0.2))


def test_an_unknown_recipe_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="augmentation: is 'simclear', must be one of auh, grey, simclr"):
        recipe("simclear")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 31), st.integers(1, 31), st.integers(4, 40))
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_crop_is_pillows(interpolation: Interpolation, top: int, left: int, tall: int, wide: int, out: int) -> None:
    tall, wide = min(tall, 31 - top), min(wide, 31 - left)
    x_CHW = torch.rand(3, 31, 31, generator=generator("crop"))
    rows = batch.crop_matrix(torch.tensor([float(top)]), torch.tensor([float(tall)]), 31, out, interpolation)
    columns = batch.crop_matrix(torch.tensor([float(left)]), torch.tensor([float(wide)]), 31, out, interpolation)
    expected = F.resized_crop(
        x_CHW, top, left, tall, wide, [out, out], interpolation=InterpolationMode(interpolation), antialias=True
    )
    torch.testing.assert_close(batch.separable(x_CHW[None], rows, columns)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_batched_crop_is_that_of_each_image_by_torchvision(interpolation: Interpolation) -> None:
    operation, images = RandomResizedCrop(interpolation=interpolation), picture(40).repeat(20, 1, 1, 1)
    views = batch.view((operation,), images, SIDE, draws(20, "crops"))
    boxes = batch.crop_boxes(operation, 40, 40, draws(20, "crops")).int().tolist()
    mode = InterpolationMode(interpolation)
    expected = torch.stack(
        [
            F.resized_crop(image, *box, [SIDE, SIDE], mode, antialias=True)
            for image, box in zip(images, boxes, strict=True)
        ]
    )
    torch.testing.assert_close(views, expected / 255, atol=1.5 / 255, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(40, 48), (31, 31), (24, 24)])
def test_a_random_crop_is_a_square_of_the_image_resized_as_for_testing(height: int, width: int) -> None:
    """The shorter side becomes 256/224 of the view's, of small images too; every square can be drawn."""
    image = picture(48)[:, :height, :width]
    short = round(SIDE * 256 / 224)
    whole = F.resize(image, [short], InterpolationMode.BILINEAR, antialias=True)
    squares = whole.unfold(1, SIDE, 1).unfold(2, SIDE, 1).flatten(1, 2).transpose(0, 1)
    views = batch.view((RandomCrop("bilinear"),), image.repeat(200, 1, 1, 1), SIDE, draws(200, "squares")) * 255
    nearest = (views[:, None] - squares.float()).abs().amax(dim=(2, 3, 4)).min(dim=1)
    assert nearest.values.max() < 1.01
    assert len(nearest.indices.unique()) > 0.9 * len(squares)


def test_the_crops_of_the_linear_probe_are_bilinear_and_those_of_pretraining_bicubic() -> None:
    assert PROBE_CROPS.views == ((RandomResizedCrop((0.08, 1.0), (3 / 4, 4 / 3), "bilinear"), HorizontalFlip(0.5)),)
    crops = [
        step for one in RECIPES.values() for view in one.views for step in view if isinstance(step, RandomResizedCrop)
    ]
    assert {crop.interpolation for crop in crops} == {"bicubic"}


@pytest.mark.parametrize("side", [8, 24])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_a_blur_is_torchvisions(sigma: float, side: int) -> None:
    x_NCHW = torch.rand(2, 3, side, side, generator=generator("blur"))
    matrix = batch.blur_matrix(torch.tensor([sigma, 1.0]), side, radius=6)
    blurred = batch.separable(x_NCHW, matrix, matrix)
    torch.testing.assert_close(blurred[0], F.gaussian_blur(x_NCHW[0], 13, sigma), atol=1e-6, rtol=0)
    torch.testing.assert_close(blurred[1], F.gaussian_blur(x_NCHW[1], 13, 1.0), atol=1e-6, rtol=0)


def test_a_blur_axis_by_axis_is_a_blur_up_to_rounding() -> None:
    x_CHW = picture()
    with fork_rng("blur"):
        blurred = sample.transform((GaussianBlur(1.0, (1.5, 1.5)),), SIDE)(x_CHW)
    assert int((blurred.int() - F.gaussian_blur(x_CHW, 13, 1.5).int()).abs().max()) <= 1


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (batch.adjust_brightness, F.adjust_brightness, (0.2, 1.0, 1.8)),
        (batch.adjust_contrast, F.adjust_contrast, (0.2, 1.0, 1.8)),
        (batch.adjust_saturation, F.adjust_saturation, (0.2, 1.0, 1.8)),
        (batch.adjust_hue, F.adjust_hue, (-0.5, -0.1, 0.3)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_change_is_torchvisions(
    ours: Callable[[Tensor, Tensor], Tensor],
    theirs: Callable[[Tensor, float], Tensor],
    factors: tuple[float, ...],
    channels: int,
) -> None:
    noise = torch.rand(channels, SIDE, SIDE, generator=generator("colour"))
    for x_CHW in (noise, picture(channels=channels) / 255, torch.full_like(noise, 0.4)):
        changed = ours(x_CHW.repeat(len(factors), 1, 1, 1), torch.tensor(factors))
        expected = torch.stack([theirs(x_CHW, factor) for factor in factors])
        torch.testing.assert_close(changed, expected, atol=5e-6, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.floats(-180, 180), st.floats(-30, 30), st.integers(-5, 5), st.integers(-5, 5), st.floats(0.5, 2))
def test_an_affine_map_is_torchvisions(degrees: float, shear: float, right: int, down: int, zoom: float) -> None:
    x_CHW = torch.rand(2, 17, 17, generator=generator("affine"))
    shift = torch.tensor([[right, down]], dtype=torch.float32)
    ours = batch.affine(
        x_CHW[None], *(torch.tensor([value]) for value in (degrees, shear)), shift, torch.tensor([zoom])
    )
    theirs = F.affine(x_CHW, degrees, [right, down], zoom, [shear, 0.0], interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(ours[0], theirs, atol=2e-4, rtol=0)


OPERATIONS: list[Operation] = [
    RandomResizedCrop(),
    RandomResizedCrop(interpolation="bilinear"),
    RandomCrop(),
    HorizontalFlip(),
    ColourJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
    ColourJitter(0.4, 0.0, 0.0, 0.0),
    ColourJitter(0.0, 0.4, 0.0, 0.0),
    ColourJitter(0.0, 0.0, 0.4, 0.0),
    ColourJitter(0.0, 0.0, 0.0, 0.4),
    Grayscale(),
    GaussianBlur(0.5),
    Solarize(0.2),
    Affine(degrees=15, shear=10, translate=0.1, zoom=(0.8, 1.2)),
]


def features(views_NCHW: Tensor) -> Tensor:
    """(N, 8): means of every channel, spread, and four projections that see left from right and fine from coarse.

    The projections do not see a constant: torchvision rounds bytes down, which moves all pixels alike.
    """
    flat = views_NCHW.flatten(1).double()
    projections = torch.randn(flat.shape[1], 4, generator=generator("projections"), dtype=torch.float64)
    projections -= projections.mean(0)
    return torch.cat([views_NCHW.double().mean((2, 3)), flat.std(1, keepdim=True), flat @ projections], dim=1)


def views_of_both_executors(operations: tuple[Operation, ...], count: int) -> tuple[Tensor, Tensor]:
    image_CHW = picture()
    one_by_one = sample.transform(operations, SIDE)
    with fork_rng("one by one"):
        first = torch.stack([one_by_one(image_CHW) for _ in range(count)]) / 255
    second = batch.view(operations, image_CHW.repeat(count, 1, 1, 1), SIDE, draws(count, "at once"))
    return first, second


def assert_one_distribution(first: Tensor, second: Tensor) -> None:
    """Two-sample Kolmogorov-Smirnov tests on every feature.

    Both samples are blurred by a tenth of the spread: single images that rounding to bytes has moved a little would
    else be told apart.
    """
    spread = torch.cat([first, second]).std(0) + 1e-3
    noise = generator("dither")
    dithered = [x + 0.1 * spread * torch.randn(x.shape, generator=noise, dtype=x.dtype) for x in (first, second)]
    for one, other in zip(dithered[0].T, dithered[1].T, strict=True):
        assert ks_2samp(one, other, method="asymp").pvalue > 1e-3


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_both_executors_draw_from_one_distribution(operation: Operation) -> None:
    first, second = views_of_both_executors((operation,), 1500)
    assert_one_distribution(features(first), features(second))


@pytest.mark.parametrize("name", RECIPES)
def test_whole_recipes_agree_between_executors(name: str) -> None:
    for operations in recipe(name).views:
        first, second = views_of_both_executors(operations, 500)
        assert_one_distribution(features(first), features(second))


def test_the_statistical_test_sees_a_small_difference() -> None:
    first, _ = views_of_both_executors((RandomResizedCrop((0.08, 1)),), 1500)
    _, second = views_of_both_executors((RandomResizedCrop((0.25, 1)),), 1500)
    with pytest.raises(AssertionError):
        assert_one_distribution(features(first), features(second))


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_image_has_a_draw_of_its_own(operation: Operation) -> None:
    views = batch.view((operation,), picture().repeat(64, 1, 1, 1), SIDE, draws(64, "own"))
    distinct = len(views.flatten(1).unique(dim=0))
    few = {RandomCrop(): 12, HorizontalFlip(): 2, Grayscale(): 2, Solarize(0.2): 2}  # 16 places of 24 pixels in 27
    assert distinct >= few.get(operation, 30)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_views_have_their_size_and_stay_in_range(name: str, channels: int) -> None:
    images = torch.stack([picture(32, channels)] * 20)[:, :, :, :28]
    for operations in recipe(name).views:
        views = batch.view(operations, images, 16, draws(20, name))
        assert views.shape == (20, channels, 16, 16)
        assert 0 <= float(views.min()) <= float(views.max()) <= 1
        one = sample.transform(operations, 16)(images[0])
        assert (one.shape, one.dtype) == ((channels, 16, 16), torch.uint8)


def test_rows_of_a_batch_are_the_batch_of_the_rows() -> None:
    images = torch.stack([picture(32)] * 24)
    for operations in recipe("vicreg").views:
        whole = batch.view(operations, images, 16, draws(24, "rows"))
        parts = [
            batch.view(operations, images[rows], 16, batch.Draws(generator("test", "rows"), 24, rows))
            for rows in (slice(0, 8), slice(8, 16), slice(16, 24))
        ]
        assert torch.equal(torch.cat(parts), whole)


def test_the_images_are_left_as_they_are() -> None:
    images = torch.stack([picture()] * 8)
    for operation in OPERATIONS:
        batch.view((operation,), images, SIDE, draws(8, "kept"))
    assert torch.equal(images, torch.stack([picture()] * 8))


@pytest.mark.parametrize(("height", "width"), [(4, 200), (200, 4), (30, 40)])
def test_crops_lie_inside_the_image_and_fall_back_to_its_centre(height: int, width: int) -> None:
    operation = RandomResizedCrop(scale=(0.5, 1.0))
    boxes_N4 = batch.crop_boxes(operation, height, width, draws(500, "boxes"))
    top, left, tall, wide = boxes_N4.unbind(1)
    assert bool(((top >= 0) & (left >= 0) & (tall >= 1) & (wide >= 1)).all())
    assert bool(((top + tall <= height) & (left + wide <= width)).all())
    if (height, width) == (4, 200):
        assert boxes_N4.unique(dim=0).tolist() == [[0, 97, 4, 5]]


def test_the_central_crop_leaves_an_image_of_the_right_size_alone() -> None:
    assert torch.equal(central_crop(picture(16), 16), picture(16))
    found = {}
    for interpolation in ("bicubic", "bilinear"):
        resized = F.resize(picture(64)[:, :, :48], [37], interpolation=InterpolationMode(interpolation), antialias=True)
        expected = found[interpolation] = F.center_crop(resized, [32, 32])
        assert torch.equal(central_crop(picture(64)[:, :, :48], 32, interpolation), expected)
    assert not torch.equal(found["bicubic"], found["bilinear"])
    assert torch.equal(central_crop(picture(64)[:, :, :48], 32), found["bicubic"])
    expected = found["bicubic"]
    views = batch.view((CentralCrop(),), picture(64)[None, :, :, :48], 32, draws(1, "centre"))
    torch.testing.assert_close(views[0], expected / 255, atol=0.01, rtol=0)
