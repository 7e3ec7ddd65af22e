"""Data of one's own, arrays in an npz file, folders of images or tables of them: read, and known by their content.

The same pixels at two paths are one data set, others at one path two. Reading a large folder takes minutes: its digest
is remembered.
"""

import hashlib
import os
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.data.decoding import VERSION, check_headers
from benchmark.data.folders import class_folders, read_tree
from benchmark.data.hf import content_of_hf, read_hf
from benchmark.data.images import FILE_IMAGE_SIZE, FileImages, PixelImages, Stored, channels_first, statistics
from benchmark.data.remembered import remembered
from benchmark.runtime.errors import UserError
from benchmark.runtime.paths import in_job


def read_npz(path: Path) -> Stored:
    """``x_train``, ``y_train``, ``x_test``, ``y_test``; normalised by the mean and deviation of all of ``x_train``."""
    arrays = npz_arrays(path)
    _check(path, arrays)
    return of_arrays(arrays)


def of_arrays(arrays: dict[str, NDArray]) -> Stored:
    """The images and labels of four arrays that are as :func:`read_npz` wants them."""
    train, test = (
        PixelImages(channels_first(arrays[f"x_{split}"]), arrays[f"y_{split}"].astype(np.int64))
        for split in ("train", "test")
    )
    names, side = tuple(map(str, np.unique(train.labels))), min(train.pixels.shape[-2:])
    return Stored(train, test, len(names), side, *statistics(train.pixels), class_names=names)


def npz_arrays(path: Path) -> dict[str, NDArray]:
    """The four arrays of an npz file. Raises :class:`UserError` where it is not one, or lacks one of them."""
    names = ("x_train", "y_train", "x_test", "y_test")
    if not path.is_file():
        raise UserError(f"data.source npz:{path}: there is no such file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            there = list(archive)
            if set(names) <= set(there):
                return {name: archive[name] for name in names}
    except MemoryError as error:  # also of a header that is damaged: NumPy believes what it says
        raise UserError(f"{path} does not fit into memory: {error}") from error
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        why = "its arrays are Python objects, which only running code could load" if "pickle" in str(error) else error
        raise UserError(f"{path} is not a readable npz file of plain arrays: {why}") from error
    missing = ", ".join(name for name in names if name not in there)
    others = f"; it holds {', '.join(there) or 'nothing'}"
    raise UserError(f"{path} has no array {missing}, must hold {', '.join(names)}{others}")


def _check(path: Path, arrays: dict[str, NDArray]) -> None:
    """Types, shapes and lengths; images of one shape in both splits; labels 0 to K-1, each in the training set."""
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if x.dtype != np.uint8:
            raise UserError(f"{path}: x_{split} has dtype {x.dtype}, only uint8 (0 to 255) is allowed")
        if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] not in (1, 3)) or 0 in x.shape:
            allowed = "(N, H, W) and (N, H, W, C) with C 1 or 3"
            raise UserError(f"{path}: x_{split} has shape {x.shape}, allowed are {allowed}")
        if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),):
            raise UserError(f"{path}: y_{split} has dtype {y.dtype} and shape {y.shape}, it must be {len(x)} integers")
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
    """``train`` and ``test`` (or, where there is none, ``val``), one folder a class; normalised as ImageNet is.

    Raises :class:`UserError` naming an image that is not there, empty, or whose header cannot be read.
    """
    train, test = _split_folders(path)
    stored = read_tree(f"folder:{path}", train, test, FILE_IMAGE_SIZE)
    images = _files(stored)
    remembered(f"headers-{VERSION}", path, images, lambda: check_headers(images))
    unused = f"val ({test} is what is measured)" if test.name == "test" and (path / "val").is_dir() else ""
    return replace(stored, left_out=", ".join(filter(None, [stored.left_out, unused])))


def check_files(name: str, stored: Stored) -> None:
    """Raise :class:`UserError` naming an image of a named data set as of :func:`read_folder`; most have no files.

    Looked at again where one of the folders has changed: to ask a million files takes minutes of a network's file
    system.
    """
    images = _files(stored)
    folders = sorted({image.rpartition("/")[0] for image in images})
    if folders:
        remembered(f"headers-{VERSION}-{name}", Path(folders[0]), folders, lambda: check_headers(images))


def _files(stored: Stored) -> list[str]:
    parts = (stored.train, stored.tune, stored.test)
    return [os.fsdecode(path) for part in parts if isinstance(part, FileImages) for path in part.paths]


def _split_folders(path: Path) -> tuple[Path, Path]:
    """Where the training and the test images of a folder lie."""
    if not path.is_dir():
        raise UserError(f"data.source folder:{path}: there is no such folder")
    return path / "train", path / "test" if (path / "test").is_dir() else path / "val"


def read_own(source: str) -> Stored:
    """The data of ``npz:PATH``, ``folder:PATH`` or ``hf:NAME_OR_PATH``. Raises :class:`UserError` as their readers."""
    kind, place = _place(source)
    if kind == "npz":
        return read_npz(place)
    return read_folder(place) if kind == "folder" else read_hf(str(place))


def content_of(source: str) -> str | None:
    """The digest of data of one's own, 16 hex digits; None of a named data set, known by its name.

    Raises :class:`UserError` where the data are not there or cannot be read.
    """
    if ":" not in source:
        return None
    kind, place = _place(source)
    if kind == "npz":
        return remembered("content", place, [str(place)], lambda: digest_of_arrays(npz_arrays(place)))
    return _content_of_folder(place) if kind == "folder" else content_of_hf(str(place))


def _place(source: str) -> tuple[str, Path]:
    kind, _, text = source.partition(":")
    return kind, in_job(text, f"data.source {source}")


def _content_of_folder(path: Path) -> str:
    files: dict[str, str] = {}
    # `val` counts as what it stands for, `test`.
    for split, folder in zip(("train", "test"), _split_folders(path), strict=True):
        for images in class_folders(folder).images.values():
            files |= {split + image.removeprefix(str(folder)): image for image in images}
    return remembered("content", path, list(files.values()), lambda: _digest_of_files(files))


def digest_of_arrays(arrays: dict[str, NDArray]) -> str:
    """Of names, types, shapes and values of the arrays, however they are compressed."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _digest_of_files(files: dict[str, str]) -> str:
    """Of the names and bytes of all images.

    A link to nothing counts by its name: reading it is an error where it is needed, and named there. Any other fault is
    an error here, since it may pass, and the data would then be others.
    """
    digest = hashlib.sha256()
    for name, path in files.items():
        try:
            with Path(path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except FileNotFoundError:
            content = b"missing"
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        digest.update(os.fsencode(name) + b"\0" + content)
    return digest.hexdigest()[:16]
