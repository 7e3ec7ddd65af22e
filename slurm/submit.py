"""Submit a suite: an array of jobs a shape of resources, of the runs that are neither done nor on their way.

Where measuring asks for other resources than training, it is an array of its own: each of its jobs starts when the job
of the same index has made its network.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmark.data import load
from benchmark.data.datasets import check_there
from benchmark.running.folder import RunState, check_owner, claim_folder, locked
from benchmark.runtime.devices import built_without_cuda, gpu_fault
from benchmark.runtime.errors import UserError
from benchmark.runtime.paths import absolute, is_of_job
from benchmark.runtime.provenance import ROOT, SOURCE_NAME, checked_out, git
from benchmark.runtime.spec import Execution
from benchmark.runtime.tracking.base import check as check_trackers
from benchmark.suite.expand import Cell, Suite
from benchmark.suite.run import Run
from slurm import queue
from slurm.manifest import FOLDER, Entry, Part, Source, Submission, submissions
from slurm.profile import Profile, Resources, overridden
from slurm.send import script, send
from slurm.status import chosen
from slurm.survey import FAILED, LIVE, OTHER_VERSION, UNFINISHED, UNKNOWN, Standing, survey

# Where the controller does not tell its MaxArraySize, the first index of an array that it refuses: 1001 as Slurm comes.
_ARRAY_SIZE = 1000
_LOCK_PATIENCE_SECONDS = 120.0
_PACKAGES = ("benchmark", "methods", "results", "slurm")


# What would be submitted, an array after the one that it waits for; and how many runs are left out, by the reason.
Plan = tuple[list[Submission], Counter[str]]


def plan(
    suite: Suite, runs: Path, profile: Profile, source: Source, *, retry: bool = False, force: bool = False
) -> Plan:
    """Choose the runs to submit and group them by what they ask for. Writes nothing.

    ``force``: also those of which nobody can tell from here whether they wait or run.
    Raises :class:`UserError` where data are missing, a job would reach its time limit before its first checkpoint, or
    it could not be what is asked for.
    """
    check_owner(suite, runs)
    asked = {cell.run.id: _asked(cell.run, suite, profile) for cell in suite.cells}
    cluster, array_size = _cluster(profile) if profile.executor == "slurm" else ("", _ARRAY_SIZE)
    wanted, left_out = _wanted(suite, runs, retry, force)
    if suite.execution.jobs not in (None, 1):
        raise UserError(f"jobs: is {suite.execution.jobs}; a job of a cluster does one run at a time, leave it out")
    check_trackers(suite.execution.tracking)
    _check_data([cell for cell, _ in wanted], suite.execution)
    make = partial(
        Submission,
        runs=str(runs.resolve()),
        profile=profile,
        suite=suite.name,
        protocol=suite.protocol,
        skipped=suite.skipped,
        # A job starts where sbatch was called, but a profile may move it: data are found from anywhere.
        execution=suite.execution.model_dump(mode="json") | {"data_root": absolute(suite.execution.data_root)},
        source=source,
        retry=retry,
        host=socket.gethostname(),
        user=queue.user(),
        cluster=cluster,
    )
    arrays: list[Submission] = []

    def add(stage: Part, resources: Resources, cells: Sequence[Cell], after: str | None = None) -> str:
        # A job name that squeue takes in a list, and no shell nor Slurm reads anything into.
        name = f"{re.sub(r'[^A-Za-z0-9_.+-]', '_', suite.name)}-{secrets.token_hex(4)}"
        entries, submitted = tuple(map(Entry.of, cells)), datetime.now(UTC).isoformat(timespec="microseconds")
        own = {"name": name, "stage": stage, "after": after, "resources": resources}
        arrays.append(make(entries=entries, submitted=submitted, **own))
        return name

    groups: dict[tuple[tuple[Resources, Resources], bool], list[Cell]] = {}
    for cell, network_is_missing in wanted:
        groups.setdefault((asked[cell.run.id], network_is_missing), []).append(cell)
    for ((train, measure), network_is_missing), cells in groups.items():
        for start in range(0, len(cells), array_size):
            part = cells[start : start + array_size]
            if not network_is_missing:
                add("measure", measure, part)
            elif train == measure or profile.executor != "slurm":
                add("both", train, part)
            else:
                trained = add("train", train, part)
                add("measure", measure, part, after=trained)
    return arrays, left_out


def _wanted(suite: Suite, runs: Path, retry: bool, force: bool) -> tuple[list[tuple[Cell, bool]], Counter[str]]:
    """The runs to submit, each with whether its network is missing; and how many are left out, by the reason."""
    standings = survey(runs, {cell.run.id: [one.id for one in cell.run.measurements] for cell in suite.cells})
    found: list[tuple[Cell, bool]] = []
    left_out: Counter[str] = Counter()
    for cell in suite.cells:
        run, standing = cell.run, standings[cell.run.id]
        # As benchmark.running.folder.state_of has it, but that nothing is set aside.
        records = {one.id: standing.records.measurements.get(one.id) for one in run.measurements}
        state = RunState(run, standing.records.network, records, run.network.is_kept(runs / run.id))
        if reason := _left_out(standing, state, retry, force):
            left_out[reason] += 1
        else:
            found.append((cell, state.network_missing(retry)))
    return found, left_out


def _check_data(cells: Sequence[Cell], execution: Execution) -> None:
    """Raise :class:`UserError` where data that these read are missing or unusable: once, not in every job."""
    for spec in dict.fromkeys(spec for cell in cells for spec in cell.run.data):
        if ":" in spec.source:
            if not is_of_job(spec.source):  # of its own copy only a job can tell
                load(spec, Path(execution.data_root))
        elif not execution.download and not is_of_job(execution.data_root):
            check_there(spec.source, Path(execution.data_root))


def _cluster(profile: Profile) -> tuple[str, int]:
    """The cluster that jobs are sent to, '' where its name is not known, and how many an array of it holds."""
    chosen = str(profile.sbatch.get("clusters") or os.environ.get("SBATCH_CLUSTERS", ""))
    try:
        settings = queue.configuration(chosen)
    except UserError:  # sbatch will tell, if it is called
        settings = {}
    size = settings.get("MaxArraySize", "")
    return chosen or settings.get("ClusterName", ""), max(1, int(size)) if size.isdigit() else _ARRAY_SIZE


def _asked(run: Run, suite: Suite, profile: Profile) -> tuple[Resources, Resources]:
    """What training and measuring a run ask for."""
    network, probes = run.network.model_dump(mode="json"), [measurement.probe.name for measurement in run.measurements]
    asked = profile.resources_of(network, probes, "train"), profile.resources_of(network, probes, "measure")
    for resources in asked:
        usable = 60 * resources.minutes - profile.signal_seconds
        if usable <= suite.execution.checkpoint_seconds:
            raise UserError(
                f"minutes is {resources.minutes}, less {profile.signal_seconds} signal_seconds to save in: must be "
                f"longer than the {suite.execution.checkpoint_seconds:g} seconds between checkpoints (--resource "
                "minutes=..., or --set checkpoint_seconds=...)"
            )
        _check_devices(resources, suite.execution.device, profile.executor)
    return asked


def _check_devices(resources: Resources, device: str, executor: str) -> None:
    """Refuse now what a job would end with."""
    if executor != "slurm" and resources.nodes > 1:
        raise UserError(f"nodes is {resources.nodes}, but executor {executor} is this machine alone")
    if executor == "debug" and resources.gpus_per_node > 1:
        raise UserError(f"gpus_per_node is {resources.gpus_per_node}, but executor debug is one process")
    if not resources.gpus_per_node or device == "cpu":
        return
    # The jobs load the torch that is loaded here; the GPUs themselves are here only where they run here.
    if fault := built_without_cuda() if executor == "slurm" else gpu_fault():
        raise UserError(
            f"gpus_per_node is {resources.gpus_per_node}, and no GPU can be used: {fault}; install a build of torch "
            "for them, or ask for none (--resource gpus_per_node=0), or have them wait (--set device=cpu)"
        )


def _left_out(standing: Standing, state: RunState, retry: bool, force: bool) -> str:
    """Why a run is not submitted; '' where it is."""
    if standing.state in LIVE:
        return standing.state
    if standing.state == UNKNOWN and not force:
        return f"unknown: {standing.detail} (--force sends them all the same)"
    if standing.state == OTHER_VERSION:
        return OTHER_VERSION
    if standing.state == "damaged":
        return "" if retry else "damaged (spherebench retry brings it back)"
    if state.is_missing(retry):
        return ""
    return "done" if state.is_done else f"{standing.state} (spherebench retry brings it back)"


def submit(
    suite: Suite, runs: Path, profile: Profile, *, retry: bool = False, force: bool = False, hand_over: bool = False
) -> Plan:
    """Submit what is missing of ``suite``; with ``hand_over`` only prepare it, for ``sbatch`` by hand.

    Raises :class:`UserError` in Slurm's own words where it refuses. Then nothing is left behind, unless a part was sent
    before: the rest stays listed as not submitted, and the next ``submit`` sends it.
    """
    runs = runs.resolve()
    was_there = runs.exists()
    check_owner(suite, runs)
    if suite.execution.download and not is_of_job(suite.execution.data_root):
        # Here, since nodes may have no internet, and before the lock, since it may take an hour.
        for spec in dict.fromkeys(spec for cell in suite.cells for spec in cell.run.data):
            load(spec, Path(suite.execution.data_root), download=True)
    lock = runs / FOLDER / ".lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise UserError(f"--out {runs}: cannot be written: {error.strerror}") from error
    # Two programs that submit to one folder take turns: the second sees what the first has queued.
    with locked(lock, lock=suite.execution.lock, patience=_LOCK_PATIENCE_SECONDS):
        try:
            return _submit(suite, runs, profile, retry, force, hand_over)
        except UserError:
            if not was_there and not submissions(runs):
                shutil.rmtree(runs, ignore_errors=True)
            raise


def _submit(suite: Suite, runs: Path, profile: Profile, retry: bool, force: bool, hand_over: bool) -> Plan:
    before = set((runs / FOLDER).iterdir())
    kept: list[Submission] = []
    try:
        arrays, left_out = plan(suite, runs, profile, snapshot(runs), retry=retry, force=force)
        if arrays:
            claim_folder(suite, runs)
        for place, submission in enumerate(arrays):
            submission.write()
            if profile.executor == "slurm":
                submission.script.write_text(script(submission))
            kept.append(submission)  # whatever ends this program now: the array may be sent
            if hand_over:
                continue
            after = next((first.jobs[0] for first in kept if first.name == submission.after), None)
            try:
                kept[place] = send(submission, after)
            except UserError as error:
                if not place:
                    kept.clear()
                    raise
                kept += arrays[place + 1 :]
                raise _sent_in_part(kept, place, error) from error
            finally:
                for one in kept[place:]:
                    one.write()
    finally:
        stay = {submission.folder for submission in kept} | {Path(submission.source.folder) for submission in kept}
        for left in set((runs / FOLDER).iterdir()) - before - stay:
            shutil.rmtree(left, ignore_errors=True)
    return kept, left_out


def _sent_in_part(arrays: Sequence[Submission], count: int, error: UserError) -> UserError:
    """What to say where all arrays but the first ``count`` were not sent."""
    jobs = ", ".join(job for one in arrays[:count] for job in one.jobs)
    return UserError(
        f"{error}; sent before that: {_runs(arrays[:count])}, as job {jobs}; not sent: {_runs(arrays[count:])}, which "
        f"spherebench status {arrays[0].runs} lists as not submitted and the next submit sends"
    )


def _runs(arrays: Sequence[Submission]) -> str:
    return f"{sum(len(one.entries) for one in arrays)} runs in {len(arrays)} arrays"


def retry(runs: Path, wanted: Sequence[str], resources: Sequence[str] = (), *, force: bool = False) -> list[Submission]:
    """Submit again what failed, was cancelled, interrupted or lost, by the profile that it was last submitted with.

    ``resources``, ``KEY=VALUE`` texts, change what that asks for; ``force`` as for :func:`plan`.
    """
    states = (*FAILED, *UNFINISHED, *([UNKNOWN] if force else []))
    again = sorted(standing.run for standing in chosen(runs, wanted, states))
    last: dict[str, tuple[Submission, Entry]] = {}
    for submission in submissions(runs):
        for entry in submission.entries:
            before = last[entry.id][1].measurements if entry.id in last else {}
            last[entry.id] = submission, entry.model_copy(update={"measurements": before | entry.measurements})
    groups: dict[str, list[str]] = {}
    for run in again:
        if run not in last:
            raise UserError(f"{run}: was not submitted from {runs}; spherebench run --retry failed does it again")
        groups.setdefault(last[run][0].name, []).append(run)
    sent: list[Submission] = []
    for names in groups.values():
        submission = last[names[0]][0]
        suite = submission.model_copy(update={"entries": tuple(last[name][1] for name in names)}).as_suite()
        try:
            sent += submit(suite, runs, overridden(submission.profile, resources), retry=True, force=force)[0]
        except UserError as error:
            if not sent:
                raise
            jobs = ", ".join(job for one in sent for job in one.jobs)
            raise UserError(f"{error}; before that {_runs(sent)} were sent again, as job {jobs}") from error
    return sent


def snapshot(runs: Path) -> Source:
    """Copy the packages to ``RUNS/jobs/code-<digest>``, unless the same is there: what runs is what was submitted.

    Beside them lie ``source.json`` (the commit, and whether files differed from it) and ``diff.patch`` where they did.
    """
    paths = [path for package in _PACKAGES for path in sorted((ROOT / package).rglob("*"))]
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in paths if path.suffix in {".py", ".yaml"}}
    commit, diff = checked_out(), b""
    if commit:  # what differs from it, new files included
        untracked = git("ls-files", "--others", "--exclude-standard", *_PACKAGES)
        diff = git("diff", "--binary", "HEAD", "--", *_PACKAGES) + untracked
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0".encode() + content)
    digest.update(f"{commit}\0".encode() + diff)
    folder = runs / FOLDER / f"code-{digest.hexdigest()[:12]}"
    source = Source(folder=str(folder), commit=commit, dirty=None if commit is None else bool(diff))
    if folder.exists():
        return source
    files[SOURCE_NAME] = json.dumps({"commit": source.commit, "dirty": source.dirty}).encode()
    if diff:
        files["diff.patch"] = diff
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".code-") as holder:
        beside = Path(holder) / "code"
        for name, content in files.items():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            (beside / name).write_bytes(content)
        beside.replace(folder)
    return source
