"""Folders of images, one a class: which files count, and which are left out, by the reason.

Nothing is left out in silence: what is not taken is told with the data set's numbers, before anything is trained.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.data.images import OF_IMAGENET, FileImages, Stored
from benchmark.runtime.errors import UserError

IMAGE_SUFFIXES = {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
IMAGE_SUFFIXES |= {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
# What macOS and network storage put beside images, as hidden as what begins with a dot.
_HIDDEN = ("__MACOSX", "@eaDir")
_HIDDEN_TOLD = "hidden"
_LINKED_TOLD = "by a second link"


@dataclass(frozen=True)
class ClassFolders:
    """The images in every folder of one folder: classes and paths in torchvision's order.

    ``left_out`` counts what is no image by the reason (a suffix, mostly) and the folder it lies in, ``folders`` are
    all that were looked into.
    """

    images: dict[str, list[str]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)


def class_folders(folder: Path) -> ClassFolders:
    """What lies in ``folder``, links followed, each folder once a class: a link to one above it ends nowhere.

    Classes whose names read alike are one: of an é some systems make two characters, and others leave it one.
    Raises :class:`UserError` where a folder cannot be read.
    """
    found = ClassFolders()
    if not folder.is_dir():
        return found
    real = folder.resolve()
    above = {_identity(place) for place in (real, *real.parents)}
    found.folders.append(str(folder))
    try:
        with os.scandir(folder) as entries:
            folders = {entry.name: entry.is_dir() for entry in entries}
        for name in sorted(folders, key=_as_read):
            if is_hidden(name):
                found.left_out[_HIDDEN_TOLD, folder.name] += 1
            elif not folders[name]:
                found.left_out["beside the classes", folder.name] += 1
            elif walked := sorted(_walk(folder / name, f"{folder.name}/{name}", above, found.left_out)):
                paths = (f"{root}/{file}" for root, files in walked for file in sorted(files))
                found.images.setdefault(_as_read(name), []).extend(paths)
                found.folders.extend(root for root, _ in walked)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read: {error.strerror}") from error
    return found


def _as_read(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def is_hidden(name: str) -> bool:
    """Of a file or folder that programs keep beside images: ``.ipynb_checkpoints``, ``._cat.jpg``."""
    return name.startswith(".") or name in _HIDDEN


def _identity(place: Path) -> tuple[int, int]:
    found = place.stat()
    return found.st_dev, found.st_ino


def _walk(
    folder: Path, label: str, above: set[tuple[int, int]], left_out: Counter[tuple[str, str]]
) -> Iterator[tuple[str, list[str]]]:
    """Every folder of a class, with the names of its images."""

    def refuse(error: OSError) -> None:
        raise error

    seen = set(above)
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = _identity(Path(root))
        if here in seen:
            left_out[_LINKED_TOLD, label] += 1
            folders.clear()
            continue
        seen.add(here)
        hidden = [name for name in (*folders, *names) if is_hidden(name)]
        # In order, so that it is always the same one of two links to a folder that counts.
        folders[:] = sorted(set(folders) - set(hidden))
        images = []
        for name in set(names) - set(hidden):
            suffix = Path(name).suffix.lower()
            if suffix in IMAGE_SUFFIXES:
                images.append(name)
            else:
                left_out[suffix or "without a suffix", label] += 1
        left_out.update((_HIDDEN_TOLD, label) for _ in hidden)
        yield root, images


def told(left_out: Counter[tuple[str, str]]) -> str:
    """What was left out, in words: of every reason how many, and where first; '' where nothing was."""
    places: dict[str, list[str]] = {}
    for reason, place in sorted(left_out):
        places.setdefault(reason, []).append(place)
    parts = []
    for reason, found in places.items():
        count = sum(left_out[reason, place] for place in found)
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        parts.append(f"{count} {reason} (in {found[0]}{more})")
    return ", ".join(parts)


def read_tree(name: str, train: Path, test: Path, image_size: int) -> Stored:
    """Two folders with one folder a class in each, the same classes in both."""
    parts = {folder: class_folders(folder) for folder in (train, test)}
    for folder, found in parts.items():
        lacking = next((f"class {label} has none" for label, paths in found.images.items() if not paths), None)
        if lacking or not found.images:
            reason = lacking or "it holds no folder"
            others = f"; left out: {told(found.left_out)}" if found.left_out else ""
            raise UserError(f"data set {name}: {folder} must hold a folder of images for every class; {reason}{others}")
    classes, test_classes = (list(found.images) for found in parts.values())
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        raise UserError(f"data set {name}: class {odd} is in only one of {train} and {test}")
    return Stored(
        train=_file_images(parts[train]),
        test=_file_images(parts[test]),
        classes=len(classes),
        image_size=image_size,
        mean=OF_IMAGENET[0],
        std=OF_IMAGENET[1],
        class_names=tuple(classes),
        left_out=told(sum((found.left_out for found in parts.values()), Counter())),
        # And above: `test` may come to stand beside `val`.
        folders=(str(train.parent), str(test.parent), *parts[train].folders, *parts[test].folders),
    )


def _file_images(found: ClassFolders) -> FileImages:
    paths = np.array([os.fsencode(path) for paths in found.images.values() for path in paths])
    return FileImages(paths, np.repeat(np.arange(len(found.images)), list(map(len, found.images.values()))))
