"""How images are held, as one tensor in memory or as paths that are decoded when they are asked for; and data sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.runtime.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageSet(Protocol):
    """Images with their labels (int64, -1 where there is none)."""

    @property
    def labels(self) -> NDArray[np.int64]: ...

    @property
    def pixels(self) -> Tensor | None:
        """All images, uint8 (N, C, H, W); None where they are decoded from files."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Tensor:
        """One image, uint8 (C, H, W). Raises :class:`UserError`, naming the file, where it cannot be read."""

    def subset(self, indices: NDArray[np.int64]) -> ImageSet: ...


@dataclass(frozen=True, eq=False)
class PixelImages:
    """Images in memory."""

    pixels: Tensor
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Tensor:
        return self.pixels[index]

    def subset(self, indices: NDArray[np.int64]) -> PixelImages:
        return PixelImages(self.pixels[torch.from_numpy(indices)], self.labels[indices])


@dataclass(frozen=True, eq=False)
class FileImages:
    """Images in files, decoded to RGB one by one.

    The paths are one array of bytes: a million Python strings would be copied into every loading process, page by
    page, as their reference counts change.
    """

    paths: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    pixels: None = None

    @classmethod
    def of(cls, samples: Sequence[tuple[str, int]]) -> FileImages:
        """From pairs of path and label."""
        paths = np.array([os.fsencode(path) for path, _ in samples])
        return cls(paths, np.array([label for _, label in samples], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Tensor:
        from PIL import Image

        path = os.fsdecode(self.paths[index])
        try:
            with Image.open(path) as image:
                pixels = np.array(image.convert("RGB"))
        # Pillow raises all of these, by the format and by the fault.
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise UserError(f"image {path} cannot be read: {error}") from error
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def subset(self, indices: NDArray[np.int64]) -> FileImages:
        return FileImages(self.paths[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Points:
    """No images but points (N, D), float64: toy data for kernels, which see rows of numbers."""

    rows: NDArray[np.float64]
    labels: NDArray[np.int64]
    pixels: None = None

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Tensor:
        raise UserError("points have no images: only kernel methods take them")

    def subset(self, indices: NDArray[np.int64]) -> Points:
        return Points(self.rows[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Stored:
    """A data set before anything is held out: its official splits, ``train`` and ``test`` labelled."""

    train: ImageSet
    test: ImageSet
    classes: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unlabelled: ImageSet | None = None
    tune: ImageSet | None = None


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set with its splits.

    ``train`` is what pretraining sees. ``labelled`` is what probes are trained on: the same images, but where a data
    set has an unlabelled part to pretrain on. ``tune`` is held out of both. ``mean`` and ``std``, per channel, are of
    pixels in [0, 1]; ``image_size`` is the side of a view.
    """

    name: str
    train: ImageSet
    labelled: ImageSet
    tune: ImageSet
    test: ImageSet
    classes: int
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


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
