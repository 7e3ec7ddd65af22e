"""What a job does as its last act, from the batch script: ``python -m slurm.requeue MANIFEST EXIT_CODE``.

A run whose process was asked to save, or died, goes back to the queue and on from what it had saved. It does not where
Slurm has ended the job itself (cancelled, or already requeued), where all the job is for has its records, or where it
ended as often as ``FRUITLESS`` times without getting any further: then what it was at, the network or one measurement,
gets a record that says so, and the job goes on with the other measurements. One that was asked each time is no failure:
it stays interrupted, and the next ``submit`` goes on with it.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmark.running import attempts
from benchmark.runtime.errors import UserError
from benchmark.runtime.provenance import job_id
from results.record import Provenance, measurement_path, network_path
from slurm.manifest import Submission
from slurm.queue import call
from slurm.records import NETWORK, Records

# Exit codes of a job beside 0 (everything is done) and 1 (a record says failed).
ASKED = 75  # asked to stop, and saved
DISK_FULL = 74
FRUITLESS = 3


def main(manifest: Path, code: int) -> None:
    """Note why the job ended, and send it back to the queue where that is of use."""
    submission = Submission.read(manifest)
    index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    folder = submission.run_folder(index)
    if code == 0 or not missing(submission, index):
        return
    state = job_state()
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
    call("scontrol", "requeue", str(job_id()))


def missing(submission: Submission, index: int) -> list[str]:
    """What the job of this index is for and has no record of its end, as :meth:`slurm.records.Records.missing`."""
    listed = () if submission.stage == "train" else submission.entries[index].measurements
    found = Records.of(submission.run_folder(index)).missing(listed)
    return [] if submission.stage == "measure" and found == [NETWORK] else found


def has_saved(folder: Path) -> bool:
    """Whether this attempt was asked to stop and says that it saved.

    Its exit code need not: of several tasks the first to end has srun kill the others, and the highest code is given.
    """
    attempt = attempts.count(folder)
    return any(r.status == "interrupted" and r.provenance.attempts == attempt for r in Records.of(folder).all())


def job_state() -> str:
    """The state of this job, as Slurm has it."""
    return call("squeue", "-h", "-t", "all", "-j", str(job_id()), "-o", "%T").strip()


def in_words(code: int) -> str:
    """Why a process with this exit code ended."""
    if code == ASKED:
        return "asked to stop"
    if code == DISK_FULL:
        return "no space left on the disk"
    if code > 128:
        return f"killed by {_signal_name(code - 128)}"
    return f"exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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
    line = last_line(log_path(submission, str(job_id())))
    message += f"; log: {line}" if line else ""
    provenance = bare_provenance(submission, folder)
    ids, begun = missing(submission, index), attempts.begun(folder)
    for name in [begun] if begun in ids else ids:
        if name == NETWORK:
            submission.failed_network(index, message, provenance).write(network_path(folder))
        else:
            record = submission.failed_measurement(index, name, message, provenance)
            record.write(measurement_path(folder, name))


def bare_provenance(submission: Submission, folder: Path) -> Provenance:
    """What is known of a run that did not live to tell."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    events = attempts.read(folder)
    return Provenance(
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
        started=events[0]["time"] if events else now,
        finished=now,
    )


def log_path(submission: Submission, job: str) -> Path:
    """Where the first task of a job writes."""
    return submission.folder / f"{job}_0_log.out"


def last_line(path: Path) -> str:
    """The last line of a log that tells something: which is none of Slurm's own; '' where there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    own = ("srun:", "slurmstepd:", "requeue:")
    told = [line.strip() for line in lines if line.strip() and not line.startswith(own)]
    return told[-1] if told else ""


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except (UserError, ValueError, OSError) as error:
        print(f"requeue: {error}", file=sys.stderr)
