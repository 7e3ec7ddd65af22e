"""What became of work that did not end well, in a status and one line; the traceback goes to ``error.txt``."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from benchmark.runtime.errors import UserError
from benchmark.runtime.memory import is_out_of_memory
from results.record import Status

ERROR_NAME = "error.txt"


@dataclass(frozen=True)
class Outcome:
    """A status, and what the error said."""

    status: Status
    message: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Outcome:
        """By the error's kind."""
        return cls("out-of-memory" if is_out_of_memory(error) else "failed", in_one_line(error))


DONE = Outcome("done")


def in_one_line(error: BaseException) -> str:
    """``RuntimeError: what it said last``; of an error that is meant to be read, just that."""
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


def note(folder: Path, failure: Outcome, error: BaseException) -> Outcome:
    """Leave the traceback in the folder. Of several processes the first to fail is told of.

    The others fail as well, once they find its connections closed.
    """
    path = folder / ERROR_NAME
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{failure.status}: {failure.message}\n\n{''.join(traceback.format_exception(error))}")
    except FileExistsError:
        first, _, _ = path.read_text(encoding="utf-8").partition("\n\n")
        status, colon, message = first.partition(": ")
        return Outcome("out-of-memory" if status == "out-of-memory" else "failed", message) if colon else failure
    return failure
