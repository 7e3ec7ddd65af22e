"""What a job does as its last act, from the batch script: ``python -m slurm.requeue MANIFEST EXIT_CODE [SETUP]``.

A run whose process was asked to save, or died, goes back to the queue and on from what it had saved. It does not where
Slurm has ended the job itself (cancelled, or already requeued), where all the job is for has its records, or where it
ended as often as ``FRUITLESS`` times without getting any further: then what it was at, the network or one measurement,
gets a record that says so, and the job goes on with the other measurements. One that was asked each time is no failure:
it stays interrupted, and the next ``submit`` goes on with it. Where a line of the profile's ``setup`` failed, that
is the record: it would again, on a node like this.
"""

import os
import platform
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.running import attempts
from benchmark.runtime.errors import UserError
from benchmark.runtime.output import spell_out
from benchmark.runtime.provenance import job_id, now
from results.record import MeasurementRecord, NetworkRecord, Provenance, measurement_path, network_path
from slurm import queue
from slurm.manifest import Submission
from slurm.survey import NETWORK, Records, last_line

# Exit codes of a job beside 0 (everything is done) and 1 (a record says failed).
ASKED = 75  # asked to stop, and saved
DISK_FULL = 74
_WHY = {ASKED: "asked to stop", DISK_FULL: "no space left on the disk"}
FRUITLESS = 3
# "Detected 1 oom_kill event in StepId=7.0", "exceeded memory limit": slurmstepd in the log, by version.
_OUT_OF_MEMORY = re.compile(r"slurmstepd.*(oom[-_]kill|memory limit)", re.IGNORECASE)
# Slurm may be away for as long as its update takes. It ends by itself what goes on beyond the job's time limit.
_PATIENCE_SECONDS = 600.0


def main(manifest: Path, code: int, setup: str = "") -> None:
    """Note why the job ended, by itself or in a line of its ``setup``, and send it back to the queue where of use."""
    submission = Submission.read(manifest)
    if setup and 0 < code < 128:
        told = last_line(submission.log(str(job_id())))
        message = f"setup line {setup!r} ended with exit code {code}" + (f"; log: {told}" if told else "")
        fail(submission, message, _indices(submission))
    if submission.profile.executor == "local":
        return
    (index,) = _indices(submission)
    folder = submission.run_folder(index)
    if code == 0 or not missing(submission, index):
        return
    try:
        asked = queue.ask(_PATIENCE_SECONDS, "squeue", "-h", "-t", "all", "-j", str(job_id()), "-o", "%T")
    except queue.NoAnswer as error:
        print(f"not asked how the job is: {error}", flush=True)
        asked = "RUNNING"  # as it does as long as this goes on, most likely
    state = asked.strip()
    if state != "RUNNING":
        attempts.end(folder, f"ended by Slurm: {state.lower()}", code=code)
        return
    cause = ASKED if has_saved(folder) else code
    why = in_words(cause)
    attempts.end(folder, why, code=code)
    if code == DISK_FULL:
        return
    if fruitless_ends(folder) >= FRUITLESS:
        if cause == ASKED:
            print(f"requeue: {why} {FRUITLESS} times at {attempts.kept(folder)}: left to the next submit", flush=True)
            return
        give_up(submission, index, code)
        if not missing(submission, index):
            return
    print(f"requeue: {why}; goes on from {attempts.kept(folder)}", flush=True)
    queue.ask(_PATIENCE_SECONDS, "scontrol", "requeue", str(job_id()))


def _indices(submission: Submission) -> tuple[int, ...]:
    """The runs of this job: one of an array, or all where the worker of a machine takes one after the other."""
    if submission.profile.executor == "local":
        return tuple(range(len(submission.entries)))
    return (int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")),)


def missing(submission: Submission, index: int) -> list[str]:
    """What the job of this index is for and has no record of its end, as :meth:`slurm.survey.Records.missing`."""
    listed = () if submission.stage == "train" else submission.entries[index].measurements
    found = Records.of(submission.run_folder(index)).missing(listed)
    return [] if submission.stage == "measure" and found == [NETWORK] else found


def has_saved(folder: Path) -> bool:
    """Whether this attempt was asked to stop and says that it saved.

    Its exit code need not: of several tasks the first to end has srun kill the others, and the highest code is given.
    """
    attempt = attempts.count(folder)
    return any(r.status == "interrupted" and r.provenance.attempts == attempt for r in Records.of(folder).all())


def in_words(code: int) -> str:
    """Why a process with this exit code ended."""
    if code in _WHY:
        return _WHY[code]
    if code > 128:
        names = {int(number): number.name for number in signal.Signals}
        return f"killed by {names.get(code - 128, f'signal {code - 128}')}"
    return f"exit code {code}"


def fruitless_ends(folder: Path) -> int:
    """How many of this job's last ends had kept no more than is kept now."""
    job = job_id()
    ends = [event["kept"] for event in attempts.read(folder) if event["event"] == "end" and event["job"] == job]
    here = attempts.kept(folder)
    return next((count for count, kept in enumerate(reversed(ends)) if kept != here), len(ends))


def give_up(submission: Submission, index: int, code: int) -> None:
    """Write the record of what ends the process again and again: the network, or the measurement that it was at.

    Where not one was begun, none can be: all that are missing.
    """
    folder = submission.run_folder(index)
    message = f"ended {FRUITLESS} times at {attempts.kept(folder)} without getting further: {in_words(code)}"
    log = submission.log(str(job_id()))
    message += f"; log: {line}" if (line := last_line(log)) else ""
    # Slurm's own lines, at the end, are none of those that tell something.
    ending = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:] if log.exists() else ()
    if any(map(_OUT_OF_MEMORY.search, ending)):
        message += f"; out of memory: spherebench retry {submission.runs} --resource memory_gb=... asks for more"
    ids, begun = missing(submission, index), attempts.begun(folder)
    for name in [begun] if begun in ids else ids:
        write_failure(submission, index, name, message)


def fail(submission: Submission, message: str, indices: Iterable[int]) -> None:
    """Write a failure for all that these runs are for and have no record of: nothing of it can be begun."""
    for index in indices:
        for name in missing(submission, index):
            write_failure(submission, index, name, message)


def write_failure(submission: Submission, index: int, name: str, message: str) -> None:
    """Write the record of what did not live to tell that it failed: the network (``NETWORK``), or a measurement."""
    entry, folder = submission.entries[index], submission.run_folder(index)
    events = attempts.read(folder)
    provenance = Provenance(
        commit=submission.source.commit,
        dirty=submission.source.dirty,
        versions={"python": platform.python_version()},
        device="unknown",
        host=platform.node(),
        threads=submission.resources.cpus_per_task,
        world_size=submission.resources.nodes * submission.resources.tasks_per_node,
        slurm_job=job_id(),
        attempts=attempts.count(folder),
        lost_seconds=attempts.lost_seconds(folder),
        started=events[0]["time"] if events else now(),
        finished=now(),
    )
    outcome: dict[str, Any] = {"status": "failed", "message": message, "provenance": provenance}
    if name == NETWORK:
        network = {"suite": submission.suite, "title": entry.title, "network": entry.network, "axes": entry.axes}
        NetworkRecord(id=entry.id, **network, **outcome).write(network_path(folder))
    else:
        settings = entry.measurements[name]
        record = MeasurementRecord(id=name, network=entry.id, probe=settings["probe"], settings=settings, **outcome)
        record.write(measurement_path(folder, name))


if __name__ == "__main__":
    spell_out()
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
    except (UserError, ValueError, OSError) as error:
        print(f"not requeued: {error}", file=sys.stderr)
