"""Both executors of the recipes: exact against torchvision's functions, and one distribution of views."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from benchmark.cost import views as sample
from benchmark.data import Input, PixelImages
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import fork_rng, generator
from benchmark.views import PROBE_CROPS, RECIPES, recipe
from benchmark.views import batched as batch
from benchmark.views.batched import central_crop
from benchmark.views.draws import Draws, crop_boxes, patch_corners
from benchmark.views.loader import ViewLoader
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
    Recipe,
    Solarize,
    View,
)
from methods import Pairing

SIDE = 24


def picture(side: int = SIDE, channels: int = 3) -> Tensor:
    """uint8 (C, side, side): smooth, coloured and not symmetric, as photographs are."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    waves = torch.stack([x * y, (3 * x + y).sin().abs(), (1 - x) * (5 * y).cos().abs()])
    return (255 * waves[:channels]).round().to(torch.uint8)


def made(view: View, images: Tensor, image_size: int, *parts: str | int, numbers: range | None = None) -> list[Tensor]:
    """Views of images in memory, which have these numbers, or those from 0 on."""
    images_n = np.array(numbers or range(len(images)))
    todo, side = batch.steps(view, images_n, image_size, parts, tuple(images.shape[-2:])), view.side(image_size)
    out = [torch.full((len(images), images.shape[1], side, side), torch.nan) for _ in range(view.count)]
    batch.views(todo, images, out)
    return out


def pixelwise(*operations: Operation) -> View:
    """Images of their size are not cropped."""
    return View((CentralCrop(), *operations))


def test_the_published_recipes_are_these() -> None:
    first, second = (view.operations for view in recipe("vicreg").views)
    assert (first[4], second[4]) == (GaussianBlur(1.0, (0.1, 2.0)), GaussianBlur(0.1, (0.1, 2.0)))
    assert (first[5], second[5]) == (Solarize(0.0), Solarize(0.2))
    assert first[:4] == second[:4]
    assert first[:3] == (
        RandomResizedCrop((0.08, 1), (3 / 4, 4 / 3)),
        HorizontalFlip(0.5),
        ColourJitter(0.4, 0.4, 0.2, 0.1, 0.8),
    )
    for view in recipe("simclr").views:
        assert view.operations[2:] == (ColourJitter(0.8, 0.8, 0.8, 0.2, 0.8), Grayscale(0.2), GaussianBlur(0.5))
    for view in recipe("auh").views:
        assert view.operations[2:] == (ColourJitter(0.4, 0.4, 0.4, 0.4, 1.0), Grayscale(0.2))


