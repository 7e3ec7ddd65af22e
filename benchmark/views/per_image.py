"""One image at a time, with torchvision: for images that are decoded from files in the loader's processes."""

from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from benchmark.data import ImageSet
from benchmark.runtime.seeds import fork_rng
from benchmark.views import recipes
from benchmark.views.batched import central_crop, resized


def transform(operations: tuple[recipes.Operation, ...], image_size: int) -> v2.Compose:
    """uint8 (C, H, W) of any size to uint8 (C, image_size, image_size). Draws from torch's global generator."""
    return v2.Compose([_torchvision(operation, image_size) for operation in operations])


def random_views(images: ImageSet, transforms: list[v2.Compose], seed: int, place: tuple[int, int]) -> list[Tensor]:
    """(epoch, image) to its views, uint8 (C, H, W) each, drawn by (seed, epoch, image, view)."""
    epoch, index = place
    image_CHW, views = images.image(index), []
    for view, transform in enumerate(transforms):
        with fork_rng(seed, "view", epoch, index, view):
            views.append(transform(image_CHW))
    return views


def _torchvision(operation: recipes.Operation, image_size: int) -> object:
    match operation:
        case recipes.CentralCrop():
            return partial(central_crop, image_size=image_size)
        case recipes.RandomResizedCrop(scale, ratio, interpolation):
            mode = v2.InterpolationMode(interpolation)
            return v2.RandomResizedCrop(image_size, scale, ratio, interpolation=mode, antialias=True)
        case recipes.RandomCrop(interpolation):
            square = partial(resized, image_size=image_size, interpolation=interpolation)
            return v2.Compose([square, v2.RandomCrop(image_size)])
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
    width, drawn = 2 * blur.radius + 1, torch.empty(1).uniform_(*blur.sigma).item()
    blurred = x_CHW.float()
    for kernel in ([width, 1], [1, width]):
        blurred = F.gaussian_blur(blurred, kernel, [drawn, drawn])
    return blurred.round_().to(torch.uint8)
