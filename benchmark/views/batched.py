"""A whole batch at once, with a draw of its own for every image, wherever its pixels lie; float in [0, 1].

Whatever is drawn is drawn on the host and sent in one piece; how many images an operation falls on is known there. So
nothing waits for the device. Images that the same is done to are worked on side by side: an operation on some then
changes neighbours where they lie, and takes out and puts back only those that are scattered.

Formulas and constants of colour are torchvision's (``torchvision.transforms.v2.functional``). Images of one channel are
their own grey: saturation and hue leave them as they are. Cropping with resize and blurring are separable and linear: a
matrix for the rows and one for the columns of each image, so that a batch is two batched matrix products. They equal
torchvision's operations up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmark.views import recipes
from benchmark.views.draws import Draws, crop_boxes, patch_corners, square_corners

# On the CPU images are worked on by so many bytes at once: what fits into a core's cache is not fetched anew by every
# operation. On a core with 2 MiB half of this is a tenth slower; twice is as fast.
PART_BYTES = 2**20


@dataclass(frozen=True)
class Step:
    """``change(images, *numbers)`` of all images, or of the chosen ones; the numbers (N, ...) are on the host.

    It may change the images that it is given, and gives them or new ones.
    """

    change: Callable[..., Tensor]
    numbers: tuple[NDArray[Any], ...] = ()
    chosen: NDArray[np.bool_] | None = None  # (N,)

    def of(self, rows: NDArray[np.int64]) -> Step | None:
        """The same of some of the images; None where none of them is chosen."""
        chosen = np.full(len(rows), True) if self.chosen is None else self.chosen[rows]
        (places,) = chosen.nonzero()
        if len(places) == 0:
            return None
        numbers = tuple(number[rows[places]] for number in self.numbers)
        if len(places) == len(rows):
            return Step(self.change, numbers)
        run = slice(int(places[0]), int(places[-1]) + 1)
        if run.stop - run.start == len(places):
            return Step(partial(_neighbours, self.change, run), numbers)
        return Step(partial(_scattered, self.change), (places, *numbers))


def _neighbours(change: Callable[..., Tensor], run: slice, x_NCHW: Tensor, *numbers: Tensor) -> Tensor:
    own = x_NCHW[run]
    changed = change(own, *numbers)
    if changed is not own:
        own.copy_(changed)
    return x_NCHW


def _scattered(change: Callable[..., Tensor], x_NCHW: Tensor, places: Tensor, *numbers: Tensor) -> Tensor:
    return x_NCHW.index_copy_(0, places, change(x_NCHW.index_select(0, places), *numbers))


def steps(
    view: recipes.View,
    images_N: NDArray[np.int64],
    image_size: int,
    key: Sequence[str | int],
    shape: tuple[int, int] | None = None,
) -> list[Step]:
    """What is done to images (N, C, *shape) for this view, all that is random drawn by ``key`` and image.

    Without a ``shape``: what is left to do where they are cropped and flipped already.
    """
    whole, colour = view.whole(image_size), Draws.of(images_N, *key, "colour")
    made = [_crop(view, shape, whole, Draws.of(images_N, *key, "crop"))] if shape else [Step(_scaled)]
    for operation in view.operations:
        made += _steps(operation, whole, colour)
    if view.patches is not None:
        corners_Nk2 = patch_corners(view.patches, whole, view.side(image_size), colour)
        made.append(Step(partial(_patches, side=view.side(image_size)), (corners_Nk2,)))
    return made


def views(todo: Sequence[Step], x_NCHW: Tensor, out: Sequence[Tensor]) -> None:
    """Images, those that the steps are for, to views, in [0, 1] after :func:`steps`, written into ``out``.

    ``out`` holds (N, C, side, side), one, or as many as there are patches.
    """
    for rows in _parts(todo, len(x_NCHW), out):
        own = [step for step in (step.of(rows) for step in todo) if step]
        places, *rest = sent([rows, *(number for step in own for number in step.numbers)], x_NCHW.device)
        numbers, made_NCHW = iter(rest), x_NCHW.index_select(0, places)
        for step in own:
            made_NCHW = step.change(made_NCHW, *(next(numbers) for _ in step.numbers))
        made = made_NCHW.unbind(1) if made_NCHW.ndim == 5 else (made_NCHW,)
        for view_NCHW, room_NCHW in zip(made, out, strict=True):
            room_NCHW.index_copy_(0, places, view_NCHW)


def _parts(todo: Sequence[Step], count: int, out: Sequence[Tensor]) -> Iterator[NDArray[np.int64]]:
    """The numbers of images that are worked on at once.

    Sorted by which steps they are chosen for, the first step first: of the rounds of a jitter, each of which goes on
    where the last has been, all are then of neighbours.
    """
    chosen = [step.chosen for step in todo if step.chosen is not None]
    order_N = np.lexsort([np.arange(count), *reversed(chosen)])
    image_bytes = 4 * sum(view_NCHW[0].numel() for view_NCHW in out)
    at_once = max(1, PART_BYTES // image_bytes) if out[0].device.type == "cpu" else count
    return (order_N[start : start + at_once] for start in range(0, count, at_once))


def sent(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Arrays as tensors on the device, float32 or int64: one copy of each kind, that nobody waits for."""
    if device.type == "cpu":
        return [torch.from_numpy(np.asarray(array, dtype=_kind(array))) for array in arrays]
    found: dict[int, Tensor] = {}
    for kind in (np.float32, np.int64):
        places = [place for place, array in enumerate(arrays) if _kind(array) == kind]
        if not places:
            continue
        packed = torch.from_numpy(np.concatenate([arrays[place].ravel() for place in places]).astype(kind))
        packed = (packed.pin_memory() if device.type == "cuda" else packed).to(device, non_blocking=True)
        for place, part in zip(places, packed.split([arrays[place].size for place in places]), strict=True):
            found[place] = part if arrays[place].ndim == 1 else part.view(arrays[place].shape)
    return [found[place] for place in range(len(arrays))]


