"""What loading processes make of images in files: decoded, cropped, resized and flipped, bytes to send.

All else is done to whole batches where the network is (:mod:`benchmark.views.batched`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmark.data import ImageSet
from benchmark.views.batched import central_crop, resized
from benchmark.views.draws import Draws, crop_boxes, square_corners, view_key
from benchmark.views.recipes import CentralCrop, Crop, Interpolation, RandomCrop, Recipe

AT_ONCE = 16  # images that are held decoded: boxes are drawn for all of them in one stroke


def random_crops(
    images: ImageSet, recipe: Recipe, image_size: int, seed: int, places: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """(epoch, image)s to bytes (n, C, side, side) for every view of the recipe, drawn by (seed, epoch, image, view)."""
    views, epoch = recipe.views, places[0][0]
    sides = [view.whole(image_size) for view in views]
    made = [torch.empty(len(places), 3, side, side, dtype=torch.uint8) for side in sides]
    for start in range(0, len(places), AT_ONCE):
        numbers = [index for _, index in places[start : start + AT_ONCE]]
        decoded = [images.image(index) for index in numbers]
        sizes_2n = np.array([image_CHW.shape[-2:] for image_CHW in decoded]).T
        for place, (out, view, side) in enumerate(zip(made, views, sides, strict=True)):
            draws = Draws.of(numbers, *view_key(seed, epoch, place), "crop")
            cropped = _cropped(view.crop, decoded, sizes_2n, side, draws)
            for row, (crop_CHW, mirrored) in enumerate(zip(cropped, draws.chosen(view.flip), strict=True), start):
                out[row] = crop_CHW.flip(-1) if mirrored else crop_CHW
    return made


def _cropped(crop: Crop, images: Sequence[Tensor], sizes_2n: NDArray[Any], side: int, draws: Draws) -> list[Tensor]:
    """One crop (C, side, side) of every image (C, H, W)."""
    if isinstance(crop, CentralCrop):
        return [central_crop(image_CHW, side, crop.interpolation) for image_CHW in images]
    if isinstance(crop, RandomCrop):
        corners = square_corners(sizes_2n[0], sizes_2n[1], side, draws).tolist()
        return [
            resized(image_CHW, side, crop.interpolation)[:, top : top + side, left : left + side]
            for image_CHW, (top, left) in zip(images, corners, strict=True)
        ]
    found = []
    boxes_n4 = crop_boxes(crop, sizes_2n[0], sizes_2n[1], draws).astype(int)
    for image_CHW, (top, left, tall, wide) in zip(images, boxes_n4.tolist(), strict=True):
        part_1CHW = image_CHW[None, :, top : top + tall, left : left + wide]
        found.append(F.interpolate(part_1CHW, (side, side), mode=crop.interpolation, antialias=True)[0])
    return found


def central_crops(
    images: ImageSet, image_size: int, interpolation: Interpolation, numbers: Sequence[int]
) -> list[Tensor]:
    """Numbers of images to bytes (n, C, side, side) of their centres."""
    return [torch.stack([central_crop(images.image(index), image_size, interpolation) for index in numbers])]
