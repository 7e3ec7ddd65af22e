"""Where every run of a runs folder stands: from the records in it, and one call of Slurm. Loads no torch."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.running import attempts
from benchmark.runtime.errors import UserError
from results.record import (
    MEASUREMENTS_NAME,
    NETWORK_NAME,
    SUITE_NAME,
    MeasurementRecord,
    NetworkRecord,
    OtherVersion,
    network_path,
)
from slurm import queue
from slurm.manifest import Submission, submissions

# What stands for the network among the ids of measurements.
NETWORK = ""
# What brings a run back: submit takes up the first ones by itself, retry also those that have failed.
UNFINISHED = ("not submitted", "interrupted", "cancelled", "lost")
FAILED = ("failed", "diverged", "out-of-memory", "damaged")
LIVE = ("pending", "running")
# Whether it waits or runs cannot be asked from here: it is not sent twice unless somebody says so.
UNKNOWN = "unknown"
# Lines of a log that Slurm wrote, from node or login node, and what the job's last act says where all went well.
_OF_SLURM = re.compile(r"(srun|slurmstepd(-[^:\s]+)?|requeue):")
# A record is there that may be whole, and that this code cannot read: nothing is done about it.
OTHER_VERSION = "of another version"


@dataclass(frozen=True)
class Records:
    """The records in a network's folder: its own, and those of its measurements by id; nothing is set aside.

    ``bad`` is what is wrong with the first that cannot be read.
    """

    network: NetworkRecord | None
    measurements: dict[str, MeasurementRecord]
    bad: ValueError | None

    @classmethod
    def of(cls, folder: Path) -> Records:
        """Of a network's folder, which need not be there."""
        network: NetworkRecord | None = None
        measurements: dict[str, MeasurementRecord] = {}
        bad: list[ValueError] = []
        for path in (network_path(folder), *sorted((folder / MEASUREMENTS_NAME).glob("*.json"))):
            try:
                if path.name == NETWORK_NAME:
                    network = NetworkRecord.read(path)
                else:
                    measurements[path.stem] = MeasurementRecord.read(path)
            except FileNotFoundError:
                continue
            except ValueError as error:
                bad.append(error)
        return cls(network, measurements, next(iter(bad), None))

    @property
    def is_made(self) -> bool:
        """Whether the network is there to be measured."""
        return self.network is not None and self.network.status == "done"

    def missing(self, listed: Iterable[str]) -> list[str]:
        """What did not end yet: the network (``NETWORK``), or what of ``listed`` is to be measured on it.

        Nothing where a record is of another version of spherebench: what that has done is not known here.
        """
        if isinstance(self.bad, OtherVersion):
            return []
        if self.network is None or self.network.status == "interrupted":
            return [NETWORK]
        found = self.measurements
        listed = listed if self.is_made else ()
        return [name for name in listed if name not in found or found[name].status == "interrupted"]

    def all(self) -> list[NetworkRecord | MeasurementRecord]:
        """Every record that there is, the network's first."""
        return [*([self.network] if self.network else []), *self.measurements.values()]

    def faults(self) -> list[tuple[str, str]]:
        """Status and message of everything that failed, the network first; the message names the probe."""
        return [
            (one.status, one.message if isinstance(one, NetworkRecord) else f"{one.probe} {one.status}: {one.message}")
            for one in self.all()
            if one.status not in ("done", "interrupted")
        ]


@dataclass
class Job:
    """One element of a submission's array: its state ('': Slurm has forgotten it), and why it waits.

    ``unknown`` says why nobody can tell from here what became of it; '' where one can.
    """

    submission: Submission
    id: str
    state: str
    reason: str = ""
    unknown: str = ""

    @property
    def is_live(self) -> bool:
        """Whether it waits or runs: one whose training has failed waits for ever, until Slurm notices."""
        return self.state not in {"", *queue.FINISHED} and self.reason != "DependencyNeverSatisfied"


@dataclass(frozen=True)
class Standing:
    """What has become of one run so far. ``state`` is a record's status, or one of ``UNFINISHED`` or ``LIVE``.

    ``job`` is the one that matters: the one that waits or runs, or else the last one for what is missing; ``trail``
    all jobs that it ever had. ``listed`` says how many measurements are wanted.
    """

    run: str
    state: str
    detail: str
    records: Records
    listed: int
    job: Job | None
    trail: list[Job]


