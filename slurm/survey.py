"""Where every run of a runs folder stands: from the run folders, and one call of Slurm."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.running import attempts
from results.record import RECORD_NAME, Record
from slurm import queue
from slurm.manifest import Submission, submissions
from slurm.queue import Job
from slurm.requeue import last_line, log_path

# What brings a run back: submit takes up the first ones by itself, retry also those that have failed.
UNFINISHED = ("not submitted", "interrupted", "cancelled", "lost")
FAILED = ("failed", "diverged", "out-of-memory", "damaged")
LIVE = ("pending", "running")


@dataclass(frozen=True)
class Standing:
    """What has become of one run so far. ``state`` is a record's status, or one of ``UNFINISHED`` or ``LIVE``."""

    run: str
    state: str
    detail: str = ""
    job: Job | None = None
    submission: Submission | None = None
    record: Record | None = None

    @property
    def log(self) -> Path | None:
        """The log of its last job."""
        if self.submission is None or self.job is None:
            return None
        return log_path(self.submission, self.job.id.removeprefix("local-"))


def survey(runs: Path, ids: Iterable[str] = ()) -> dict[str, Standing]:
    """Where each run stands: of every submission, of every run folder, and of ``ids``.

    Raises :class:`UserError` where Slurm has to be asked and does not answer.
    """
    found = submissions(runs)
    jobs = last_jobs(found)
    names = dict.fromkeys([*ids, *(entry.id for submission in found for entry in submission.entries)])
    names |= dict.fromkeys(path.parent.name for path in sorted(runs.glob(f"*/{RECORD_NAME}")))
    silent = {name: jobs[name] for name in names if name in jobs and jobs[name][1].state == ""}
    states = queue.accounted(job.id for _, job in silent.values())
    for name, (submission, job) in silent.items():
        jobs[name] = submission, Job(job.id, job.name, states.get(job.id, ""))
    return {name: _standing(runs / name, jobs.get(name)) for name in names}


def last_jobs(found: list[Submission]) -> dict[str, tuple[Submission, Job]]:
    """Each run's job: the one that waits or runs, or else the last one, in state '' where Slurm has forgotten it."""
    queued = _queued(found)
    jobs: dict[str, tuple[Submission, Job]] = {}
    for submission in found:
        for index, entry in enumerate(submission.entries):
            job = _job(submission, index, queued)
            before = jobs.get(entry.id)
            if job and (before is None or job.is_live or not before[1].is_live):
                jobs[entry.id] = submission, job
    return jobs


def _queued(found: list[Submission]) -> dict[tuple[str, int], Job]:
    if not any(submission.profile.executor == "slurm" for submission in found):
        return {}
    return {(job.name, job.index): job for job in queue.jobs()}


def _job(submission: Submission, index: int, queued: Mapping[tuple[str, int], Job]) -> Job | None:
    if submission.profile.executor == "local":
        return _local_job(submission, index)
    if (submission.name, index) in queued:
        return queued[submission.name, index]
    if not submission.jobs:
        return None
    single = len(submission.entries) == 1
    return Job(submission.jobs[0] if single else f"{submission.jobs[0]}_{index}", submission.name, "")


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


def _standing(folder: Path, found: tuple[Submission, Job] | None) -> Standing:
    submission, job = found or (None, None)
    record, damage = _record(folder)
    state, detail = _state(folder, record, damage, submission, job)
    return Standing(folder.name, state, detail, job, submission, record)


def _record(folder: Path) -> tuple[Record | None, str]:
    path = folder / RECORD_NAME
    try:
        return (Record.read(path) if path.exists() else None), ""
    except ValueError as error:
        return None, str(error)


def _state(
    folder: Path, record: Record | None, damage: str, submission: Submission | None, job: Job | None
) -> tuple[str, str]:
    if record and record.status == "done":
        return "done", ""
    if job and job.is_running:
        return "running", ""
    if job and job.is_live and job.state:
        return "pending", job.reason
    if damage:
        return "damaged", damage
    if record and record.status != "interrupted":
        return record.status, record.message
    return _ended_without_record(folder, record, submission, job)


def _ended_without_record(
    folder: Path, record: Record | None, submission: Submission | None, job: Job | None
) -> tuple[str, str]:
    events = attempts.read(folder)
    last_start = max((place for place, event in enumerate(events) if event["event"] == "start"), default=-1)
    whys = [event["why"] for event in events[last_start + 1 :]]
    why = whys[-1] if whys else ""
    if any("cancelled" in why for why in whys) or (job and job.state == "CANCELLED"):
        return "cancelled", f"at step {attempts.kept_step(folder)}"
    if why or record:
        return "interrupted", why or (record.message if record else "")
    if job is None or submission is None:
        return "not submitted", ""
    told = last_line(log_path(submission, job.id.removeprefix("local-")))
    state = job.state.lower() or "Slurm has forgotten it"
    return "lost", f"{state} and no record was written" + (f"; log: {told}" if told else "")