def _kind(array: NDArray[Any]) -> type[np.float32] | type[np.int64]:
    return np.float32 if array.dtype.kind == "f" else np.int64


def _crop(view: recipes.View, shape: tuple[int, int], whole: int, draws: Draws) -> Step:
    """The crop, its resize and the flip."""
    crop, interpolation = view.crop, view.crop.interpolation
    if isinstance(crop, recipes.CentralCrop):
        square = partial(_central_crop, image_size=whole, interpolation=interpolation, flips=view.flip > 0)
        return Step(square, (draws.chosen(view.flip).astype(float),))
    if isinstance(crop, recipes.RandomCrop):
        corners_N12 = square_corners(*shape, whole, draws)[:, None]
        square = partial(_random_square, image_size=whole, interpolation=interpolation)
        return Step(square, (corners_N12, draws.chosen(view.flip).astype(float)))
    boxes_N4 = crop_boxes(crop, *shape, draws)
    mirrored_N2 = np.stack([np.zeros(len(boxes_N4)), draws.chosen(view.flip)], axis=1)
    numbers_N23 = np.stack([boxes_N4[:, :2], boxes_N4[:, 2:], mirrored_N2], axis=2)
    return Step(partial(_resized_crop, out=whole, interpolation=interpolation), (numbers_N23,))


def _steps(operation: recipes.Operation, side: int, draws: Draws) -> list[Step]:
    """An operation on pixels; those on an image's shape are done when it is cropped."""
    match operation:
        case recipes.ColourJitter():
            return _jitter(operation, draws)
        case recipes.Grayscale(p):
            return [Step(_greyed, (), draws.chosen(p))]
        case recipes.GaussianBlur(p, sigma):
            blur = partial(_blur, radius=min(operation.radius, side - 1))
            return [Step(blur, chosen=draws.chosen(p), numbers=(draws.uniform(*sigma),))]
        case recipes.Solarize(p):
            return [Step(_solarized, (), draws.chosen(p))]
        case recipes.Affine(degrees, shear, translate, zoom):
            turns, shears = draws.uniform(-degrees, degrees), draws.uniform(-shear, shear)
            reach = translate * side
            return [Step(affine, (turns, shears, np.rint(draws.uniform(-reach, reach, 2)), draws.uniform(*zoom)))]
        case _:
            return []


