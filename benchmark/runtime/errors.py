"""The exceptions that mean: the input or the machine is at fault, and the program is not."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(ValueError):
    """Bad input. The message is one sentence: what was wrong, where (file and key), what is allowed.

    The command line prints it after ``error:`` and exits with 2, without a traceback.
    """


class DiskFull(UserError):
    """No space is left, or a quota is reached. What was on disk before is whole; the run can go on from it."""


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Turn the system's error into :class:`DiskFull`, which names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(f"{folder}: no space left on the disk; what was saved before is whole") from error
        raise


# torch's allocators on the CPU and on CUDA; CUDA itself, its driver and NCCL; the libraries that ask CUDA for a
# workspace, each with a status of its own. A first call of cuBLAS finds no room for its handle and says only that.
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|out of memory|MemoryError|_STATUS_ALLOC_FAILED|_DEVICE_ALLOCATION_FAILED|CUFFT_ALLOC_FAILED"
    r"|CUBLAS_STATUS_NOT_INITIALIZED when calling .?cublasCreate"
)


def says_out_of_memory(text: str) -> bool:
    """Whether an error's words are that memory, the machine's or a GPU's, did not suffice."""
    return _OUT_OF_MEMORY.search(text) is not None


def in_one_line(error: BaseException) -> str:
    """``RuntimeError: what it said last``; of an error that is meant to be read, just that."""
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