def survey(runs: Path, wanted: Mapping[str, Iterable[str]] | None = None) -> dict[str, Standing]:
    """Where each run stands: of every submission, of every run folder, and of ``wanted`` (ids of measurements by run).

    Raises :class:`queue.NoAnswer` where Slurm has to be asked and does not answer. Another cluster need not answer:
    what is on it is unknown then.
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
    trails = _trails(found, [name for name in listed if records[name].missing(listed[name])])
    return {
        name: _standing(runs / name, records[name], list(ids), counts.get(name, 0), trails.get(name, []))
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


def _trails(found: list[Submission], unfinished: Iterable[str]) -> dict[str, list[Job]]:
    """Every job of each run, oldest first; the accounting is asked for those of ``unfinished`` that Slurm forgot."""
    queued, unknown = _queued([submission for submission in found if submission.profile.executor == "slurm"])
    trails: dict[str, list[Job]] = {}
    for submission in found:
        for index, entry in enumerate(submission.entries):
            if submission.profile.executor == "local":
                job = _local_job(submission, index)
            elif known := queued.get((submission.name, str(index))):
                job = Job(submission, *known)
            elif submission.jobs or submission.name in unknown:
                id = f"{submission.jobs[0]}_{index}" if submission.jobs else ""
                job = Job(submission, id, "", unknown=unknown.get(submission.name, ""))
            else:
                job = None
            if job:
                trails.setdefault(entry.id, []).append(job)
    forgotten: dict[str, list[Job]] = {}
    for job in (job for name in unfinished for job in trails.get(name, ()) if job.id and not job.state):
        forgotten.setdefault(job.submission.cluster, []).append(job)
    for cluster, some in forgotten.items():
        states = queue.accounted((job.id for job in some), cluster)
        for job in some:
            job.state = states.get(job.id, "")
            job.unknown = "" if job.state in queue.FINISHED else job.unknown
    return trails


def _queued(submissions: list[Submission]) -> tuple[dict[tuple[str, str], tuple[str, ...]], dict[str, str]]:
    """What is in Slurm's queues: id, state and reason by name and array index; and of which names nobody can tell, why.

    Other people's jobs are asked for by their names; a cluster that hides them shows none.
    """
    if not submissions:
        return {}, {}
    settings = queue.configuration() if any(submission.cluster for submission in submissions) else {}
    here, me = settings.get("ClusterName", ""), queue.user()
    groups: dict[tuple[str, bool], list[Submission]] = {}
    for submission in submissions:
        cluster = "" if submission.cluster == here else submission.cluster
        groups.setdefault((cluster, submission.user in ("", me)), []).append(submission)
    lines: list[list[str]] = []
    unknown: dict[str, str] = {}
    for (cluster, own), some in groups.items():
        if own and not cluster:
            lines += queue.jobs()
            continue
        try:
            found = queue.others_jobs(cluster, [submission.name for submission in some])
        except queue.NoAnswer as error:
            if not cluster:
                raise
            unknown |= dict.fromkeys((one.name for one in some), f"cluster {cluster} cannot be asked: {error}")
            continue
        lines += found
        if not own and (cluster or "jobs" in settings.get("PrivateData", "")):
            shown = {name for _, name, *_ in found}
            unknown |= {one.name: f"Slurm shows no job of {one.user}" for one in some if one.name not in shown}
    return {(name, id.partition("_")[2]): (id, *told) for id, name, *told in lines}, unknown


def _local_job(submission: Submission, index: int) -> Job | None:
    """The worker that has begun the run, or any that still may; on another machine nobody sees it."""
    here = submission.host == socket.gethostname()
    workers = [f"local-{pid}" for pid in submission.jobs]
    alive = [f"local-{pid}" for pid in submission.jobs if here and is_alive(pid)]
    starts = [event["job"] for event in attempts.read(submission.run_folder(index)) if event["event"] == "start"]
    began = starts[-1] if starts else None
    job = began if began in workers else next(iter(alive or workers), None)
    state = "RUNNING" if began in alive else "PENDING" if alive else "COMPLETED"
    unknown = "" if here else f"its worker is on {submission.host}, where spherebench status can tell"
    return Job(submission, job, state, unknown=unknown) if job else None


def is_alive(pid: str) -> bool:
    """Whether a worker submitted to this machine is still at work."""
    try:
        command = Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return False
    return b"submitit" in command


def _standing(folder: Path, records: Records, ids: list[str], count: int, trail: list[Job]) -> Standing:
    missing = records.missing(ids)
    stages = ("both", "train" if missing == [NETWORK] else "measure")
    fitting = [job for job in trail if job.submission.stage in stages]
    # Where both stages wait, the one that is missing tells why.
    candidates = (
        [job for job in fitting if job.is_live]
        or [job for job in trail if job.is_live]
        or fitting
        or [job for job in trail if job.unknown]
    )
    job = candidates[-1] if candidates else None
    listed = max(len(ids), count)
    ended = sum(record.status != "interrupted" for record in records.measurements.values())
    state, detail = _state(folder, records, bool(missing) or (records.is_made and ended < listed), job)
    return Standing(folder.name, state, detail, records, listed, job, trail)


def _state(folder: Path, records: Records, incomplete: bool, job: Job | None) -> tuple[str, str]:
    faults = records.faults()
    told = "; ".join(message for _, message in faults)
    if not (incomplete or faults or records.bad):
        return "done", ""
    if job and job.is_live:
        return ("running", told) if job.state in queue.RUNNING else ("pending", job.reason)
    if records.bad:
        return OTHER_VERSION if isinstance(records.bad, OtherVersion) else "damaged", str(records.bad)
    if not incomplete:
        return faults[0][0], told
    state, detail = _ended_without_record(folder, records, job)
    return state, "; ".join(filter(None, [detail, told]))


def _ended_without_record(folder: Path, records: Records, job: Job | None) -> tuple[str, str]:
    events = attempts.read(folder)
    last_start = max((place for place, event in enumerate(events) if event["event"] == "start"), default=-1)
    whys = [event["why"] for event in events[last_start + 1 :] if event["event"] == "end"]
    if any("cancelled" in why for why in whys) or (job and job.state == "CANCELLED"):
        return "cancelled", f"at {attempts.kept(folder)}"
    if job and job.unknown:
        return UNKNOWN, job.unknown
    interrupted = [record.message for record in records.all() if record.status == "interrupted"]
    if whys or interrupted:
        return "interrupted", (whys or interrupted)[-1]
    if job is None:
        return "not submitted", ""
    log = job.submission.log(job.id)
    if log.exists():
        told = f"its log ends: {last_line(log) or 'without a word, as where a node goes down'}"
    else:
        told = f"it left no log: it never began, or its node does not see {folder.parent}"
    return "lost", f"{job.state.lower() or 'Slurm has forgotten it'} and no record was written; {told}"


def last_line(path: Path) -> str:
    """The last line of a log that tells something: which is none of Slurm's own; '' where there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    told = [line.strip() for line in lines if line.strip() and not _OF_SLURM.match(line)]
    return told[-1] if told else ""