def test_an_unknown_recipe_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="augmentation: is 'simclear', must be one of auh, grey, lejepa, obow, simclr"):
        recipe("simclear")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 31), st.integers(1, 31), st.integers(4, 40))
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_crop_is_pillows(interpolation: Interpolation, top: int, left: int, tall: int, wide: int, out: int) -> None:
    tall, wide = min(tall, 31 - top), min(wide, 31 - left)
    x_CHW = torch.rand(3, 31, 31, generator=generator("crop"))
    rows, columns = (
        batch.crop_matrix(torch.tensor([[float(start), float(length), 0.0]]), 31, out, interpolation)
        for start, length in ((top, tall), (left, wide))
    )
    expected = F.resized_crop(
        x_CHW, top, left, tall, wide, [out, out], interpolation=InterpolationMode(interpolation), antialias=True
    )
    torch.testing.assert_close(batch.separable(x_CHW[None], rows, columns)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_batched_crop_is_that_of_each_image_by_torchvision(interpolation: Interpolation) -> None:
    operation, images = RandomResizedCrop(interpolation=interpolation), picture(40).repeat(20, 1, 1, 1)
    (views,) = made(View((operation,)), images, SIDE, "crops")
    boxes = crop_boxes(operation, 40, 40, Draws.of(range(20), "crops", "crop")).astype(int).tolist()
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
    (views,) = made(View((RandomCrop("bilinear"),)), image.repeat(200, 1, 1, 1), SIDE, "squares")
    nearest = (255 * views[:, None] - squares.float()).abs().amax(dim=(2, 3, 4)).min(dim=1)
    assert nearest.values.max() < 1.01
    assert len(nearest.indices.unique()) > 0.9 * len(squares)


def test_the_crops_of_the_linear_probe_are_bilinear_and_those_of_pretraining_bicubic() -> None:
    (probed,) = PROBE_CROPS.views
    assert probed.operations == (RandomResizedCrop((0.08, 1.0), (3 / 4, 4 / 3), "bilinear"), HorizontalFlip(0.5))
    crops = {one.name: view.operations[0] for one in RECIPES.values() for view in one.views}
    bilinear = {name for name, crop in crops.items() if crop.interpolation == "bilinear"}
    assert bilinear == {"obow", "swav"}, "as in the published code of SFRIK"


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
        blurred = sample.transform(pixelwise(GaussianBlur(1.0, (1.5, 1.5))), SIDE)(x_CHW)[0]
    assert int((blurred.int() - F.gaussian_blur(x_CHW, 13, 1.5).int()).abs().max()) <= 1


def toned(slopes: list[float], offsets: list[float], x_NCHW: Tensor, factors_N: Tensor) -> Tensor:
    """One round of jitter, whose three numbers are slope · factor + offset."""
    return batch._toned(x_NCHW, factors_N.unsqueeze(1) * torch.tensor(slopes) + torch.tensor(offsets))


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (partial(toned, [1, 0, 0], [0, 0, 0]), F.adjust_brightness, (0.2, 1.0, 1.8)),
        (partial(toned, [1, 0, -1], [0, 0, 1]), F.adjust_contrast, (0.2, 1.0, 1.8)),
        (partial(toned, [1, -1, 0], [0, 1, 0]), F.adjust_saturation, (0.2, 1.0, 1.8)),
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


def alone(operation: Operation) -> View:
    """A view by one operation."""
    return View((operation,)) if isinstance(operation, RandomResizedCrop | RandomCrop) else pixelwise(operation)


BLENDS = (ColourJitter(0.4, 0.0, 0.0, 0.0), ColourJitter(0.0, 0.4, 0.0, 0.0), ColourJitter(0.0, 0.0, 0.4, 0.0))
OPERATIONS: list[Operation] = [
    RandomResizedCrop(),
    RandomResizedCrop(interpolation="bilinear"),
    RandomCrop(),
    HorizontalFlip(),
    ColourJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
    *BLENDS,
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


def views_of_both_executors(view: View, count: int) -> tuple[Tensor, Tensor]:
    """The last view of a view's patches."""
    image_CHW = picture()
    one_by_one = sample.transform(view, SIDE)
    with fork_rng("one by one"):
        first = torch.stack([one_by_one(image_CHW)[-1] for _ in range(count)]) / 255
    second = made(view, image_CHW.repeat(count, 1, 1, 1), SIDE, "at once")[-1]
    return first, second


def assert_one_distribution(first: Tensor, second: Tensor) -> None:
    """Two-sample Kolmogorov-Smirnov tests on every feature.

    Both samples are blurred by a tenth of the spread: single images that rounding to bytes has moved a little would
    else be told apart. Of a change of one number torchvision's rounding down is a sixth of the spread, which thousands
    of images would show.
    """
    spread = torch.cat([first, second]).std(0) + 1e-3
    noise = generator("dither")
    dithered = [x + 0.1 * spread * torch.randn(x.shape, generator=noise, dtype=x.dtype) for x in (first, second)]
    for one, other in zip(dithered[0].T, dithered[1].T, strict=True):
        assert ks_2samp(one, other, method="asymp").pvalue > 1e-3


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_both_executors_draw_from_one_distribution(operation: Operation) -> None:
    first, second = views_of_both_executors(alone(operation), 1500)
    if operation in BLENDS:  # torchvision's round down, by half a number on average
        first = first + 0.5 / 255
    assert_one_distribution(features(first), features(second))


@pytest.mark.parametrize("name", RECIPES)
def test_whole_recipes_agree_between_executors(name: str) -> None:
    for view in dict.fromkeys(recipe(name).views):
        first, second = views_of_both_executors(view, 500)
        assert_one_distribution(features(first), features(second))


def test_the_statistical_test_sees_a_small_difference() -> None:
    first, _ = views_of_both_executors(View((RandomResizedCrop((0.08, 1)),)), 1500)
    _, second = views_of_both_executors(View((RandomResizedCrop((0.25, 1)),)), 1500)
    with pytest.raises(AssertionError):
        assert_one_distribution(features(first), features(second))


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_image_has_a_draw_of_its_own(operation: Operation) -> None:
    (views,) = made(alone(operation), picture().repeat(64, 1, 1, 1), SIDE, "own")
    distinct = len(views.flatten(1).unique(dim=0))
    few = {RandomCrop(): 12, HorizontalFlip(): 2, Grayscale(): 2, Solarize(0.2): 2}  # 16 places of 24 pixels in 27
    assert distinct >= few.get(operation, 30)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_views_have_their_size_and_stay_in_range(name: str, channels: int) -> None:
    images = torch.stack([picture(32, channels)] * 20)[:, :, :, :28]
    many = [one for view in recipe(name).views for one in made(view, images, 16, name)]
    ones = [one for view in recipe(name).views for one in sample.transform(view, 16)(images[0])]
    assert len(many) == len(ones) == recipe(name).count
    for views, one, side in zip(many, ones, recipe(name).sides(16), strict=True):
        assert views.shape == (20, channels, side, side)
        assert 0 <= float(views.min()) <= float(views.max()) <= 1
        assert (one.shape, one.dtype) == ((channels, side, side), torch.uint8)


def test_rows_of_a_batch_are_the_batch_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.stack([picture(32)] * 24)
    for view in (*recipe("vicreg").views, recipe("obow").views[-1]):
        whole = made(view, images, 16, "rows")
        parts = [made(view, images[8 * k : 8 * k + 8], 16, "rows", numbers=range(8 * k, 8 * k + 8)) for k in range(3)]
        for part, one in zip(zip(*parts, strict=True), whole, strict=True):
            torch.testing.assert_close(torch.cat(part), one)  # products of matrices round by their number
        with monkeypatch.context() as patched:
            patched.setattr(batch, "PART_BYTES", 5 * 4 * whole[0][0].numel() * len(whole))
            for part, one in zip(made(view, images, 16, "rows"), whole, strict=True):
                torch.testing.assert_close(part, one)


def test_the_images_are_left_as_they_are() -> None:
    images = torch.stack([picture()] * 8)
    for operation in OPERATIONS:
        made(alone(operation), images, SIDE, "kept")
    assert torch.equal(images, torch.stack([picture()] * 8))


@pytest.mark.parametrize(("height", "width"), [(4, 200), (200, 4), (30, 40)])
def test_crops_lie_inside_the_image_and_fall_back_to_its_centre(height: int, width: int) -> None:
    operation = RandomResizedCrop(scale=(0.5, 1.0))
    boxes_N4 = crop_boxes(operation, height, width, Draws.of(range(500), "boxes"))
    top, left, tall, wide = boxes_N4.T
    assert bool(((top >= 0) & (left >= 0) & (tall >= 1) & (wide >= 1)).all())
    assert bool(((top + tall <= height) & (left + wide <= width)).all())
    if (height, width) == (4, 200):
        assert np.unique(boxes_N4, axis=0).tolist() == [[0, 97, 4, 5]]


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
    (views,) = made(View((CentralCrop(),)), picture(64)[None, :, :, :48], 32, "centre")
    torch.testing.assert_close(views[0], expected / 255, atol=0.01, rtol=0)


def test_patches_are_different_cells_of_a_grid_as_published() -> None:
    view, images = recipe("obow").views[-1], 300
    assert view.patches is not None
    corners = torch.from_numpy(patch_corners(view.patches, 256, 96, Draws.of(range(images), "patches")))
    assert corners.shape == (images, 5, 2)
    cells = corners.div(68, rounding_mode="floor").clamp_(max=2)
    moved = corners - 68 * cells
    assert (int(moved.min()), int(moved.max())) == (0, 24)
    assert len(moved.unique()) == 25
    numbers = 3 * cells[..., 0] + cells[..., 1]
    assert all(len(row.unique()) == 5 for row in numbers)
    assert set(numbers[:, 0].tolist()) == set(range(9))
    image = torch.arange(256 * 256).remainder(251).to(torch.uint8).view(1, 1, 256, 256).expand(2, 3, -1, -1)
    cut = made(View((CentralCrop(),), 96, "small", view.patches), image, 224, "cut")
    top, left = patch_corners(view.patches, 256, 96, Draws.of(range(2), "cut", "colour"))[1, 3].tolist()
    torch.testing.assert_close(cut[3][1], image[1, :, top : top + 96, left : left + 96] / 255)


def test_multi_crop_recipes_are_these() -> None:
    assert recipe("obow").sides(224) == (224, 160, 160, 96, 96, 96, 96, 96)
    assert recipe("swav").sides(224) == (224, 224, 96, 96, 96, 96, 96, 96)
    assert recipe("lejepa").sides(224) == (224, 224, 98, 98, 98, 98, 98, 98)
    assert (recipe("obow").pairing, recipe("swav").pairing) == (Pairing.obow(7), Pairing.swav(2, 6))
    assert recipe("lejepa").pairing == Pairing.centre(2, 6)
    crops = {name: {view.operations[0].scale for view in recipe(name).views[1:]} for name in ("obow", "swav", "lejepa")}
    assert crops["obow"] == {(0.08, 0.6), (0.6, 1.0)}
    assert crops["swav"] == {(0.14, 1.0), (0.05, 0.14)}
    assert crops["lejepa"] == {(0.3, 1.0), (0.05, 0.3)}
    assert {view.role for view in recipe("obow").views} == {"original", "large", "small"}
    for view in recipe("lejepa").views:
        jitter = ColourJitter(0.4, 0.4, 0.2, 0.1, p=0.8)
        assert view.operations[1:] == (HorizontalFlip(), jitter, Grayscale(), GaussianBlur(0.5), Solarize(0.2))


def test_a_pairing_of_other_views_is_refused() -> None:
    with pytest.raises(ValueError, match="the pairing is of 8 views, but there are 2"):
        Recipe("odd", "a test", recipe("vicreg").views, Pairing.obow())


@pytest.mark.parametrize(
    "operations", [(), (HorizontalFlip(),), (CentralCrop(), Grayscale(), HorizontalFlip())], ids=str
)
def test_a_view_begins_with_a_crop_and_flips_right_after(operations: tuple[Operation, ...]) -> None:
    with pytest.raises(ValueError, match="a view is a crop, a flip maybe, and other operations"):
        View(operations)


def test_draws_are_keyed_uniform_and_independent() -> None:
    first = Draws.of(range(2000), 0, "view", 3, 1)
    numbers = first.uniform(0, 1, 40)
    alone = Draws.of([7], 0, "view", 3, 1)
    apart = np.concatenate([alone.uniform(0, 1, 4), alone.uniform(0, 1, 36)], axis=1)
    assert np.array_equal(numbers[7], apart[0]), "whoever else is drawn for, and in how many strokes"
    other = Draws.of(range(2000), 0, "view", 3, 2).uniform(0, 1, 40)
    for column in (*numbers.T[:5], other[:, 0], numbers[11], first.uniform(0, 1)):
        assert kstest(column, "uniform").pvalue > 1e-3
    columns = np.column_stack([numbers, other, np.roll(numbers, 1, axis=0)])
    correlations = np.corrcoef(columns.T) - np.eye(120)
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)
    assert (numbers >= 0).all()
    assert (numbers < 1).all()


class Dispatched(TorchDispatchMode):
    """Names the operations, tensors made of Python's numbers (``torch.tensor``: a lift) included."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["vicreg", "simclr_small", "grey"])
def test_views_in_memory_take_few_operations_and_nothing_waits(name: str) -> None:
    """On a device that holds no numbers: reading back fails there by itself."""
    channels = 1 if name == "grey" else 3
    pixels = torch.empty(512, channels, 32, 32, dtype=torch.uint8, device="meta")
    images = PixelImages(pixels, np.zeros(512, dtype=np.int64))
    input, process = Input(channels, 32, (0.5,) * channels, (0.5,) * channels), Process(torch.device("meta"))
    loader = ViewLoader(images, recipe(name), input, process, batch_size=256, seed=0)
    steps = loader.epoch(0)
    next(steps)
    with Dispatched() as dispatched:
        assert len(next(steps).views) == 2
    names = dispatched.names
    assert len(names) <= 2 * 230, "half of what it was"
    # What comes from the host: numbers of the batch's images, and of each view what was drawn, in a copy of each kind.
    assert names.count("aten.lift_fresh.default") <= 1 + 2 * 2
    read = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.item.default", "aten.equal.default"}
    assert read.isdisjoint(names)
