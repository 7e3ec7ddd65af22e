"""One image at a time, with torchvision: for images that are decoded from files in the loader's processes."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from benchmark.data import ImageSet
from benchmark.runtime.seeds import fork_rng
from benchmark.views import recipes
from benchmark.views.batched import central_crop


def transform(view: recipes.View, image_size: int) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """uint8 (C, H, W) of any size to uint8 views (C, side, side). Draws from torch's global generator."""
    whole = view.whole(image_size)
    operations = v2.Compose([_torchvision(operation, whole) for operation in view.operations])
    return partial(_views, view.patches, operations, view.side(image_size))


def _views(patches: recipes.Patches | None, operations: v2.Compose, side: int, x_CHW: Tensor) -> tuple[Tensor, ...]:
    made_CHW = operations(x_CHW)
    if patches is None:
        return (made_CHW,)
    whole, grid = made_CHW.shape[-1], patches.grid
    jitter = round(patches.jitter * whole / patches.of)
    stride = (whole - side - jitter) // (grid - 1)
    corners = [
        (stride * (cell // grid), stride * (cell % grid)) for cell in torch.randperm(grid**2)[: patches.count].tolist()
    ]
    moved = torch.randint(jitter + 1, (patches.count, 2)).tolist()
    return tuple(
        F.crop(made_CHW, top + down, left + right, side, side)
        for (top, left), (down, right) in zip(corners, moved, strict=True)
    )


def random_views(
    images: ImageSet, transforms: list[Callable[[Tensor], tuple[Tensor, ...]]], seed: int, place: tuple[int, int]
) -> list[Tensor]:
    """(epoch, image) to its views, uint8 (C, H, W) each, drawn by (seed, epoch, image, view)."""
    epoch, index = place
    image_CHW = images.image(index)
    views: list[Tensor] = []
    for view, transform in enumerate(transforms):
        with fork_rng(seed, "view", epoch, index, view):
            views += transform(image_CHW)
    return views


def _torchvision(operation: recipes.Operation, image_size: int) -> object:
    match operation:
        case recipes.CentralCrop(interpolation):
            return partial(central_crop, image_size=image_size, interpolation=interpolation)
        case recipes.RandomResizedCrop(scale, ratio, interpolation):
            mode = v2.InterpolationMode(interpolation)
            return v2.RandomResizedCrop(image_size, scale, ratio, interpolation=mode, antialias=True)
        case recipes.HorizontalFlip(p):
            return v2.RandomHorizontalFlip(p)
        case recipes.ColourJitter(brightness, contrast, saturation, hue, p):
            return v2.RandomApply([v2.ColorJitter(brightness, contrast, saturation, hue)], p)
        case recipes.Grayscale(p):
            return v2.RandomGrayscale(p)
        case recipes.GaussianBlur(p):
            return v2.RandomApply([partial(_random_blur, blur=operation)], p)
        case recipes.Solarize(p):
            return v2.RandomSolarize(threshold=128, p=p)
        case recipes.Affine(degrees, shear, translate, zoom):
            bilinear = v2.InterpolationMode.BILINEAR
            shift = (translate, translate)
            return v2.RandomAffine(degrees, shift, zoom, shear, interpolation=bilinear, fill={torch.Tensor: None})


def _random_blur(x_CHW: Tensor, blur: recipes.GaussianBlur) -> Tensor:
    """One axis after the other: a fifth of the time of torchvision's two-dimensional kernel at 224 pixels."""
    radius = min(blur.radius, min(x_CHW.shape[-2:]) - 1)
    width, drawn = 2 * radius + 1, torch.empty(1).uniform_(*blur.sigma).item()
    blurred = x_CHW.float()
    for kernel in ([width, 1], [1, width]):
        blurred = F.gaussian_blur(blurred, kernel, [drawn, drawn])
    return blurred.round_().to(torch.uint8)
