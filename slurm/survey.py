"""Where every run of a runs folder stands: from the run folders, and one call of Slurm."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.running import attempts
from benchmark.runtime.errors import UserError
from results.record import NETWORK_NAME, SUITE_NAME
from slurm import queue
from slurm.manifest import Submission, submissions
from slurm.queue import Job
from slurm.records import NETWORK, Records
from slurm.requeue import last_line, log_path

# What brings a run back: submit takes up the first ones by itself, retry also those that have failed.
UNFINISHED = ("not submitted", "interrupted", "cancelled", "lost")
FAILED = ("failed", "diverged", "out-of-memory", "damaged")
LIVE = ("pending", "running")


@dataclass(frozen=True)
class Sent:
    """A job, and the submission it is of."""

    submission: Submission
    job: Job

    @property
    def log(self) -> Path:
        """Where its first task writes."""
        return log_path(self.submission, self.job.id.removeprefix("local-"))


@dataclass(frozen=True)
class Standing:
    """What has become of one run so far. ``state`` is a record's status, or one of ``UNFINISHED`` or ``LIVE``.

    ``sent`` is the job that matters: the one that waits or runs, or else the last one for what is missing; ``trail``
    all jobs that it ever had. ``listed`` says how many measurements are wanted.
    """

    run: str
    state: str
    detail: str
    records: Records
    listed: int
    sent: Sent | None
    trail: tuple[Sent, ...]


def survey(runs: Path, wanted: Mapping[str, Iterable[str]] | None = None) -> dict[str, Standing]:
    """Where each run stands: of every submission, of every run folder, and of ``wanted`` (ids of measurements by run).

    Raises :class:`UserError` where Slurm has to be asked and does not answer.
    """
    found = submissions(runs)
    listed: dict[str, dict[str, None]] = {name: dict.fromkeys(ids) for name, ids in (wanted or {}).items()}
    for submission in found:
        for entry in submission.entries:
            listed.setdefault(entry.id, {}).update(dict.fromkeys(entry.measurements))
    for path in sorted(runs.glob(f"*/{NETWORK_NAME}")):
        listed.setdefault(path.parent.name, {})
    counts = _listed_counts(runs)
    records = {name: Records.of(runs / name) for name in listed}
    trails = _with_accounts(_trails(found), {name for name in listed if records[name].missing(listed[name])})
    return {
        name: _standing(runs / name, records[name], list(ids), counts.get(name, 0), trails.get(name, ()))
        for name, ids in listed.items()
    }


def _listed_counts(runs: Path) -> dict[str, int]:
    """How many measurements are listed for each network, whoever asked for them."""
    path = runs / SUITE_NAME
    try:
        note = json.loads(path.read_bytes()) if path.exists() else {}
        return {name: len(found) for name, found in note.get("measurements", {}).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: is damaged; remove it, or choose another folder with --out") from error


def _trails(found: list[Submission]) -> dict[str, tuple[Sent, ...]]:
    """Every job of each run, oldest first."""
    on_slurm = any(submission.profile.executor == "slurm" for submission in found)
    queued = {(job.name, job.index): job for job in queue.jobs()} if on_slurm else {}
    trails: dict[str, tuple[Sent, ...]] = {}
    for submission in found:
        for index, entry in enumerate(submission.entries):
            job = _job(submission, index, queued)
            if job:
                trails[entry.id] = (*trails.get(entry.id, ()), Sent(submission, job))
    return trails


def _job(submission: Submission, index: int, queued: Mapping[tuple[str, int], Job]) -> Job | None:
    if submission.profile.executor == "local":
        return _local_job(submission, index)
    forgotten = Job(f"{submission.jobs[0]}_{index}", submission.name, "") if submission.jobs else None
    return queued.get((submission.name, index), forgotten)


def _local_job(submission: Submission, index: int) -> Job | None:
    """The worker that has begun the run, or any that still may."""
    alive = [pid for pid in submission.jobs if submission.host == socket.gethostname() and is_alive(pid)]
    starts = [event for event in attempts.read(submission.run_folder(index)) if event["event"] == "start"]
    mine = starts[-1]["job"] if starts else None
    if mine in {f"local-{pid}" for pid in submission.jobs}:
        state = "RUNNING" if mine in {f"local-{pid}" for pid in alive} else ""
        return Job(mine, submission.name, state or ("PENDING" if alive else "COMPLETED"))
    if not submission.jobs:
        return None
    return Job(f"local-{(alive or submission.jobs)[0]}", submission.name, "PENDING" if alive else "COMPLETED")


def is_alive(pid: str) -> bool:
    """Whether a worker submitted to this machine is still at work."""
    try:
        command = Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return False
    return b"submitit" in command


def _with_accounts(trails: dict[str, tuple[Sent, ...]], names: set[str]) -> dict[str, tuple[Sent, ...]]:
    """With what the accounting says of jobs of these runs that Slurm's controller has forgotten."""
    states = queue.accounted(s.job.id for name in names for s in trails.get(name, ()) if not s.job.state)
    told = {
        name: tuple(replace(s, job=replace(s.job, state=s.job.state or states.get(s.job.id, ""))) for s in trail)
        for name, trail in trails.items()
        if name in names
    }
    return trails | told


def _standing(folder: Path, records: Records, ids: list[str], count: int, trail: tuple[Sent, ...]) -> Standing:
    missing = records.missing(ids)
    fitting = [
        sent for sent in trail if sent.submission.stage in ("both", "train" if missing == [NETWORK] else "measure")
    ]
    live = [sent for sent in trail if sent.job.is_live]
    # Where both stages wait, the one that is missing tells why.
    groups = ([sent for sent in fitting if sent.job.is_live], live, fitting)
    sent = next((group[-1] for group in groups if group), None)
    listed = max(len(ids), count)
    ended = sum(record.status != "interrupted" for record in records.measurements.values())
    made = records.network is not None and records.network.status == "done"
    state, detail = _state(folder, records, bool(missing) or (made and ended < listed), sent)
    return Standing(folder.name, state, detail, records, listed, sent, trail)


def _state(folder: Path, records: Records, incomplete: bool, sent: Sent | None) -> tuple[str, str]:
    faults = records.faults()
    told = "; ".join(message for _, message in faults)
    if not (incomplete or faults or records.damage):
        return "done", ""
    if sent and sent.job.is_live:
        return ("running", told) if sent.job.is_running else ("pending", sent.job.reason)
    if records.damage:
        return "damaged", records.damage
    if not incomplete:
        return faults[0][0], told
    state, detail = _ended_without_record(folder, records, sent)
    return state, "; ".join(filter(None, [detail, told]))


def _ended_without_record(folder: Path, records: Records, sent: Sent | None) -> tuple[str, str]:
    events = attempts.read(folder)
    last_start = max((place for place, event in enumerate(events) if event["event"] == "start"), default=-1)
    whys = [event["why"] for event in events[last_start + 1 :] if event["event"] == "end"]
    if any("cancelled" in why for why in whys) or (sent and sent.job.state == "CANCELLED"):
        return "cancelled", f"at {attempts.kept(folder)}"
    interrupted = [record.message for record in records.all() if record.status == "interrupted"]
    if whys or interrupted:
        return "interrupted", (whys or interrupted)[-1]
    if sent is None:
        return "not submitted", ""
    told = last_line(sent.log)
    state = sent.job.state.lower() or "Slurm has forgotten it"
    return "lost", f"{state} and no record was written" + (f"; log: {told}" if told else "")
