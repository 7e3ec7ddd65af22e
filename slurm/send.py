"""Hand a submission to what executes it: Slurm, this machine in the background, or this process."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmark.runtime.errors import UserError
from benchmark.runtime.signals import stop_requests
from slurm import queue
from slurm.manifest import Submission
from slurm.profile import Profile, Resources

_PATIENCE_SECONDS = 60.0


def send(submission: Submission, after: str | None) -> Submission:
    """Send it, on Slurm to wait for the job ``after``; returns it with the ids of its jobs, and where they are.

    Raises :class:`UserError` in Slurm's own words where it refuses.
    """
    if submission.profile.executor == "slurm":
        with _outside_any_job(_overriding(submission)):
            job, _, cluster = _sent(submission, after).strip().partition(";")
        return submission.model_copy(update={"jobs": (job,), "cluster": cluster or submission.cluster})
    if submission.profile.executor == "local":
        return submission.model_copy(update={"jobs": _to_this_machine(submission)})
    from slurm.work import work

    with stop_requests() as requests:
        work(submission.path, tuple(range(len(submission.entries))), requests)
    return submission


def _sent(submission: Submission, after: str | None) -> str:
    """What ``sbatch --parsable`` says. Where its answer was lost, the queue tells whether the array is in it."""
    tries = 0

    def once() -> str:
        nonlocal tries
        tries += 1
        where = queue.on(str(submission.profile.sbatch.get("clusters", "")))
        query = ("squeue", *where, "--me", "-h", "-t", "all", f"--name={submission.name}", "-o", "%F")
        there = queue.call(*query).split() if tries > 1 else []
        return there[0] if there else queue.call(*shlex.split(_sbatch(submission, after)))

    return queue.patiently(_PATIENCE_SECONDS, once, lambda error: error.is_temporary)


def _sbatch(submission: Submission, after: str | None) -> str:
    """What sends the script; with ``after``, a job id, each job once the one of the same index has made its network."""
    waits = f"--dependency=aftercorr:{after} --kill-on-invalid-dep=yes " if after else ""
    return f"sbatch --parsable {waits}{shlex.quote(str(submission.script))}"


def by_hand(submissions: Sequence[Submission]) -> list[str]:
    """The lines of a shell that sends them: what waits for another names its job by a variable."""
    jobs = {submission.name: f"job{place}" for place, submission in enumerate(submissions)}
    calls = [_sbatch(submission, submission.after and f"${jobs[submission.after]}") for submission in submissions]
    # Where there are several clusters, sbatch says JOB;CLUSTER.
    pairs = zip(jobs.values(), calls, strict=True)
    return [
        *sorted({f"unset {' '.join(_overriding(submission))}" for submission in submissions}),
        *(f"{job}=$({call}) && {job}=${{{job}%%;*}} && echo submitted ${job}" for job, call in pairs),
    ]


def _options(submission: Submission) -> dict[str, str | int | bool]:
    """The options of sbatch, by their long names."""
    profile, count = submission.profile, len(submission.entries)
    own: dict[str, str | int | bool] = {
        "job-name": submission.name,
        "array": f"0-{count - 1}%{min(profile.jobs_at_once or count, count)}",
        "output": _log(submission, "0"),
        "open-mode": "append",
        "requeue": True,
        "signal": f"USR2@{profile.signal_seconds}",
    }
    return asked_options(profile, submission.resources, own)


def asked_options(profile: Profile, asked: Resources, own: Mapping[str, str | int | bool]) -> dict[str, Any]:
    """What a profile and its resources ask of sbatch, by its options' long names; ``own`` go before."""
    gpus = str(asked.gpus_per_node or "")
    options = {
        **{name.replace("_", "-"): value for name, value in profile.sbatch.items()},
        "time": asked.minutes,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "nodes": asked.nodes,
        "ntasks-per-node": asked.tasks_per_node,
        "gpus-per-node": ":".join(filter(None, [asked.gpu_type, gpus])) if gpus else None,
        "cpus-per-task": asked.cpus_per_task,
        "mem": None if asked.memory_gb is None else f"{round(asked.memory_gb * 1024)}M",
        **own,
    }
    return {name: value for name, value in sorted(options.items()) if value is not None and value is not False}


def _overriding(submission: Submission) -> list[str]:
    return _variables(_options(submission))


def _variables(options: Iterable[str]) -> list[str]:
    """Variables of the environment that go before what a script asks for by these options."""
    names = {"time": "TIMELIMIT", "array": "ARRAY_INX", "mem": "MEM_PER_NODE", "requeue": "NO_REQUEUE"}
    asked = (names.get(name, name.upper().replace("-", "_")) for name in options)
    return [f"SBATCH_{name}" for name in (*asked, "WAIT")]


def directives(options: Mapping[str, str | int | bool]) -> list[str]:
    """The lines of a batch script that say them."""
    return [
        f"#SBATCH --{name}" + ("" if value is True else f"={shlex.quote(str(value))}")
        for name, value in options.items()
    ]


def send_script(path: Path, options: Iterable[str]) -> str:
    """Hand a script to sbatch, which must heed no variable for what it asks; returns the job's id."""
    with _outside_any_job(_variables(options)):
        return queue.call("sbatch", "--parsable", str(path)).strip().partition(";")[0]


