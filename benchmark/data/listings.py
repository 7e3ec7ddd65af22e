"""The listing of a data set's folders, kept in a file, so that a million names are not scanned at every start.

It holds as long as every folder in it is as it was: adding, removing or renaming anything changes the times of the
folder that it lies in. What changes inside a file of the same name is no matter of a listing: the digest that data of
one's own are known by looks at every file. A file system that keeps no times of folders is scanned at every start.
"""

import json
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.images import FileImages, Stored
from benchmark.data.remembered import SETTLED_NS, signature
from results.record import write_atomically

_SPLITS = ("train", "test", "tune")
_ARRAYS = ("paths", "labels")
_REST = ("classes", "image_size", "mean", "std", "class_names", "left_out", "folders")


def kept_listing(note: Path, read: Callable[[], Stored]) -> Stored:
    """What ``read`` found when the folders were last as they are; or finds now, and keeps, of images in folders."""
    with suppress(OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        found, kept = _read(note)
        if kept == signature(found.folders)[0]:
            return found
    began = time.time_ns()
    found = read()
    if found.folders:
        with suppress(OSError):  # a folder that cannot be written: it is scanned again next time
            now, changed_ns = signature(found.folders)
            if 0 < changed_ns < began - SETTLED_NS:
                _write(note, found, now)
    return found


def _read(note: Path) -> tuple[Stored, str]:
    with note.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        rest = json.loads(str(arrays["rest"]))
        found: dict[str, Any] = {
            split: FileImages(*(arrays[f"{split}_{name}"] for name in _ARRAYS))
            for split in _SPLITS
            if f"{split}_paths" in arrays
        }
    kept = rest.pop("signature")
    found |= {name: tuple(value) if isinstance(value, list) else value for name, value in rest.items()}
    return Stored(**found), kept


def _write(note: Path, found: Stored, now: str) -> None:
    parts = {split: getattr(found, split) for split in _SPLITS}
    arrays = {
        f"{split}_{name}": getattr(images, name)
        for split, images in parts.items()
        if images is not None
        for name in _ARRAYS
    }
    rest = {"signature": now} | {name: getattr(found, name) for name in _REST}
    content = BytesIO()
    np.savez_compressed(content, rest=np.array(json.dumps(rest)), **arrays)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(note, content.getvalue())
