"""What a job does as its last act, from the batch script: ``python -m slurm.requeue MANIFEST EXIT_CODE``.

A run whose process was asked to save, or died, goes back to the queue and on from its last checkpoint. It does not
where Slurm has ended the job itself (cancelled, or already requeued), where the run has its record, or where it ended
as often as ``FRUITLESS`` times without getting any further: then it gets a record that says so. One that was asked each
time, in a long evaluation maybe, is no failure: it stays interrupted, and the next ``submit`` goes on with it.
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
from results.record import RECORD_NAME, Provenance, Record
from slurm.manifest import Submission
from slurm.queue import call

# Exit codes of a job beside 0 (every run has its record, and is done) and 1 (one has a record that says failed).
ASKED = 75  # asked to stop, and saved
DISK_FULL = 74
FRUITLESS = 3


def main(manifest: Path, code: int) -> None:
    """Note why the job ended, and send it back to the queue where that is of use."""
    submission = Submission.read(manifest)
    index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    folder = submission.run_folder(index)
    if code == 0 or has_record(folder):
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
    if fruitless_ends(folder) < FRUITLESS:
        print(f"requeue: {why}; goes on from step {attempts.kept_step(folder)}", flush=True)
        call("scontrol", "requeue", str(attempts.job_id()))
    elif cause == ASKED:
        print(
            f"requeue: {why} {FRUITLESS} times at step {attempts.kept_step(folder)}: left to the next submit",
            flush=True,
        )
    else:
        give_up(submission, index, code)


def has_record(folder: Path) -> bool:
    """Whether the run has a record, other than one that says it was interrupted."""
    path = folder / RECORD_NAME
    try:
        return path.exists() and Record.read(path).status != "interrupted"
    except ValueError:
        return False


def has_saved(folder: Path) -> bool:
    """Whether this attempt was asked to stop and says that it saved.

    Its exit code need not: of several tasks the first to end has srun kill the others, and the highest code is given.
    """
    path = folder / RECORD_NAME
    try:
        record = Record.read(path) if path.exists() else None
    except ValueError:
        return False
    attempt = attempts.count(folder)
    return record is not None and record.status == "interrupted" and record.provenance.attempts == attempt


def job_state() -> str:
    """The state of this job, as Slurm has it."""
    return call("squeue", "-h", "-t", "all", "-j", str(attempts.job_id()), "-o", "%T").strip()


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
    """How many of this job's last ends were at the step that is kept now."""
    job = attempts.job_id()
    steps = [event["step"] for event in attempts.read(folder) if event["event"] == "end" and event["job"] == job]
    here = attempts.kept_step(folder)
    return next((count for count, step in enumerate(reversed(steps)) if step != here), len(steps))


def give_up(submission: Submission, index: int, code: int) -> None:
    """Write the record of a run that ends again and again where it began."""
    folder = submission.run_folder(index)
    message = f"ended {FRUITLESS} times at step {attempts.kept_step(folder)} without getting further: {in_words(code)}"
    line = last_line(log_path(submission, str(attempts.job_id())))
    provenance = bare_provenance(submission, folder)
    submission.failure(index, f"{message}; log: {line}" if line else message, provenance).write(folder)


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
        slurm_job=attempts.job_id(),
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
