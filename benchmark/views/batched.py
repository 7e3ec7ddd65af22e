"""A whole batch of tensors at once, with a draw of its own for every image: for images that lie in memory.

Every operation draws for the global batch on the CPU and keeps the rows of this process, so that neither the number
of processes nor the device changes a draw; the pixels, float in [0, 1], are worked on wherever they lie.

Formulas and constants of colour are torchvision's (``torchvision.transforms.v2.functional``), so that both executors
agree. Images of one channel are their own grey: saturation and hue leave them as they are. Cropping with resize and
blurring are separable and linear: a matrix for the rows and one for the columns of each image, so that a batch is two
batched matrix products. They equal torchvision's operations up to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.views import recipes

RESIZE_OVER_CROP = 256 / 224
CROP_ATTEMPTS = 10


@dataclass(frozen=True)
class Draws:
    """Random numbers for a global batch of ``size`` images, of which ``rows`` are kept."""

    generator: torch.Generator
    size: int
    rows: slice

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(n, *shape) numbers of U(low, high)."""
        numbers = torch.rand(self.size, *shape, generator=self.generator, dtype=torch.float64)
        return (low + (high - low) * numbers)[self.rows].float()

    def chosen(self, p: float) -> Tensor:
        """(n,) booleans, true with probability p."""
        return self.uniform(0, 1) < p


def views(view: recipes.View, x_NCHW: Tensor, image_size: int, draws: Draws) -> tuple[Tensor, ...]:
    """uint8 images (N, C, H, W) to float views (N, C, side, side) in [0, 1]: one, or the patches of one."""
    x_NCHW, whole = x_NCHW.float().div_(255), view.whole(image_size)
    for operation in view.operations:
        x_NCHW = _apply(operation, x_NCHW, whole, draws)
    return (x_NCHW,) if view.patches is None else _patches(view.patches, x_NCHW, view.side(image_size), draws)


def _patches(patches: recipes.Patches, x_NCHW: Tensor, side: int, draws: Draws) -> tuple[Tensor, ...]:
    """``patches.count`` patches (N, C, side, side) of square images."""
    corners_Nk2 = patch_corners(patches, x_NCHW.shape[-1], side, draws).to(x_NCHW.device, non_blocking=True)
    images = torch.arange(len(x_NCHW), device=x_NCHW.device).view(-1, 1, 1)
    within = torch.arange(side, device=x_NCHW.device)
    return tuple(
        x_NCHW[images, :, (top_N1 + within).unsqueeze(2), (left_N1 + within).unsqueeze(1)].permute(0, 3, 1, 2)
        for top_N1, left_N1 in (corners_N2.split(1, dim=1) for corners_N2 in corners_Nk2.unbind(1))
    )


