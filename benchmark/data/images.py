"""How images are held, in memory or as paths that are decoded when asked for; data sets, and a fixed part of one."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.data.decoding import decode
from benchmark.runtime.errors import UserError

FILE_IMAGE_SIZE = 224  # side of the views of one's own images in files, unless another is asked for
OF_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation
# Of more classes only the smallest and the largest are told.
LISTED_CLASSES = 12
Indices = NDArray[np.int64]


class ImageSet(ABC):
    """Images with their labels (int64, -1 where there is none, or several)."""

    labels: NDArray[np.int64]
    pixels: Tensor | None  # all images, uint8 (N, C, H, W); None where they are decoded from files
    # Of images with several labels each, by class (N, C): 1 present, -1 absent, 0 there but not counted.
    present: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """One image, uint8 (C, H, W). Raises :class:`UserError`, naming the file, where it cannot be read."""

    @abstractmethod
    def subset(self, indices: Indices) -> ImageSet: ...


@dataclass(frozen=True, eq=False)
class PixelImages(ImageSet):
    """Images in memory."""

    pixels: Tensor
    labels: NDArray[np.int64]

    def image(self, index: int) -> Tensor:
        return self.pixels[index]

    def subset(self, indices: Indices) -> PixelImages:
        return PixelImages(self.pixels[torch.from_numpy(indices)], self.labels[indices])


@dataclass(frozen=True, eq=False)
class FileImages(ImageSet):
    """Images in files, decoded to RGB one by one.

    The paths are one array of bytes: a million Python strings would be copied into every loading process, page by
    page, as their reference counts change.
    """

    paths: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    present: NDArray[np.int8] | None = None
    pixels: None = None

    def image(self, index: int) -> Tensor:
        return torch.from_numpy(decode(os.fsdecode(self.paths[index]))).permute(2, 0, 1)

    def subset(self, indices: Indices) -> FileImages:
        present = None if self.present is None else self.present[indices]
        return FileImages(self.paths[indices], self.labels[indices], present)


@dataclass(frozen=True, eq=False)
class Points(ImageSet):
    """No images but points (N, D), float64: toy data for kernels, which see rows of numbers."""

    rows: NDArray[np.float64]
    labels: NDArray[np.int64]
    pixels: None = None

    def image(self, index: int) -> Tensor:
        raise UserError("points have no images: only kernel methods take them")

    def subset(self, indices: Indices) -> Points:
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
    class_names: tuple[str, ...] = ()  # of data of one's own, and of folders
    left_out: str = ""  # what lies beside the images, in words
    folders: tuple[str, ...] = ()  # in which the images were looked for


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
    class_names: tuple[str, ...] = ()
    left_out: str = ""
    per_class: bool = False  # its accuracy is published as the mean over classes of each class's

    @property
    def short_name(self) -> str:
        """Its name, of data of one's own without the folders that they lie in."""
        kind, colon, path = self.name.partition(":")
        return kind + colon + path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def several_labels(self) -> bool:
        """Whether an image may be of several classes."""
        return self.test.present is not None

    def class_name(self, label: int) -> str:
        """As people know the class."""
        return self.class_names[label] if self.class_names else str(label)

    @property
    def found(self) -> str:
        """Its images by split and class, and what was left out, in words; '' of data that are always the same."""
        if not self.class_names or self.several_labels:
            return ""
        splits = {"train": self.labelled, "tune": self.tune, "test": self.test}
        told = ", ".join(self._counted(name, images) for name, images in splits.items() if len(images))
        return f"{self.name}: {told}" + (f"; left out: {self.left_out}" if self.left_out else "")

    def _counted(self, split: str, images: ImageSet) -> str:
        counts_K = np.bincount(images.labels, minlength=len(self.class_names))
        if len(counts_K) > LISTED_CLASSES:
            least, most = (f"{counts_K[k]} ({self.class_names[k]})" for k in (counts_K.argmin(), counts_K.argmax()))
            return f"{split} {len(images)} in {len(counts_K)} classes of {least} to {most}"
        each = ", ".join(f"{name} {count}" for name, count in zip(self.class_names, counts_K, strict=True))
        return f"{split} {len(images)} ({each})"


@dataclass(frozen=True)
class Input:
    """What a network's images are made into: channels, side in pixels, and mean and deviation by channel in [0, 1]."""

    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, data: DataSet, scale: tuple[tuple[float, ...], tuple[float, ...]] | None = None) -> Input:
        """As the data set has them; by the mean and deviation of a network's own where these are of its channels."""
        mean, std = scale if scale and len(scale[0]) == data.channels else (data.mean, data.std)
        return cls(data.channels, data.image_size, mean, std)

    def check(self, data: DataSet) -> None:
        """Raise :class:`UserError` where it cannot be made of their images; grey ones are repeated."""
        is_points = isinstance(data.test, Points)
        if is_points or data.channels not in (1, self.channels):
            what = "points, not images" if is_points else f"images of {data.channels} channels"
            raise UserError(f"data.source {data.name}: holds {what}; this network sees {self.channels}")


def evenly(count: int, most: int) -> Indices:
    """All numbers below ``count``, or ``most`` of them, evenly spaced: images in files are sorted by class."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


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


def stratified(labels: NDArray[np.int64], size: int) -> tuple[Indices, Indices]:
    """``size`` images with every class in its proportion, and the others; both in ascending order.

    It depends on the labels alone, never on a run's seed. Each class gives the whole part of its share, and the largest
    remainders one more (ties: the lower label). Which of its images are drawn is a permutation by NumPy's legacy
    generator, whose stream never changes (NEP 19).
    """
    classes, counts = np.unique(labels, return_counts=True)
    shares, remainders = np.divmod(counts * size, counts.sum())
    shares[np.argsort(-remainders, kind="stable")[: size - shares.sum()]] += 1
    random = np.random.RandomState(0)
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, shares, strict=True)
    ]
    inside = np.sort(np.concatenate(chosen)).astype(np.int64)
    return inside, np.setdiff1d(np.arange(len(labels)), inside, assume_unique=True)