def script(submission: Submission) -> str:
    """The batch script. It is an array even of one job, so that jobs are told apart in one way."""
    given = directives(_options(submission))
    # One task that dies takes the others with it: they would wait for it for ever. What sbatch was told not to export
    # would be kept from the tasks as well, which srun does not give the cores of --cpus-per-task by itself either.
    told = [f"--cpus-per-task={submission.resources.cpus_per_task}", f"--output={_log(submission, '%t')}"]
    srun = shlex.join(["srun", "--unbuffered", "--kill-on-bad-exit=1", "--export=ALL", *told])
    return "\n".join(
        [
            "#!/bin/bash",
            *given,
            *_shell_lines(submission),
            # Whatever ends the job, its last act is to go back to the queue, where that is of use.
            f"trap {shlex.quote(f'{_last_act(submission)} $?')} EXIT",
            "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} SUBMITIT_EXECUTOR=slurm",
            f"{srun} {_job_command(submission)} $SLURM_ARRAY_TASK_ID",
            "",
        ]
    )


def _log(submission: Submission, task: str) -> str:
    """Where a task writes, as Slurm has it: in a path of its own, %% is a percent sign."""
    return f"{submission.folder}".replace("%", "%%") + f"/%A_%a_{task}_log.out"


def _job_command(submission: Submission, *indices: int) -> str:
    """What does the runs at ``indices``, in a shell."""
    return shlex.join([sys.executable, "-u", "-m", "slurm.job", str(submission.path), *map(str, indices)])


def _last_act(submission: Submission) -> str:
    return shlex.join([sys.executable, "-m", "slurm.requeue", str(submission.path)])


def _shell_lines(submission: Submission) -> list[str]:
    """What a job does before Python starts; a line of the profile's setup that fails ends it, and the record says so.

    The snapshot of the code goes before any installed one, and the folder submitted from does not go before it.
    """
    path = f"PYTHONPATH={shlex.quote(submission.source.folder)}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1"
    setup: list[str] = []
    for line in submission.profile.setup:
        last_act = f'{path} {_last_act(submission)} $? "$setup_line"'
        setup += [] if setup else [f"trap {shlex.quote(last_act)} EXIT"]
        setup += [f"setup_line={shlex.quote(line)}", line, "setup_code=$?; [ $setup_code = 0 ] || exit $setup_code"]
    return [
        *setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in submission.profile.environment.items()),
        f"export {path}",
    ]


def _to_this_machine(submission: Submission) -> tuple[str, ...]:
    """Start as many workers as may run at once; each takes the next run that nobody has begun.

    A worker is what LocalExecutor would start, a task a GPU under one controller; returned is its process's number.
    """
    from submitit.core.utils import environment_variables
    from submitit.local.local import start_controller

    asked, gpus = submission.resources.gpus_per_node, visible_gpus()
    if asked > len(gpus):
        raise UserError(f"gpus_per_node is {asked}, but there are {len(gpus)} GPUs to use here")
    each = max(asked, 1)
    # The GPUs of one worker after the other; one worker without any where there are none.
    shares = [gpus[first : first + each] for first in range(0, len(gpus) - each + 1, each)] or [()]
    job = _job_command(submission, *range(len(submission.entries)))
    # After these lines the shell becomes Python, so that signals reach that.
    lines = "\n".join([*_shell_lines(submission), f"exec {job}"])
    workers = min(submission.profile.jobs_at_once or len(shares), len(submission.entries))
    # What is started imports nothing of the folder it is started in: a random.py, say, of the user's own.
    with _outside_any_job(), _detached(), environment_variables(PYTHONSAFEPATH="1"):
        started = [
            start_controller(
                folder=submission.folder,
                command=shlex.join(["bash", "-c", lines]),
                tasks_per_node=each,
                cuda_devices=",".join(map(str, shares[worker % len(shares)])),
                timeout_min=submission.resources.minutes,
                stderr_to_stdout=True,
            )
            for worker in range(workers)
        ]
    return tuple(str(controller.pid) for controller in started)


def visible_gpus() -> tuple[int, ...]:
    """The GPUs of this machine that CUDA_VISIBLE_DEVICES lets through: all where it is not set.

    Raises :class:`UserError` where it does not number them.
    """
    count, chosen = gpu_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or count == 0:
        return tuple(range(count))
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    if not all(name.isdigit() and int(name) < count for name in names):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES is {chosen!r}, must be numbers below {count}: nvidia-smi lists {count} GPUs"
        )
    return tuple(int(name) for name in names)


def gpu_count() -> int:
    """How many NVIDIA GPUs this machine has."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


@contextmanager
def _outside_any_job(variables: Sequence[str] = ()) -> Iterator[None]:
    """Hide the job this process may be part of: a job submitted from it would inherit its limits and ranks.

    Hidden are also ``variables``.
    """
    from submitit.helpers import clean_env

    configuration = {"SLURM_CONF": os.environ["SLURM_CONF"]} if "SLURM_CONF" in os.environ else {}
    hidden = {name: os.environ.pop(name) for name in variables if name in os.environ}
    with clean_env() if "SLURM_JOB_ID" in os.environ else nullcontext():
        os.environ.update(configuration)
        try:
            yield
        finally:
            os.environ.update(hidden)


@contextmanager
def _detached() -> Iterator[None]:
    """What is started inside outlives this terminal, and does not write to it."""
    with ExitStack() as undo:
        undo.callback(signal.signal, signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_IGN))
        nowhere = os.open(os.devnull, os.O_RDWR)
        undo.callback(os.close, nowhere)
        for descriptor in range(3):
            copy = os.dup(descriptor)
            undo.callback(os.close, copy)
            undo.callback(os.dup2, copy, descriptor)
            os.dup2(nowhere, descriptor)
        yield