def patch_corners(patches: recipes.Patches, whole: int, side: int, draws: Draws) -> Tensor:
    """(n, count, 2) top and left of the patches of images of ``whole`` pixels."""
    grid, jitter = patches.grid, round(patches.jitter * whole / patches.of)
    cells_Nk = draws.uniform(0, 1, grid**2).argsort(dim=1)[:, : patches.count]
    moved_Nk2 = draws.uniform(0, jitter + 1, patches.count, 2).floor().clamp_(max=jitter).long()
    stride = (whole - side - jitter) // (grid - 1)
    return stride * torch.stack([cells_Nk // grid, cells_Nk % grid], dim=2) + moved_Nk2


def _apply(operation: recipes.Operation, x: Tensor, image_size: int, draws: Draws) -> Tensor:
    match operation:
        case recipes.CentralCrop(interpolation):
            return central_crop(x, image_size, interpolation).clamp_(0, 1)
        case recipes.RandomResizedCrop(interpolation=interpolation):
            height, width = x.shape[-2:]
            boxes_N4 = crop_boxes(operation, height, width, draws).to(x.device, non_blocking=True)
            top, left, tall, wide = boxes_N4.unbind(1)
            rows = crop_matrix(top, tall, height, image_size, interpolation)
            columns = crop_matrix(left, wide, width, image_size, interpolation)
            return separable(x, rows, columns).clamp_(0, 1)
        case recipes.HorizontalFlip(p):
            return _on_some(x, draws.chosen(p), lambda x: x.flip(-1))
        case recipes.ColourJitter():
            return _jitter(operation, x, draws)
        case recipes.Grayscale(p):
            return _on_some(x, draws.chosen(p), lambda x: grey(x).expand_as(x))
        case recipes.GaussianBlur(p, sigma):
            return _on_some(x, draws.chosen(p), partial(_blur, radius=operation.radius), draws.uniform(*sigma))
        case recipes.Solarize(p):
            return _on_some(x, draws.chosen(p), lambda x: torch.where(x < 0.5, x, 1 - x))
        case recipes.Affine(degrees, shear, translate, zoom):
            turns, shears = draws.uniform(-degrees, degrees), draws.uniform(-shear, shear)
            reach = translate * x.shape[-1]
            parameters = turns, shears, draws.uniform(-reach, reach, 2).round(), draws.uniform(*zoom)
            return affine(x, *(parameter.to(x.device, non_blocking=True) for parameter in parameters))


def _on_some(x: Tensor, chosen_N: Tensor, change: Callable[..., Tensor], *parameters_N: Tensor) -> Tensor:
    """Overwrite the chosen images by ``change(images, *parameters)``; ``chosen`` and parameters lie on the CPU."""
    rows = chosen_N.nonzero().squeeze(1)
    if len(rows) == 0:
        return x
    here = [parameter[rows].to(x.device, non_blocking=True) for parameter in parameters_N]
    rows = rows.to(x.device, non_blocking=True)
    return x.index_copy_(0, rows, change(x[rows], *here))


def central_crop(x_CHW: Tensor, image_size: int, interpolation: recipes.Interpolation = "bicubic") -> Tensor:
    """The centre of images (..., C, H, W), uint8 too: see :class:`~benchmark.views.recipes.CentralCrop`."""
    if tuple(x_CHW.shape[-2:]) == (image_size, image_size):
        return x_CHW
    # Here, since importing torchvision takes seconds, and images of the view's size need nothing of it.
    from torchvision.transforms import v2

    short = [round(image_size * RESIZE_OVER_CROP)]
    resized = v2.functional.resize(x_CHW, short, interpolation=v2.InterpolationMode(interpolation), antialias=True)
    return v2.functional.center_crop(resized, [image_size, image_size])


def crop_boxes(operation: recipes.RandomResizedCrop, height: int, width: int, draws: Draws) -> Tensor:
    """(n, 4) top, left, height, width in pixels: as torchvision, the first of ten that fits, else the centre."""
    area_NA = height * width * draws.uniform(*operation.scale, CROP_ATTEMPTS)
    ratio_NA = draws.uniform(log(operation.ratio[0]), log(operation.ratio[1]), CROP_ATTEMPTS).exp()
    sides_NA2 = torch.stack([area_NA / ratio_NA, area_NA * ratio_NA], dim=-1).sqrt().round()
    limits = torch.tensor([height, width])
    fits_NA = ((sides_NA2 > 0) & (sides_NA2 <= limits)).all(dim=-1)
    first = fits_NA.int().argmax(dim=1)
    sides_N2 = sides_NA2[torch.arange(len(first)), first]
    corner_N2 = (draws.uniform(0, 1, 2) * (limits - sides_N2 + 1)).floor().minimum(limits - sides_N2)
    # The largest central part whose ratio is allowed.
    tall, wide = min(height, round(width / operation.ratio[0])), min(width, round(height * operation.ratio[1]))
    central = torch.tensor([(height - tall) // 2, (width - wide) // 2, tall, wide], dtype=torch.float32)
    return torch.where(fits_NA.any(dim=1, keepdim=True), torch.cat([corner_N2, sides_N2], dim=1), central)


def _jitter(operation: recipes.ColourJitter, x: Tensor, draws: Draws) -> Tensor:
    chosen_N = draws.chosen(operation.p)
    order_N4 = draws.uniform(0, 1, 4).argsort(dim=1)
    changes = (
        (operation.brightness, adjust_brightness, draws.uniform(*_around_one(operation.brightness))),
        (operation.contrast, adjust_contrast, draws.uniform(*_around_one(operation.contrast))),
        (operation.saturation, adjust_saturation, draws.uniform(*_around_one(operation.saturation))),
        (operation.hue, adjust_hue, draws.uniform(-operation.hue, operation.hue)),
    )
    for place in range(4):
        for which, (strength, change, factor_N) in enumerate(changes):
            if strength > 0:
                x = _on_some(x, chosen_N & (order_N4[:, place] == which), change, factor_N)
    return x


def _around_one(strength: float) -> tuple[float, float]:
    return max(0.0, 1 - strength), 1 + strength


def grey(x_NCHW: Tensor) -> Tensor:
    """Luma (N, 1, H, W) = 0.2989 R + 0.587 G + 0.114 B."""
    if x_NCHW.shape[1] == 1:
        return x_NCHW
    red, green, blue = x_NCHW.split(1, dim=1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def adjust_brightness(x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    return (x_NCHW * _broadcast(factor_N)).clamp_(0, 1)


def adjust_contrast(x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    """Away from the mean of the image's luma."""
    return _blend(grey(x_NCHW).mean(dim=(1, 2, 3), keepdim=True), x_NCHW, factor_N)


def adjust_saturation(x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    """Away from every pixel's luma."""
    return _blend(grey(x_NCHW), x_NCHW, factor_N)


def adjust_hue(x_NCHW: Tensor, shift_N: Tensor) -> Tensor:
    """Turn the hue by ``shift`` turns at constant value and saturation (HSV).

    With V the largest channel, m the least and h the hue in sixths of a turn, a colour is
    V - (V - m) clamp(min(k, 4 - k), 0, 1), where k = (h + 5, 3, 1) mod 6 for red, green and blue.
    """
    if x_NCHW.shape[1] == 1:
        return x_NCHW
    red, green, blue = x_NCHW.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    is_red, is_green = value == red, value == green
    difference = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    side = torch.where(is_green, 2.0, 4.0).masked_fill_(is_red, 0.0)
    # A grey pixel has no hue: its differences are all zero, whatever they are divided by.
    sixths = difference / chroma.clamp(min=torch.finfo(chroma.dtype).tiny) + side + 6 * _broadcast(shift_N)
    offset = torch.tensor([5.0, 3.0, 1.0], device=x_NCHW.device).view(1, 3, 1, 1)
    k_NCHW = (sixths + offset).remainder_(6)
    weight = torch.minimum(k_NCHW, 4 - k_NCHW).clamp_(0, 1)
    return torch.addcmul(value, weight, chroma, value=-1)


def _blend(base: Tensor, x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    return torch.lerp(base, x_NCHW, _broadcast(factor_N)).clamp_(0, 1)


def _broadcast(factor_N: Tensor) -> Tensor:
    return factor_N.view(-1, 1, 1, 1)


def separable(x_NCHW: Tensor, rows_NOH: Tensor, columns_NOW: Tensor) -> Tensor:
    """Apply ``rows @ image @ columns^T`` to every channel of every image: (N, C, O, O)."""
    n, channels, height, width = x_NCHW.shape
    wide = torch.bmm(x_NCHW.reshape(n, channels * height, width), columns_NOW.mT)
    return torch.matmul(rows_NOH.unsqueeze(1), wide.view(n, channels, height, -1))


def crop_matrix(
    start_N: Tensor, length_N: Tensor, size: int, out: int, interpolation: recipes.Interpolation = "bicubic"
) -> Tensor:
    """Weights (N, out, size) that crop [start, start + length) and resize it to ``out`` pixels.

    Antialiased as in Pillow and ``torch.nn.functional.interpolate(mode=interpolation, antialias=True)``: the cubic
    convolution kernel with a = -1/2, or the triangle, stretched by length/out where that shrinks, cut at the borders.
    """
    scale = (length_N / out).view(-1, 1, 1)
    centre = scale * (torch.arange(out, device=start_N.device).view(1, -1, 1) + 0.5)
    place = torch.arange(size, device=start_N.device).view(1, 1, -1) - start_N.view(-1, 1, 1)
    kernel = {"bicubic": _cubic, "bilinear": _triangle}[interpolation]
    weights = kernel((place + 0.5 - centre) / scale.clamp(min=1))
    weights = weights * ((place >= 0) & (place < length_N.view(-1, 1, 1)))
    return weights / weights.sum(dim=-1, keepdim=True)


def _triangle(t: Tensor) -> Tensor:
    """1 − |t|, of support |t| < 1."""
    return (1 - t.abs()).clamp_(min=0)


def _cubic(t: Tensor) -> Tensor:
    """The cubic convolution kernel with a = -1/2 (Keys 1981): its support is |t| < 2."""
    t = t.abs().clamp_(max=2)
    near = (1.5 * t - 2.5).mul_(t).mul_(t).add_(1)
    far = (2.5 - 0.5 * t).mul_(t).sub_(4).mul_(t).add_(2)
    return torch.where(t < 1, near, far)


def _blur(x_NCHW: Tensor, sigma_N: Tensor, radius: int) -> Tensor:
    matrix = blur_matrix(sigma_N, x_NCHW.shape[-1], min(radius, x_NCHW.shape[-1] - 1))
    return separable(x_NCHW, matrix, matrix).clamp_(max=1)


def blur_matrix(sigma_N: Tensor, size: int, radius: int) -> Tensor:
    """Weights (N, size, size) of a Gaussian blur cut at ``radius`` < size pixels, the borders reflected."""
    offset = torch.arange(-radius, radius + 1, device=sigma_N.device)
    kernel_NK = torch.softmax(-0.5 * (offset / sigma_N.unsqueeze(1)) ** 2, dim=1)
    return (kernel_NK @ _reflected_shifts(size, radius, sigma_N.device).flatten(1)).view(-1, size, size)


@lru_cache(maxsize=16)
def _reflected_shifts(size: int, radius: int, device: torch.device) -> Tensor:
    """(2 radius + 1, size, size): matrix k reads, for every pixel, the one k - radius further, reflected at the ends.

    The pixel beyond either end is the last but one, as with ``padding_mode="reflect"``.
    """
    source = torch.arange(size) + torch.arange(-radius, radius + 1).unsqueeze(1)
    source = (size - 1 - (source.abs() - (size - 1)).abs()).unsqueeze(-1)
    return (source == torch.arange(size)).float().to(device)


def affine(x_NCHW: Tensor, degrees_N: Tensor, shear_N: Tensor, shift_N2: Tensor, zoom_N: Tensor) -> Tensor:
    """Rotate, shear along x, zoom about the centre and shift by pixels (x, y); bilinear, zero outside.

    Angles in degrees. The map from output to input is M^-1 (q - shift) with M = zoom R(degrees) [1, -tan(shear); 0, 1].
    """
    height, width = x_NCHW.shape[-2:]
    angle_N = torch.deg2rad(degrees_N)
    cos, sin, tan = angle_N.cos(), angle_N.sin(), torch.deg2rad(shear_N).tan()
    rows = torch.stack([cos - sin * tan, sin + cos * tan, -sin, cos], dim=-1)
    inverse_N22 = (rows / zoom_N.unsqueeze(-1)).view(-1, 2, 2)
    half = torch.tensor([width / 2, height / 2], device=x_NCHW.device)
    shifted = -(inverse_N22 @ shift_N2.unsqueeze(-1))
    # affine_grid works in units of half a side.
    theta = torch.cat([inverse_N22 * half, shifted], dim=-1) / half.unsqueeze(-1)
    grid = F.affine_grid(theta, list(x_NCHW.shape), align_corners=False)
    return F.grid_sample(x_NCHW, grid, align_corners=False)
