"""One's own data: arrays in an npz file, or folders of images."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.data.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FileImages,
    PixelImages,
    Stored,
    channels_first,
    statistics,
)
from benchmark.runtime.errors import UserError

FOLDER_IMAGE_SIZE = 224
# Files that torchvision's ImageFolder takes for images.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def read_npz(path: Path) -> Stored:
    """``x_train``, ``y_train``, ``x_test``, ``y_test``; normalised by the mean and deviation of all of ``x_train``."""
    arrays = npz_arrays(path)
    for split in ("train", "test"):
        _check_split(path, split, arrays[f"x_{split}"], arrays[f"y_{split}"])
    _check_agreement(path, arrays)
    train, test = _images(arrays["x_train"], arrays["y_train"]), _images(arrays["x_test"], arrays["y_test"])
    return Stored(train, test, int(train.labels.max()) + 1, min(train.pixels.shape[-2:]), *statistics(train.pixels))


def _images(x: NDArray, y: NDArray) -> PixelImages:
    return PixelImages(channels_first(x), y.astype(np.int64))


def npz_arrays(path: Path) -> dict[str, NDArray]:
    """The four arrays of an npz file. Raises :class:`UserError` where it is not one, or lacks one of them."""
    names = ("x_train", "y_train", "x_test", "y_test")
    if not path.is_file():
        raise UserError(f"data.source npz:{path}: there is no such file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise UserError(f"{path} has no array {missing[0]}, must hold {', '.join(names)}")
            return {name: archive[name] for name in names}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not a readable npz file of plain arrays: {error}") from error


def _check_split(path: Path, split: str, x: NDArray, y: NDArray) -> None:
    """Types, shapes and lengths of one split."""
    if x.dtype != np.uint8:
        raise UserError(f"{path}: x_{split} has dtype {x.dtype}, only uint8 (0 to 255) is allowed")
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] not in (1, 3)) or 0 in x.shape:
        raise UserError(f"{path}: x_{split} has shape {x.shape}, allowed are (N, H, W) and (N, H, W, C) with C 1 or 3")
    if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),):
        raise UserError(f"{path}: y_{split} has dtype {y.dtype} and shape {y.shape}, it must be {len(x)} integers")


def _check_agreement(path: Path, arrays: dict[str, NDArray]) -> None:
    """Both splits hold images of one shape; labels are 0 to K-1, each in the training set."""
    shapes = arrays["x_train"].shape[1:], arrays["x_test"].shape[1:]
    if shapes[0] != shapes[1]:
        raise UserError(f"{path}: images of x_train have shape {shapes[0]}, those of x_test {shapes[1]}")
    labels = np.unique(arrays["y_train"])
    if len(labels) < 2 or not np.array_equal(labels, np.arange(len(labels))):
        raise UserError(f"{path}: y_train must hold every label from 0 to K-1, K at least 2; it holds {_some(labels)}")
    strange = np.setdiff1d(arrays["y_test"], labels)
    if len(strange):
        raise UserError(f"{path}: y_test holds {_some(strange)}, which y_train has not")


def _some(labels: NDArray) -> str:
    return ", ".join(map(str, labels[:10])) + (", ..." if len(labels) > 10 else "")


def read_folder(path: Path) -> Stored:
    """``train`` and ``test`` (or, where there is none, ``val``), one folder a class; normalised as ImageNet is."""
    if not path.is_dir():
        raise UserError(f"data.source folder:{path}: there is no such folder")
    return read_tree(f"folder:{path}", *split_folders(path), FOLDER_IMAGE_SIZE)


def split_folders(path: Path) -> tuple[Path, Path]:
    """Where the training and the test images of a folder lie."""
    return path / "train", path / "test" if (path / "test").is_dir() else path / "val"


def read_tree(name: str, train: Path, test: Path, image_size: int) -> Stored:
    """Two folders with one folder a class in each, the same classes in both."""
    (train_images, classes), (test_images, test_classes) = _class_folders(name, train), _class_folders(name, test)
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        raise UserError(f"data set {name}: class {odd} is in only one of {train} and {test}")
    return Stored(train_images, test_images, len(classes), image_size, IMAGENET_MEAN, IMAGENET_STD)


def _class_folders(name: str, folder: Path) -> tuple[FileImages, list[str]]:
    images = images_by_class(folder)
    lacking = next((f"class {label} has none" for label, paths in images.items() if not paths), None)
    if lacking or not images:
        reason = lacking or "it holds no folder"
        raise UserError(f"data set {name}: {folder} must hold a folder of images for every class; {reason}")
    samples = [(path, label) for label, paths in enumerate(images.values()) for path in paths]
    return FileImages.of(samples), list(images)


def images_by_class(folder: Path) -> dict[str, list[str]]:
    """The images in every folder of ``folder``, links followed: classes and paths in torchvision's order.

    Raises :class:`UserError` where a folder cannot be read.
    """
    if not folder.is_dir():
        return {}
    with _readable(folder), os.scandir(folder) as entries:
        classes = sorted(entry.name for entry in entries if entry.is_dir())
    return {name: _images_within(folder / name) for name in classes}


def _images_within(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise error

    with _readable(folder):
        walk = sorted(os.walk(folder, onerror=refuse, followlinks=True))
    return [
        f"{root}/{name}" for root, _, names in walk for name in sorted(names) if name.lower().endswith(IMAGE_SUFFIXES)
    ]


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read: {error.strerror}") from error
