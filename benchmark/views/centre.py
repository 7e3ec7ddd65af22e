"""Evaluation's view of an image, and the first step of some recipes: its centre."""

from __future__ import annotations

from torch import Tensor

RESIZE_OVER_CROP = 256 / 224


def central_crop(x_CHW: Tensor, image_size: int) -> Tensor:
    """The centre of images (..., C, H, W): see :class:`~benchmark.views.recipes.CentralCrop`."""
    if tuple(x_CHW.shape[-2:]) == (image_size, image_size):
        return x_CHW
    # Here, since importing torchvision takes seconds, and images of the view's size need nothing of it.
    from torchvision.transforms import v2

    short = [round(image_size * RESIZE_OVER_CROP)]
    resized = v2.functional.resize(x_CHW, short, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    return v2.functional.center_crop(resized, [image_size, image_size])
