"""The folder of a suite's runs: whose it is, who is at work in it, and of each run what there is and what is not."""

import errno
import fcntl
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from benchmark.probes.base import Measurement
from benchmark.runtime.checkpoints import DamagedFile
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.process import Process
from benchmark.suite.expand import Suite
from benchmark.suite.run import Run
from results.record import (
    SUITE_NAME,
    MeasurementRecord,
    NetworkRecord,
    OtherVersion,
    Status,
    measurement_path,
    network_path,
    write_atomically,
)

_OLD_RECORD = "record.json"
RETRIED: tuple[Status, ...] = ("failed", "diverged", "out-of-memory")

R = TypeVar("R", NetworkRecord, MeasurementRecord)


def read_suite_note(folder: Path) -> dict[str, Any] | None:
    """What ``suite.json`` says; None where there is none. Raises :class:`UserError` where it is damaged."""
    path = folder / SUITE_NAME
    if not path.exists():
        return None
    try:
        note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not {"suite", "digest"} <= note.keys():
            raise KeyError("suite")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is damaged; remove it, or choose another folder with --out") from error
    return note


def check_owner(suite: Suite, folder: Path) -> None:
    """Raise :class:`UserError` where ``folder`` holds the runs of another suite, or of this one with other settings."""
    if any(folder.glob(f"*/{_OLD_RECORD}")):
        raise UserError(
            f"{folder}: was written by a version before networks and measurements had records of their own; choose "
            "another folder with --out"
        )
    owner = read_suite_note(folder)
    if owner is not None and owner["digest"] != suite.digest:
        raise UserError(
            f"{folder}: holds runs of suite {owner['suite']!r} with other settings (digest {owner['digest'][:10]}, "
            f"this one is {suite.digest[:10]}); choose another folder with --out"
        )


def claim_folder(suite: Suite, folder: Path) -> None:
    """Make ``folder`` this suite's, and list what shall be measured. Raises :class:`UserError` where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", lock=suite.execution.lock, patience=60.0):
            note = read_suite_note(folder) or {}
            content = {
                **note,  # another version may know more
                "suite": suite.name,
                "digest": suite.digest,
                "protocol": suite.protocol,
                "skipped": [{"axes": axes, "reason": reason} for axes, reason in suite.skipped],
                "measurements": _listed(note, suite),
                "headline": list(suite.headline) or note.get("headline", []),  # a job does not know it
            }
            write_atomically(folder / SUITE_NAME, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written: {error.strerror}") from error


def _listed(note: Mapping[str, Any], suite: Suite) -> dict[str, list[dict[str, Any]]]:
    """What was listed, and what is asked for now: by network, each in the order in which it was first asked for."""
    listed = {name: list(found) for name, found in note.get("measurements", {}).items()}
    for run in (cell.run for cell in suite.cells):
        own = listed.setdefault(run.id, [])
        known = set()
        for settings in own:
            with suppress(ValueError):  # of a probe that this code knows no more
                known.add(Measurement.parse(settings).id)
        own += [measurement.settings() for measurement in run.measurements if measurement.id not in known]
    return listed


def listed_measurements(note: Mapping[str, Any], folder: Path, network: str) -> tuple[Measurement, ...]:
    """What the note of ``folder`` lists for a network, less what this code knows no more."""
    found = []
    for settings in note.get("measurements", {}).get(network, ()):
        try:
            found.append(Measurement.parse(settings))
        except ValueError as error:
            warnings.warn(f"{folder / SUITE_NAME}: {network}: {error}; left out", stacklevel=2)
    return tuple(found)


def read_record(kind: type[R], path: Path) -> R | None:
    """A record, or None. A torn one, which is no JSON, is set aside as ``*.damaged``, with a warning.

    Raises :class:`UserError` for one that may be whole: of another version, or changed by hand.
    """
    if not path.exists():
        return None
    try:
        return kind.read(path)
    except OtherVersion as error:
        raise UserError(f"{error}; choose another folder with --out") from error
    except ValueError as error:
        if not isinstance(error.__cause__, json.JSONDecodeError | UnicodeDecodeError):
            raise UserError(f"{error}; put it right, remove it, or choose another folder with --out") from error
        aside = path.with_name(f"{path.name}.damaged")
        path.rename(aside)
        warnings.warn(f"{error}; set aside as {aside.name}", DamagedFile, stacklevel=2)
        return None


@dataclass(frozen=True)
class RunState:
    """A run's records. ``weights_kept``: its network can be measured with what lies in its folder."""

    run: Run
    network: NetworkRecord | None
    measurements: dict[str, MeasurementRecord | None]
    weights_kept: bool

    def measurements_missing(self, retry: bool = False) -> tuple[Measurement, ...]:
        """What has no record, was interrupted or (``retry``) failed; nothing of a network that failed."""
        if self.network is not None and self.network.status in RETRIED and not retry:
            return ()
        return tuple(one for one in self.run.measurements if _pending(self.measurements[one.id], retry))

    def network_missing(self, retry: bool = False) -> bool:
        """Whether the network is to be made: also where something is to be measured on weights that are gone."""
        return _pending(self.network, retry) or (not self.weights_kept and bool(self.measurements_missing(retry)))

    def is_missing(self, retry: bool = False) -> bool:
        return self.network_missing(retry) or bool(self.measurements_missing(retry))

    @property
    def records(self) -> tuple[NetworkRecord | MeasurementRecord | None, ...]:
        """The network's, and its measurements'; None for what has none."""
        return (self.network, *self.measurements.values())

    @property
    def is_done(self) -> bool:
        return all(record is not None and record.status == "done" for record in self.records)


