"""The folder of a suite's runs: whose it is, which records it holds, which runs are still to be done."""

from __future__ import annotations

import fcntl
import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from benchmark.runtime.checkpoints import DamagedFile
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.suite.expand import Suite
from results.record import RECORD_NAME, Record, Status, write_atomically

SUITE_NAME = "suite.json"
RETRIED: tuple[Status, ...] = ("failed", "diverged", "out-of-memory")


def check_owner(suite: Suite, folder: Path) -> None:
    """Raise :class:`UserError` where ``folder`` holds the runs of another suite, or of this one with other settings."""
    path = folder / SUITE_NAME
    if not path.exists():
        return
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        name, digest = owner["suite"], owner["digest"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is damaged; remove it, or choose another folder with --out") from error
    if digest != suite.digest:
        raise UserError(
            f"{folder}: holds runs of suite {name!r} with other settings (digest {digest[:10]}, this one is "
            f"{suite.digest[:10]}); choose another folder with --out"
        )


def claim_folder(suite: Suite, folder: Path) -> None:
    """Make ``folder`` this suite's. Raises :class:`UserError` where it cannot be written."""
    content = {
        "suite": suite.name,
        "digest": suite.digest,
        "protocol": suite.protocol,
        "skipped": [{"axes": axes, "reason": reason} for axes, reason in suite.skipped],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / SUITE_NAME, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written: {error.strerror}") from error


def read_record(folder: Path) -> Record | None:
    """The record in a run folder, or None. A damaged one is set aside as ``record.json.damaged``, with a warning."""
    path = folder / RECORD_NAME
    if not path.exists():
        return None
    try:
        return Record.read(path)
    except ValueError as error:
        path.rename(path.with_name(RECORD_NAME + ".damaged"))
        warnings.warn(f"{error}; set aside as {RECORD_NAME}.damaged", DamagedFile, stacklevel=2)
        return None


def pending(suite: Suite, folder: Path, retry: bool) -> list[str]:
    """The ids of the runs still to be done: no record, interrupted, or (``retry``) failed."""
    ids = [cell.run.id for cell in suite.cells]
    return [run_id for run_id in ids if is_pending(read_record(folder / run_id), retry)]


def is_pending(record: Record | None, retry: bool = False) -> bool:
    """Whether a run with this record is still to be done."""
    return record is None or record.status == "interrupted" or (retry and record.status in RETRIED)


def all_done(suite: Suite, folder: Path) -> bool:
    """Whether every run of ``suite`` has a record that says done."""
    records = [read_record(folder / cell.run.id) for cell in suite.cells]
    return all(record is not None and record.status == "done" for record in records)


@contextmanager
def alone(
    folder: Path, process: Process, *, patience: float = 0.0, hurried: Callable[[], bool] = lambda: False
) -> Iterator[bool]:
    """Hold the run's lock, where no other program does: no two programs work in one run folder.

    Wait ``patience`` seconds for the other program to end, or until ``hurried`` says not to.
    """
    if not process.is_main:
        yield process.told(None)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        yield process.told(_locked(lock, time.monotonic() + patience, hurried))


def _locked(file: IO[str], until: float, hurried: Callable[[], bool]) -> bool:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until or hurried():
                return False
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))
        else:
            return True
