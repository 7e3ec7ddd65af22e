"""A data set as it is stored, before anything is held out; and what the readers of arrays share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.data.images import ImageSet


@dataclass(frozen=True, eq=False)
class Stored:
    """The official splits: ``train`` and ``test`` are labelled; ``unlabelled`` and ``tune`` where there are such."""

    train: ImageSet
    test: ImageSet
    classes: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unlabelled: ImageSet | None = None
    tune: ImageSet | None = None


def channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    """(N, H, W) or (N, H, W, C) to a contiguous (N, C, H, W)."""
    tensor = torch.from_numpy(pixels)
    return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def statistics(pixels_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel in [0, 1], from counts of its 256 values: exact in any order.

    A constant channel has standard deviation 1, so that it is only centred.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in pixels_NCHW.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = share @ values
        means.append(mean.item())
        deviations.append((share @ (values - mean) ** 2).sqrt().item() or 1.0)
    return tuple(means), tuple(deviations)
