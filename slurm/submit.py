"""Submit a suite: an array of jobs a shape of resources, of the runs that are neither done nor on their way.

Where measuring asks for other resources than training, it is an array of its own: each of its jobs starts when the job
of the same index has made its network.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmark.running.folder import RunState, check_owner, claim_folder, locked
from benchmark.runtime.errors import UserError
from benchmark.suite.expand import Cell, Suite
from benchmark.suite.run import Run
from slurm import sbatch, snapshot
from slurm.execution import send
from slurm.manifest import FOLDER, Part, Source, Submission, submissions
from slurm.packing import entry_of
from slurm.profile import Profile, Resources, Stage
from slurm.survey import LIVE, Standing, survey

# Slurm's own default of MaxArraySize is 1001.
_ARRAY_SIZE = 1000
_LOCK_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """What would be submitted, an array after the one that it waits for; and what is left out and why."""

    arrays: tuple[Submission, ...]
    left_out: tuple[tuple[str, str], ...]

    def reasons(self) -> Counter[str]:
        """How many runs are left out for each reason."""
        return Counter(reason for _, reason in self.left_out)


def plan(suite: Suite, runs: Path, profile: Profile, source: Source, *, retry: bool = False) -> Plan:
    """Choose the runs to submit and group them by what they ask for. Writes nothing."""
    check_owner(suite, runs)
    check_time(suite, profile)
    standings = survey(runs, {cell.run.id: [one.id for one in cell.run.measurements] for cell in suite.cells})
    left_out: list[tuple[str, str]] = []
    groups: dict[tuple[Resources, Resources, bool], list[Cell]] = {}
    for cell in suite.cells:
        standing = standings[cell.run.id]
        state = _state(cell.run, standing, runs)
        if reason := _left_out(standing, state, retry):
            left_out.append((cell.run.id, reason))
            continue
        asked = resources_of(cell.run, profile, "train"), resources_of(cell.run, profile, "measure")
        groups.setdefault((*asked, state.network_missing(retry)), []).append(cell)
    make = _maker(suite, runs, profile, source, retry)
    arrays: list[Submission] = []
    for (train, measure, is_missing), cells in groups.items():
        for start in range(0, len(cells), _ARRAY_SIZE):
            part = cells[start : start + _ARRAY_SIZE]
            if not is_missing:
                arrays.append(make("measure", None, measure, part))
            elif train == measure or profile.executor != "slurm":
                arrays.append(make("both", None, train, part))
            else:
                first = make("train", None, train, part)
                arrays += [first, make("measure", first.name, measure, part)]
    return Plan(tuple(arrays), tuple(left_out))


def resources_of(run: Run, profile: Profile, stage: Stage) -> Resources:
    """What a stage of one run asks for."""
    probes = [measurement.probe.name for measurement in run.measurements]
    return profile.resources_of(run.network.model_dump(mode="json"), probes, stage)


def _state(run: Run, standing: Standing, runs: Path) -> RunState:
    """As :func:`benchmark.running.folder.state_of` has it, but that nothing is set aside."""
    found = standing.records
    records = {measurement.id: found.measurements.get(measurement.id) for measurement in run.measurements}
    return RunState(run, found.network, records, run.network.is_kept(runs / run.id))


def _left_out(standing: Standing, state: RunState, retry: bool) -> str:
    """Why a run is not submitted; '' where it is."""
    if standing.state in LIVE:
        return standing.state
    if standing.state == "damaged":
        return "" if retry else "damaged (spherebench retry brings it back)"
    if state.is_missing(retry):
        return ""
    return "done" if state.is_done else f"{standing.state} (spherebench retry brings it back)"


def _maker(
    suite: Suite, runs: Path, profile: Profile, source: Source, retry: bool
) -> Callable[[Part, str | None, Resources, Sequence[Cell]], Submission]:
    # A job starts where sbatch was called, but a profile may move it: data are found from anywhere.
    execution = suite.execution.model_copy(update={"data_root": str(Path(suite.execution.data_root).resolve())})

    def make(stage: Part, after: str | None, resources: Resources, cells: Sequence[Cell]) -> Submission:
        return Submission(
            name=f"{suite.name}-{secrets.token_hex(4)}",
            runs=str(runs.resolve()),
            stage=stage,
            after=after,
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
    stages: tuple[Stage, ...] = ("train", "measure")
    for resources in {resources_of(cell.run, profile, stage) for cell in suite.cells for stage in stages}:
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
    lock = runs / FOLDER / ".lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise UserError(f"--out {runs}: cannot be written: {error.strerror}") from error
    # Two programs that submit to one folder take turns: the second sees what the first has queued.
    with locked(lock, patience=_LOCK_PATIENCE_SECONDS):
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
            if profile.executor == "slurm":
                sbatch.path(submission).write_text(sbatch.script(submission))
            sent.append(submission if hand_over else _with_jobs(submission, send(submission, _after(submission, sent))))
    finally:
        kept = {submission.folder for submission in sent} | {Path(s.source.folder) for s in sent}
        for left in set((runs / FOLDER).iterdir()) - before - kept:
            shutil.rmtree(left, ignore_errors=True)
    return replace(planned, arrays=tuple(sent))


def _with_jobs(submission: Submission, jobs: tuple[str, ...]) -> Submission:
    noted = submission.model_copy(update={"jobs": jobs})
    noted.write()
    return noted


def _after(submission: Submission, sent: Sequence[Submission]) -> str | None:
    """The job that trains what this submission measures."""
    return next((before.jobs[0] for before in sent if before.name == submission.after), None)


def unshared_filesystem(runs: Path) -> str | None:
    """The type of the file system ``runs`` is on, where it is one that other machines do not see; else None."""
    shared = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse", "weka", "panfs", "pvfs", "afs", "smb", "cifs", "9p")
    path = os.path.realpath(runs)
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [(place, kind) for place, kind in mounts if f"{path}/".startswith(f"{place.rstrip('/')}/")]
    kind = max(holding, key=lambda mount: len(mount[0]))[1]
    return None if kind.startswith(shared) else kind