def _pending(record: NetworkRecord | MeasurementRecord | None, retry: bool) -> bool:
    return record is None or record.status == "interrupted" or (retry and record.status in RETRIED)


def state_of(run: Run, folder: Path) -> RunState:
    """Where a run stands whose folder this is; a damaged record is set aside, with a warning."""
    network = read_record(NetworkRecord, network_path(folder))
    ids = [measurement.id for measurement in run.measurements]
    found = {name: read_record(MeasurementRecord, measurement_path(folder, name)) for name in ids}
    return RunState(run, network, found, run.network.is_kept(folder))


@contextmanager
def alone(
    folder: Path,
    process: Process,
    *,
    lock: bool,
    patience: float = 0.0,
    hurried: Callable[[], bool] = lambda: False,
) -> Iterator[bool]:
    """Hold the lock of a network's folder, where no other program does: no two programs work in one.

    Wait ``patience`` seconds for the other program to end, or until ``hurried`` says not to. ``lock`` as in
    :class:`benchmark.runtime.spec.Execution`. Raises :class:`UserError` where the folder cannot be written or locked.
    """
    if not process.is_main:
        yield process.broadcast(False)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        with full_disk_told(folder):
            if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
                raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
            raise
    with file:
        yield process.broadcast(not lock or _lock(file, patience, hurried))


@contextmanager
def locked(path: Path, *, lock: bool, patience: float) -> Iterator[None]:
    """Hold a lock that is soon free. Raises :class:`UserError` where it is not within ``patience`` seconds."""
    with path.open("a") as file:
        if lock and not _lock(file, patience):
            raise UserError(f"{path.parent}: another program has been writing to it for {patience:g} s")
        yield


def _lock(file: IO[str], patience: float, hurried: Callable[[], bool] = lambda: False) -> bool:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
        except OSError as error:
            raise UserError(
                f"{file.name}: this file system gives no locks ({error.strerror}), as NFS without lockd and Lustre "
                "without -o flock; choose another folder with --out, or go on with --set lock=false where no other "
                "program works in this one"
            ) from error
        if time.monotonic() >= until or hurried():
            return False
        time.sleep(min(0.2, max(0.0, until - time.monotonic())))