def _scaled(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.float().div_(255)


def _central_crop(
    x_NCHW: Tensor, mirrored_N: Tensor, *, image_size: int, interpolation: recipes.Interpolation, flips: bool
) -> Tensor:
    x_NCHW = _scaled(central_crop(x_NCHW, image_size, interpolation))
    return torch.lerp(x_NCHW, x_NCHW.flip(-1), mirrored_N.view(-1, 1, 1, 1)) if flips else x_NCHW


def central_crop(x_CHW: Tensor, image_size: int, interpolation: recipes.Interpolation = "bicubic") -> Tensor:
    """The centre of images (..., C, H, W), uint8: see :class:`~benchmark.views.recipes.CentralCrop`."""
    if tuple(x_CHW.shape[-2:]) == (image_size, image_size):
        return x_CHW
    # Here, since importing torchvision takes seconds, and images of the view's size need nothing of it.
    from torchvision.transforms import v2

    return v2.functional.center_crop(resized(x_CHW, image_size, interpolation), [image_size, image_size])


def resized(x_CHW: Tensor, image_size: int, interpolation: recipes.Interpolation) -> Tensor:
    """Images (..., C, H, W) whose shorter side is 256/224 of the view's."""
    from torchvision.transforms import v2

    short = [round(image_size * recipes.RESIZE_OVER_CROP)]
    return v2.functional.resize(x_CHW, short, interpolation=v2.InterpolationMode(interpolation), antialias=True)


def _random_square(
    x_NCHW: Tensor, corners_N12: Tensor, mirrored_N: Tensor, *, image_size: int, interpolation: recipes.Interpolation
) -> Tensor:
    x_NCHW = _scaled(resized(x_NCHW, image_size, interpolation))
    x_NCHW = _patches(x_NCHW, corners_N12, side=image_size).squeeze(1)
    return torch.lerp(x_NCHW, x_NCHW.flip(-1), mirrored_N.view(-1, 1, 1, 1))


def _resized_crop(x_NCHW: Tensor, numbers_N23: Tensor, *, out: int, interpolation: recipes.Interpolation) -> Tensor:
    """``numbers``: start, length and whether to mirror, of rows and of columns."""
    height, width = x_NCHW.shape[-2:]
    if height == width:  # both at once: half of the operations
        both = crop_matrix(numbers_N23.view(-1, 3), width, out, interpolation)
        rows, columns = both.view(-1, 2, out, width).unbind(1)
    else:
        matrices = zip(numbers_N23.unbind(1), (height, width), strict=True)
        rows, columns = (crop_matrix(numbers, size, out, interpolation) for numbers, size in matrices)
    # Bytes are brought to [0, 1] by the smaller of the two matrices.
    return separable(x_NCHW, rows, columns / 255).clamp_(0, 1)


def _jitter(operation: recipes.ColourJitter, draws: Draws) -> list[Step]:
    """Brightness, contrast, saturation and hue in an order of each image's own.

    The first three are, of an image x of luma Y, all clamp(a x + b Y + c mean(Y)): a round for each that may come
    before the hue and one for each after it, of the images that then have one, each its own next.
    """
    chosen, order_N4 = draws.chosen(operation.p), draws.uniform(0, 1, 4)
    strengths = (operation.brightness, operation.contrast, operation.saturation)
    factors_N3 = np.stack([draws.uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths], axis=1)
    turns_N = draws.uniform(-operation.hue, operation.hue)
    kinds = np.flatnonzero(strengths)  # what has a strength, and so a place among the others
    rounds_Nk = kinds[order_N4[:, kinds].argsort(axis=1)]
    factors_Nk = np.take_along_axis(factors_N3, rounds_Nk, axis=1)
    rest_Nk = 1 - factors_Nk
    numbers_Nk3 = np.stack([factors_Nk, rest_Nk * (rounds_Nk == 2), rest_Nk * (rounds_Nk == 1)], axis=2)

    before_Nk = np.arange(len(kinds)) < (order_N4[:, kinds] < order_N4[:, 3:]).sum(axis=1, keepdims=True)

    def rounds(due_Nk: NDArray[np.bool_]) -> list[Step]:
        return [Step(_toned, (numbers_Nk3[:, k],), chosen & due_Nk[:, k]) for k in range(len(kinds))]

    if operation.hue == 0:
        return rounds(before_Nk | True)
    return [*rounds(before_Nk), Step(adjust_hue, (turns_N,), chosen), *rounds(~before_Nk)]


def _toned(x_NCHW: Tensor, factors_N3: Tensor) -> Tensor:
    """clamp(a x + b Y + c mean(Y)), Y the luma."""
    a, b, c = factors_N3.view(-1, 3, 1, 1, 1).unbind(1)
    luma = grey(x_NCHW)
    base = (luma * b).add_(luma.mean(dim=(2, 3), keepdim=True).mul_(c))
    return torch.addcmul(base, x_NCHW, a, out=x_NCHW).clamp_(0, 1)


def grey(x_NCHW: Tensor) -> Tensor:
    """Luma (N, 1, H, W) = 0.2989 R + 0.587 G + 0.114 B."""
    if x_NCHW.shape[1] == 1:
        return x_NCHW
    red, green, blue = x_NCHW.split(1, dim=1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def _solarized(x_NCHW: Tensor) -> Tensor:
    """min(x, 1 - x)."""
    return x_NCHW.sub_(0.5).abs_().neg_().add_(0.5)


def _greyed(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.copy_(grey(x_NCHW))


def adjust_hue(x_NCHW: Tensor, shift_N: Tensor) -> Tensor:
    """Turn the hue by ``shift`` turns at constant value and saturation (HSV).

    With V the largest channel, m the least and h the hue in sixths of a turn, a colour is
    V - (V - m) clamp(min(k, 4 - k), 0, 1), where k = (h + 5, 3, 1) mod 6 for red, green and blue.
    """
    if x_NCHW.shape[1] == 1:
        return x_NCHW
    red, green, blue = x_NCHW.split(1, dim=1)
    value, least = x_NCHW.amax(1, keepdim=True), x_NCHW.amin(1, keepdim=True)
    chroma = value - least
    # Products with zeros and ones: on the CPU torch.where takes thirty times as long.
    is_other = (value - red).sign_()
    is_red, is_green = 1 - is_other, (1 - (value - green).sign_()).mul_(is_other)
    is_blue = is_other.sub_(is_green)
    difference = (green - blue).mul_(is_red).addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    # A grey pixel has no hue: its differences are all zero, whatever they are divided by.
    turns = difference.div_(chroma.clamp(min=torch.finfo(chroma.dtype).tiny))
    turns.add_(is_green, alpha=2).add_(is_blue, alpha=4).div_(6).add_(shift_N.view(-1, 1, 1, 1))
    # k / 6, of numbers above -1; min(k, 4 - k) = 2 - |k - 2|.
    offsets = torch.linspace(11 / 6, 7 / 6, 3, device=x_NCHW.device).view(1, 3, 1, 1)
    weights = (turns + offsets).frac_().sub_(1 / 3).abs_().mul_(-6).add_(2).clamp_(0, 1)
    return torch.addcmul(value, weights, chroma, value=-1, out=x_NCHW)


def separable(x_NCHW: Tensor, rows_NOH: Tensor, columns_NOW: Tensor) -> Tensor:
    """Apply ``rows @ image @ columns^T`` to every channel of every image, bytes or floats: (N, C, O, O)."""
    n, channels, height, width = x_NCHW.shape
    wide = torch.bmm(x_NCHW.float().reshape(n, channels * height, width), columns_NOW.mT)
    each = rows_NOH.unsqueeze(1).expand(-1, channels, -1, -1).reshape(n * channels, -1, height)
    return torch.bmm(each, wide.view(n * channels, height, -1)).view(n, channels, -1, wide.shape[-1])


def crop_matrix(numbers_N3: Tensor, size: int, out: int, interpolation: recipes.Interpolation = "bicubic") -> Tensor:
    """Weights (N, out, size) that crop [start, start + length) and resize it to ``out`` pixels, and mirror it if asked.

    Antialiased as in Pillow and ``torch.nn.functional.interpolate(mode=interpolation, antialias=True)``: the cubic
    convolution kernel with a = -1/2, or the triangle, stretched by length/out where that shrinks, cut at the borders.
    """
    start_N, length_N, mirrored_N = numbers_N3.unbind(1)
    scale_N1 = (length_N / out).unsqueeze(1)
    target = torch.arange(0.5, out, device=start_N.device).unsqueeze(0)
    target_NO = torch.lerp(target, target.flip(1), mirrored_N.unsqueeze(1))
    centre_NO1 = torch.addcmul(start_N.unsqueeze(1), scale_N1, target_NO).unsqueeze(2)
    # Only the pixels under the kernel are looked at: 2 · support · stretch of them, and one on either side.
    support, kernel = _KERNELS[interpolation]
    taps = min(size, 2 * ceil(support * max(1.0, size / out)) + 1)
    stretch_N11 = scale_N1.clamp(min=1).unsqueeze(2)
    first_NO1 = (centre_NO1 - taps / 2).round_().clamp_(0, size - taps)
    place_NOK = first_NO1 + torch.arange(taps, device=start_N.device)
    distance_NOK = (place_NOK + 0.5 - centre_NO1).div_(stretch_N11).abs_()
    beyond_NOK = (place_NOK < start_N.view(-1, 1, 1)) | (place_NOK >= (start_N + length_N).view(-1, 1, 1))
    weights_NOK = kernel(distance_NOK.add_(beyond_NOK, alpha=support))
    weights_NOK.div_(weights_NOK.sum(dim=-1, keepdim=True))
    return weights_NOK.new_zeros(len(start_N), out, size).scatter_(2, place_NOK.long(), weights_NOK)


def _triangle(t: Tensor) -> Tensor:
    """1 − t, of support t < 1."""
    return (1 - t).clamp_(min=0)


def _cubic(t: Tensor) -> Tensor:
    """The cubic convolution kernel with a = -1/2 (Keys 1981), t ≥ 0.

    With u = (2 − t)₊ and v = (1 − t)₊ it is u²(u − 1)/2 + v²(1 − 2v).
    """
    u = (2 - t).clamp_(min=0)
    v = (u - 1).clamp_(min=0)
    far = (u - 1).mul_(u).mul_(u).mul_(0.5)
    return far.addcmul_(v * v, 1 - 2 * v)


_KERNELS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {"bicubic": (2, _cubic), "bilinear": (1, _triangle)}


def _blur(x_NCHW: Tensor, sigma_N: Tensor, radius: int) -> Tensor:
    matrix = blur_matrix(sigma_N, x_NCHW.shape[-1], radius)
    return separable(x_NCHW, matrix, matrix).clamp_(max=1)


def blur_matrix(sigma_N: Tensor, size: int, radius: int) -> Tensor:
    """Weights (N, size, size) of a Gaussian blur cut at ``radius`` < size pixels, the borders reflected."""
    offset = torch.arange(-radius, radius + 1, device=sigma_N.device)
    # Beyond exp(-40), 4e-18, lie numbers that the CPU multiplies a hundred times slower, and float32 does not add.
    kernel_NK = torch.softmax((-0.5 * (offset / sigma_N.unsqueeze(1)) ** 2).clamp_(min=-40), dim=1)
    return (kernel_NK @ _reflected_shifts(size, radius, sigma_N.device)).view(-1, size, size)


@lru_cache(maxsize=16)
def _reflected_shifts(size: int, radius: int, device: torch.device) -> Tensor:
    """(2 radius + 1, size²): matrix k reads, for every pixel, the one k - radius further, reflected at the ends.

    The pixel beyond either end is the last but one, as with ``padding_mode="reflect"``.
    """
    every = torch.arange(size, device=device)
    source = every + torch.arange(-radius, radius + 1, device=device).unsqueeze(1)
    source = (size - 1 - (source.abs() - (size - 1)).abs()).unsqueeze(-1)
    return (source == every).float().flatten(1)


def affine(x_NCHW: Tensor, degrees_N: Tensor, shear_N: Tensor, shift_N2: Tensor, zoom_N: Tensor) -> Tensor:
    """Rotate, shear along x, zoom about the centre and shift by pixels (x, y); bilinear, zero outside.

    Angles in degrees. The map from output to input is M^-1 (q - shift) with M = zoom R(degrees) [1, -tan(shear); 0, 1].
    """
    height, width = x_NCHW.shape[-2:]
    angle_N = torch.deg2rad(degrees_N)
    cos, sin, tan = angle_N.cos(), angle_N.sin(), torch.deg2rad(shear_N).tan()
    a, b, c, d = ((cos - sin * tan) / zoom_N, (sin + cos * tan) / zoom_N, -sin / zoom_N, cos / zoom_N)
    right, down = shift_N2.unbind(1)
    # affine_grid works in units of half a side.
    x_N3 = [a, b * (height / width), (a * right + b * down) * (-2 / width)]
    y_N3 = [c * (width / height), d, (c * right + d * down) * (-2 / height)]
    theta_N23 = torch.stack([*x_N3, *y_N3], dim=-1).view(-1, 2, 3)
    grid = F.affine_grid(theta_N23, list(x_NCHW.shape), align_corners=False)
    return F.grid_sample(x_NCHW, grid, align_corners=False)


def _patches(x_NCHW: Tensor, corners_Nk2: Tensor, *, side: int) -> Tensor:
    """Patches (N, k, C, side, side) of square images."""
    within = torch.arange(side, device=x_NCHW.device)
    top_Nks, left_Nks = (corners_Nk2.unsqueeze(-1) + within.view(1, 1, 1, -1)).unbind(2)
    images = torch.arange(len(x_NCHW), device=x_NCHW.device).view(-1, 1, 1, 1)
    cut_NkssC = x_NCHW.permute(0, 2, 3, 1)[images, top_Nks.unsqueeze(3), left_Nks.unsqueeze(2)]
    return cut_NkssC.permute(0, 1, 4, 2, 3)
