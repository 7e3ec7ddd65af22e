"""A submission as a batch script, which submitit writes, and the command that sends it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from slurm.manifest import Submission
from slurm.profile import Resources


def path(submission: Submission) -> Path:
    """Where its script lies."""
    return submission.folder / "job.sh"


def script(submission: Submission) -> str:
    """The batch script. It is an array even of one job, so that jobs are told apart in one way."""
    # What SlurmExecutor writes its scripts with: that can only be made where there is Slurm, and pickles its tasks.
    from submitit.slurm.slurm import _make_sbatch_string

    profile, asked = submission.profile, submission.resources
    options: dict[str, str | int | bool | None] = {
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "gpus-per-node": _gpus(asked),
        "mem": None if asked.memory_gb is None else f"{round(asked.memory_gb * 1024)}M",
        "requeue": True,
        **profile.sbatch,
    }
    # Whatever ends the job, its last act is to go back to the queue, where that is of use.
    requeue = shlex.join([sys.executable, "-m", "slurm.requeue", str(submission.path)])
    last = ["export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}", f"trap {shlex.quote(f'{requeue} $?')} EXIT"]
    text: str = _make_sbatch_string(
        command=f"{job_command(submission)} $SLURM_ARRAY_TASK_ID",
        folder=submission.folder,
        job_name=submission.name,
        time=asked.minutes,
        nodes=asked.nodes,
        ntasks_per_node=asked.tasks_per_node,
        cpus_per_task=asked.cpus_per_task,
        signal_delay_s=profile.signal_seconds,
        map_count=len(submission.entries),
        array_parallelism=profile.jobs_at_once or len(submission.entries),
        stderr_to_stdout=True,
        setup=[*shell_lines(submission), *last],
        # One task that dies takes the others with it: they would wait for it for ever.
        srun_args=["--kill-on-bad-exit=1"],
        additional_parameters={
            name: value for name, value in options.items() if value is not None and value is not False
        },
    )
    return text


def job_command(submission: Submission, *indices: int) -> str:
    """What does the runs at ``indices``, in a shell."""
    return shlex.join([sys.executable, "-u", "-m", "slurm.job", str(submission.path), *map(str, indices)])


def flags(submission: Submission) -> list[str]:
    """sbatch's options in the script, as a command line has them."""
    return [line.removeprefix("#SBATCH ") for line in script(submission).splitlines() if line.startswith("#SBATCH ")]


def command(submission: Submission, after: str | None) -> list[str]:
    """What sends the script; with ``after``, a job id, each job once the one of the same index has made its network."""
    waits = [f"--dependency=aftercorr:{after}", "--kill-on-invalid-dep=yes"] if after else []
    return ["sbatch", "--parsable", *waits, str(path(submission))]


def by_hand(submissions: Sequence[Submission]) -> list[str]:
    """The lines of a shell that sends them: what waits for another names its job by a variable."""
    lines, places = [], {submission.name: f"job{place}" for place, submission in enumerate(submissions)}
    for submission in submissions:
        after = f"${places[submission.after]}" if submission.after else None
        sends = " ".join(
            word if word.startswith("--dependency=") else shlex.quote(word) for word in command(submission, after)
        )
        lines.append(f"{places[submission.name]}=$({sends}) && echo submitted ${places[submission.name]}")
    return lines


def _gpus(asked: Resources) -> int | str | None:
    if not asked.gpus_per_node:
        return None
    return f"{asked.gpu_type}:{asked.gpus_per_node}" if asked.gpu_type else asked.gpus_per_node


def shell_lines(submission: Submission) -> list[str]:
    """What a job does before Python starts.

    The snapshot of the code goes before any installed one, and the folder submitted from does not go before it.
    """
    return [
        *submission.profile.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in submission.profile.environment.items()),
        f"export PYTHONPATH={shlex.quote(submission.source.folder)}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1",
    ]
