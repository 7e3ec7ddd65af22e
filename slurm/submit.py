"""Submit a suite: one array of jobs a shape of resources, of the runs that are neither done nor on their way."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmark.running.folder import check_owner, claim_folder
from benchmark.runtime.errors import UserError
from benchmark.suite.expand import Cell, Suite
from slurm import snapshot
from slurm.execution import send
from slurm.manifest import FOLDER, Source, Submission, submissions
from slurm.packing import entry_of
from slurm.profile import Profile, Resources
from slurm.survey import FAILED, UNFINISHED, Standing, survey

# Slurm's own default of MaxArraySize is 1001.
_ARRAY_SIZE = 1000
_LOCK_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """What would be submitted, and what is left out and why."""

    arrays: tuple[Submission, ...]
    left_out: tuple[tuple[str, str], ...]

    def reasons(self) -> Counter[str]:
        """How many runs are left out for each reason."""
        return Counter(reason for _, reason in self.left_out)


def plan(suite: Suite, runs: Path, profile: Profile, source: Source, *, retry: bool = False) -> Plan:
    """Choose the runs to submit and group them by what they ask for. Writes nothing."""
    check_owner(suite, runs)
    check_time(suite, profile)
    standings = survey(runs, [cell.run.id for cell in suite.cells])
    chosen, left_out = [], []
    for cell in suite.cells:
        reason = _left_out(standings[cell.run.id], retry)
        if reason:
            left_out.append((cell.run.id, reason))
        else:
            chosen.append(cell)
    groups: dict[Resources, list[Cell]] = {}
    for cell in chosen:
        groups.setdefault(profile.resources_of(cell.run.model_dump(mode="json")), []).append(cell)
    parts = [
        (resources, cells[start : start + _ARRAY_SIZE])
        for resources, cells in groups.items()
        for start in range(0, len(cells), _ARRAY_SIZE)
    ]
    make = _maker(suite, runs, profile, source, retry)
    return Plan(tuple(make(resources, cells) for resources, cells in parts), tuple(left_out))


def _left_out(standing: Standing, retry: bool) -> str:
    """Why a run is not submitted; '' where it is."""
    if standing.state in UNFINISHED or (retry and standing.state in FAILED):
        return ""
    return f"{standing.state} (spherebench retry brings it back)" if standing.state in FAILED else standing.state


def _maker(
    suite: Suite, runs: Path, profile: Profile, source: Source, retry: bool
) -> Callable[[Resources, Sequence[Cell]], Submission]:
    # A job starts where sbatch was called, but a profile may move it: data are found from anywhere.
    execution = suite.execution.model_copy(update={"data_root": str(Path(suite.execution.data_root).resolve())})

    def make(resources: Resources, cells: Sequence[Cell]) -> Submission:
        return Submission(
            name=f"{suite.name}-{secrets.token_hex(4)}",
            runs=str(runs.resolve()),
            profile=profile,
            resources=resources,
            suite=suite.name,
            protocol=suite.protocol,
            skipped=suite.skipped,
            execution=execution.model_dump(mode="json"),
            entries=tuple(entry_of(cell) for cell in cells),
            source=source,
            retry=retry,
            submitted=datetime.now(UTC).isoformat(timespec="microseconds"),
            host=socket.gethostname(),
        )

    return make


def check_time(suite: Suite, profile: Profile) -> None:
    """Raise :class:`UserError` where a job would reach its time limit before its first checkpoint."""
    for resources in {profile.resources_of(cell.run.model_dump(mode="json")) for cell in suite.cells}:
        usable = 60 * resources.minutes - profile.signal_seconds
        if usable <= suite.execution.checkpoint_seconds:
            raise UserError(
                f"minutes is {resources.minutes}, less {profile.signal_seconds} signal_seconds to save in: must be "
                f"longer than the {suite.execution.checkpoint_seconds:g} seconds between checkpoints (--resource "
                "minutes=..., or --set checkpoint_seconds=...)"
            )


def submit(suite: Suite, runs: Path, profile: Profile, *, retry: bool = False, hand_over: bool = False) -> Plan:
    """Submit what is missing of ``suite``; with ``hand_over`` only prepare it, for ``sbatch`` by hand.

    Raises :class:`UserError` in Slurm's own words where it refuses; then nothing of what was refused is left behind.
    """
    runs = runs.resolve()
    was_there = runs.exists()
    check_owner(suite, runs)
    with _alone(runs):
        try:
            return _submit(suite, runs, profile, retry, hand_over)
        except UserError:
            if not was_there and not submissions(runs):
                shutil.rmtree(runs, ignore_errors=True)
            raise


def _submit(suite: Suite, runs: Path, profile: Profile, retry: bool, hand_over: bool) -> Plan:
    before = set((runs / FOLDER).iterdir())
    planned = plan(suite, runs, profile, snapshot.take(runs), retry=retry)
    sent: list[Submission] = []
    try:
        if planned.arrays:
            claim_folder(suite, runs)
        for submission in planned.arrays:
            submission.write()
            sent.append(submission if hand_over else _with_jobs(submission, send(submission)))
    finally:
        kept = {submission.folder for submission in sent} | {Path(s.source.folder) for s in sent}
        for left in set((runs / FOLDER).iterdir()) - before - kept:
            shutil.rmtree(left, ignore_errors=True)
    return replace(planned, arrays=tuple(sent))


def _with_jobs(submission: Submission, jobs: tuple[str, ...]) -> Submission:
    noted = submission.model_copy(update={"jobs": jobs})
    noted.write()
    return noted


@contextmanager
def _alone(runs: Path) -> Iterator[None]:
    """Two programs that submit to one folder take turns: the second sees what the first has queued."""
    try:
        (runs / FOLDER).mkdir(parents=True, exist_ok=True)
        lock = (runs / FOLDER / ".lock").open("a")
    except OSError as error:
        raise UserError(f"--out {runs}: cannot be written: {error.strerror}") from error
    with lock:
        until = time.monotonic() + _LOCK_PATIENCE_SECONDS
        while not _locked(lock.fileno()):
            if time.monotonic() > until:
                raise UserError(f"{runs}: another program has been submitting to it for {_LOCK_PATIENCE_SECONDS:g} s")
            time.sleep(0.2)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unshared_filesystem(runs: Path) -> str | None:
    """The type of the file system ``runs`` is on, where it is one that other machines do not see; else None."""
    shared = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse", "weka", "panfs", "pvfs", "afs", "smb", "cifs", "9p")
    path = os.path.realpath(runs)
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [(place, kind) for place, kind in mounts if f"{path}/".startswith(f"{place.rstrip('/')}/")]
    kind = max(holding, key=lambda mount: len(mount[0]))[1]
    return None if kind.startswith(shared) else kind
