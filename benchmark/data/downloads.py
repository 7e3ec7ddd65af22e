"""Downloads of data sets: of several processes one fetches, and what a killed one left is not taken for the data."""

import fcntl
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from benchmark.runtime.errors import UserError

T = TypeVar("T")


def found(name: str, root: Path, folder: Path, download: bool, how: str, read: Callable[[bool], T]) -> T:
    """What ``read`` reads below ``root``, told whether to download into ``folder``; the other processes wait for one.

    A download that is killed leaves a word in the lock's file: what it unpacked is not taken for the data set. Raises
    :class:`UserError`, saying ``how`` to get it, where it is missing, or why it could not be fetched.
    """
    lock = root / f".{name}.lock"
    cut_short = RuntimeError(f"a download of it was cut short (remove {lock} where the data have been put there since)")
    try:
        with _locked(lock, fcntl.LOCK_SH):
            try:
                if _text(lock):
                    raise cut_short
                return read(False)
            except Exception:
                if not download:
                    raise
        root.mkdir(parents=True, exist_ok=True)
        lock.touch()
        with _locked(lock, fcntl.LOCK_EX):
            if _text(lock) and folder.exists():
                folder.rename(tempfile.mkdtemp(prefix=f"{folder.name}-cut-short-", dir=folder.parent))
            elif folder.exists():  # by now, of another process; or a part of it, which torchvision knows
                return read(True)
            lock.write_text("downloading")
            try:
                return read(True)
            except BaseException:  # somebody asked for the end, too
                shutil.rmtree(folder, ignore_errors=True)
                raise
            finally:
                lock.write_text("")
    except UserError:
        raise
    # By the fault, torchvision's readers raise about anything: RuntimeError, OSError, AssertionError, UnpicklingError.
    except Exception as error:
        # torchvision ends with advice about a parameter of its own.
        reason = str(error).split(" You can use")[0].rstrip(".") or type(error).__name__
        advice = "" if download else f"; {how}"
        raise UserError(f"data set {name} cannot be read from {root.resolve()}: {reason}{advice}") from error


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """Hold a lock where its file is there; a file system that has none leaves each to itself, with a warning."""
    if not path.exists():
        yield
        return
    with path.open() as file:
        try:
            fcntl.flock(file, how)
        except OSError as error:
            alone = "let one process download, then start the others"
            warnings.warn(f"{path} cannot be locked ({error.strerror}): {alone}", stacklevel=3)
        yield
