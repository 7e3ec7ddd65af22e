"""A whole batch of tensors at once, with a draw of its own for every image: for images that lie in memory.

Every operation draws for the global batch on the CPU and keeps the rows of this process, so that neither the number
of processes nor the device changes a draw; the pixels are worked on wherever they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from benchmark.views import pixel_ops, recipes

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


def view(operations: tuple[recipes.Operation, ...], x_NCHW: Tensor, image_size: int, draws: Draws) -> Tensor:
    """uint8 images (N, C, H, W) to one float view (N, C, image_size, image_size) in [0, 1]."""
    x_NCHW = x_NCHW.float().div_(255)
    for operation in operations:
        x_NCHW = _apply(operation, x_NCHW, image_size, draws)
    return x_NCHW


def _apply(operation: recipes.Operation, x: Tensor, image_size: int, draws: Draws) -> Tensor:
    match operation:
        case recipes.CentralCrop():
            return pixel_ops.central_crop(x, image_size).clamp_(0, 1)
        case recipes.RandomResizedCrop():
            return _crop(operation, x, image_size, draws)
        case recipes.HorizontalFlip(p):
            return _on_some(x, draws.chosen(p), lambda x: x.flip(-1))
        case recipes.ColourJitter():
            return _jitter(operation, x, draws)
        case recipes.Grayscale(p):
            return _on_some(x, draws.chosen(p), lambda x: pixel_ops.grey(x).expand_as(x))
        case recipes.GaussianBlur():
            return _blur(operation, x, draws)
        case recipes.Solarize(p):
            return _on_some(x, draws.chosen(p), lambda x: torch.where(x < 0.5, x, 1 - x))
        case recipes.Affine():
            return _affine(operation, x, draws)


def _on_some(x: Tensor, chosen_N: Tensor, change: Callable[..., Tensor], *parameters_N: Tensor) -> Tensor:
    """Overwrite the chosen images by ``change(images, *parameters)``; ``chosen`` and parameters lie on the CPU."""
    rows = chosen_N.nonzero().squeeze(1)
    if len(rows) == 0:
        return x
    here = [parameter[rows].to(x.device, non_blocking=True) for parameter in parameters_N]
    rows = rows.to(x.device, non_blocking=True)
    return x.index_copy_(0, rows, change(x[rows], *here))


def _crop(operation: recipes.RandomResizedCrop, x: Tensor, image_size: int, draws: Draws) -> Tensor:
    height, width = x.shape[-2:]
    boxes_N4 = crop_boxes(operation, height, width, draws).to(x.device, non_blocking=True)
    top, left, tall, wide = boxes_N4.unbind(1)
    rows = pixel_ops.crop_matrix(top, tall, height, image_size, operation.interpolation)
    columns = pixel_ops.crop_matrix(left, wide, width, image_size, operation.interpolation)
    return pixel_ops.separable(x, rows, columns).clamp_(0, 1)


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
        (operation.brightness, pixel_ops.adjust_brightness, draws.uniform(*_around_one(operation.brightness))),
        (operation.contrast, pixel_ops.adjust_contrast, draws.uniform(*_around_one(operation.contrast))),
        (operation.saturation, pixel_ops.adjust_saturation, draws.uniform(*_around_one(operation.saturation))),
        (operation.hue, pixel_ops.adjust_hue, draws.uniform(-operation.hue, operation.hue)),
    )
    for place in range(4):
        for which, (strength, change, factor_N) in enumerate(changes):
            if strength > 0:
                x = _on_some(x, chosen_N & (order_N4[:, place] == which), change, factor_N)
    return x


def _around_one(strength: float) -> tuple[float, float]:
    return max(0.0, 1 - strength), 1 + strength


def _blur(operation: recipes.GaussianBlur, x: Tensor, draws: Draws) -> Tensor:
    def blur(x: Tensor, sigma_N: Tensor) -> Tensor:
        matrix = pixel_ops.blur_matrix(sigma_N, x.shape[-1], operation.radius)
        return pixel_ops.separable(x, matrix, matrix).clamp_(max=1)

    return _on_some(x, draws.chosen(operation.p), blur, draws.uniform(*operation.sigma))


def _affine(operation: recipes.Affine, x: Tensor, draws: Draws) -> Tensor:
    reach = operation.translate * x.shape[-1]
    parameters = (
        draws.uniform(-operation.degrees, operation.degrees),
        draws.uniform(-operation.shear, operation.shear),
        draws.uniform(-reach, reach, 2).round(),
        draws.uniform(*operation.zoom),
    )
    return pixel_ops.affine(x, *(parameter.to(x.device, non_blocking=True) for parameter in parameters))
