"""A submission in sbatch's terms: its options, its shell lines, and a plain script for clusters without submitit."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from slurm.manifest import Submission
from slurm.profile import Resources

Option = str | int | bool


def options(submission: Submission) -> dict[str, Option]:
    """sbatch's options by their long names, without the array and the files of the log."""
    profile, asked = submission.profile, submission.resources
    wanted: dict[str, Option | None] = {
        "job-name": submission.name,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "nodes": asked.nodes,
        "ntasks-per-node": asked.tasks_per_node,
        "gpus-per-node": _gpus(asked),
        "cpus-per-task": asked.cpus_per_task,
        "mem": None if asked.memory_gb is None else f"{round(asked.memory_gb * 1024)}M",
        "time": asked.minutes,
        "signal": f"USR2@{profile.signal_seconds}",
        "requeue": True,
        "open-mode": "append",
        **profile.sbatch,
    }
    return {name: value for name, value in wanted.items() if value is not None and value is not False}


def _gpus(asked: Resources) -> int | str | None:
    if not asked.gpus_per_node:
        return None
    return f"{asked.gpu_type}:{asked.gpus_per_node}" if asked.gpu_type else asked.gpus_per_node


def array(submission: Submission) -> str:
    """The array's indices, and how many of its jobs may run at once."""
    count = len(submission.entries)
    return f"0-{count - 1}%{min(count, submission.profile.jobs_at_once or count)}"


def shell_lines(submission: Submission) -> list[str]:
    """What the batch script does before Python starts, and, by its exit trap, after it ended.

    The snapshot of the code goes before any installed one, and the folder submitted from does not go before it.
    """
    requeue = shlex.join([sys.executable, "-m", "slurm.requeue", str(submission.path)])
    return [
        *submission.profile.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in submission.profile.environment.items()),
        f"export PYTHONPATH={shlex.quote(submission.source.folder)}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1",
        "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}",
        f"trap {shlex.quote(f'{requeue} $?')} EXIT",
    ]


def srun_arguments() -> list[str]:
    """One task that dies takes the others with it: they would wait for it for ever."""
    return ["--kill-on-bad-exit=1"]


def submitit_parameters(submission: Submission) -> dict[str, Any]:
    """The same for submitit, which writes the batch script around them."""
    asked = submission.resources
    named = {"nodes", "ntasks-per-node", "cpus-per-task", "mem", "time", "job-name", "signal"}
    return {
        "name": submission.name,
        "timeout_min": asked.minutes,
        "nodes": asked.nodes,
        "tasks_per_node": asked.tasks_per_node,
        "cpus_per_task": asked.cpus_per_task,
        **({"mem_gb": asked.memory_gb} if asked.memory_gb else {}),
        "stderr_to_stdout": True,
        "slurm_signal_delay_s": submission.profile.signal_seconds,
        "slurm_array_parallelism": submission.profile.jobs_at_once or len(submission.entries),
        "slurm_setup": shell_lines(submission),
        "slurm_srun_args": srun_arguments(),
        "slurm_additional_parameters": {
            name: value for name, value in options(submission).items() if name not in named
        },
    }


def script(submission: Submission) -> str:
    """A batch script that does what the submission does, for ``sbatch`` by hand."""
    log = str(submission.folder / "%A_%a_0_log.out")
    flags = options(submission) | {"array": array(submission), "output": log}
    tasks = str(submission.folder / "%A_%a_%t_log.out")
    srun = shlex.join(["srun", "--unbuffered", f"--output={tasks}", *srun_arguments(), sys.executable])
    job = f"-u -m slurm.job {shlex.quote(str(submission.path))} $SLURM_ARRAY_TASK_ID"
    return "\n".join(
        [
            "#!/bin/bash",
            *(_flag(name, value) for name, value in flags.items()),
            "",
            *shell_lines(submission),
            "export SUBMITIT_EXECUTOR=slurm",
            f"{srun} {job}",
            "",
        ]
    )


def _flag(name: str, value: Option) -> str:
    return f"#SBATCH --{name}" if value is True else f"#SBATCH --{name}={shlex.quote(str(value))}"
