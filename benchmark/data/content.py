"""Data of one's own is known by its content: the same pixels at two paths are one data set, others at one path two.

Reading a large folder takes minutes, so its digest is kept in the user's cache under the names, sizes and times of its
files: any change of one of them reads them all again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmark.data.own import images_by_class, npz_arrays, split_folders
from benchmark.runtime.errors import UserError
from results.record import write_atomically

SETTLED_NS = 2_000_000_000


def content_of(source: str) -> str | None:
    """The digest of ``npz:PATH`` or ``folder:PATH``, 16 hex digits; None of a named data set, known by its name.

    Raises :class:`UserError` where the data are not there or cannot be read.
    """
    kind, colon, name = source.partition(":")
    if not colon:
        return None
    path = Path(name)
    if kind == "npz":
        return _remembered(path, [str(path)], lambda: _digest_of_arrays(path))
    return _folder(path)


def _digest_of_arrays(path: Path) -> str:
    """Of names, types, shapes and values of the arrays, however they are compressed."""
    digest = hashlib.sha256()
    for name, array in sorted(npz_arrays(path).items()):
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _folder(path: Path) -> str:
    """Of the names and bytes of all images in its splits; ``val`` counts as what it stands for, ``test``."""
    if not path.is_dir():
        raise UserError(f"data.source folder:{path}: there is no such folder")
    files: dict[str, str] = {}
    for split, folder in zip(("train", "test"), split_folders(path), strict=True):
        for images in images_by_class(folder).values():
            files |= {split + image.removeprefix(str(folder)): image for image in images}
    return _remembered(path, list(files.values()), lambda: _digest_of_files(files))


def _digest_of_files(files: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(os.fsencode(name) + b"\0" + _digest_of_bytes(Path(path)))
    return digest.hexdigest()[:16]


def _digest_of_bytes(path: Path) -> bytes:
    """A link to nothing counts by its name: reading it is an error where it is needed, and named there.

    Any other fault is an error here, since it may pass, and the data would then be others.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return b"missing"
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _remembered(place: Path, files: Sequence[str], read: Callable[[], str]) -> str:
    """What ``read`` gives of these files, or gave when they were last as they are.

    Not remembered where one of them changed a moment ago: a change in the same tick of its clock would not be seen.
    """
    signature, changed_ns = hashlib.sha256(os.fsencode(place.resolve())), 0
    for path in files:
        signature.update(b"\0" + os.fsencode(path))
        with suppress(OSError):
            found = Path(path).stat()
            # The time of the last change of any kind, too: programs that copy set the other one back.
            signature.update(f"\0{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode())
            changed_ns = max(changed_ns, found.st_ctime_ns)
    settled = time.time_ns() - changed_ns > SETTLED_NS
    note = _cache() / signature.hexdigest()
    with suppress(OSError, ValueError):
        return note.read_text(encoding="ascii")
    content = read()
    if settled:
        with suppress(OSError):  # a home that cannot be written: it is read again next time
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(note, content.encode())
    return content


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "spherebench" / "content"
