"""Hand a submission to what executes it: Slurm, this machine in the background, or this process."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from io import StringIO
from typing import Any

from benchmark.runtime.errors import UserError
from slurm import sbatch
from slurm.job import SIGNALS, Task, margin_seconds
from slurm.manifest import Submission
from slurm.queue import has_slurm, own_words


def send(submission: Submission) -> tuple[str, ...]:
    """Send it; returns the ids of its jobs. Raises :class:`UserError` in Slurm's own words where it refuses."""
    return {"slurm": _to_slurm, "local": _to_this_machine, "debug": _in_this_process}[submission.profile.executor](
        submission
    )


def _task(submission: Submission, *indices: int) -> Task:
    return Task(str(submission.path), indices, margin_seconds(submission.profile.signal_seconds))


def _to_slurm(submission: Submission) -> tuple[str, ...]:
    if not has_slurm():
        raise UserError("sbatch: there is no Slurm on this machine; use --cluster local, or a login node")
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.AutoExecutor(folder=submission.folder, cluster="slurm")
    executor.update_parameters(**sbatch.submitit_parameters(submission))
    tasks = [_task(submission, index) for index in range(len(submission.entries))]
    with _outside_any_job(), redirect_stderr(StringIO()) as words:
        try:
            with executor.batch():
                jobs = [executor.submit(task) for task in tasks]
        except (FailedJobError, FailedSubmissionError) as error:
            raise UserError(f"sbatch: {own_words(words.getvalue() or str(error))}") from error
    return (jobs[0].job_id.partition("_")[0],)


def _in_this_process(submission: Submission) -> tuple[str, ...]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with suppress(SystemExit):  # the records tell what became of the runs
            _task(submission, *range(len(submission.entries)))()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return ()


def _to_this_machine(submission: Submission) -> tuple[str, ...]:
    """Start as many workers as may run at once; each takes the next run that nobody has begun."""
    import submitit

    asked, gpus = submission.resources.gpus_per_node, visible_gpus()
    if asked > len(gpus):
        raise UserError(f"gpus_per_node is {asked}, but there are {len(gpus)} GPUs to use here")
    shares = _shares(gpus, max(asked, 1))
    workers = min(submission.profile.jobs_at_once or len(shares), len(submission.entries))
    jobs = []
    for worker in range(workers):
        # AutoExecutor does not know of visible_gpus.
        executor = submitit.LocalExecutor(folder=submission.folder, python=_python(submission.profile.setup))
        executor.update_parameters(**_local_parameters(submission, shares[worker % len(shares)]))
        with _outside_any_job(), _code_of(submission), _detached():
            jobs.append(executor.submit(_task(submission, *range(len(submission.entries)))).job_id)
    return tuple(jobs)


def _shares(gpus: Sequence[int], each: int) -> list[tuple[int, ...]]:
    """The GPUs of one worker after the other; one worker without any where there are none."""
    return [tuple(gpus[first : first + each]) for first in range(0, len(gpus) - each + 1, each)] or [()]


def _local_parameters(submission: Submission, gpus: tuple[int, ...]) -> dict[str, Any]:
    return {
        "timeout_min": submission.resources.minutes,
        "tasks_per_node": max(len(gpus), 1),
        "stderr_to_stdout": True,
        "gpus_per_node": len(gpus),
        "visible_gpus": gpus,
    }


def _python(setup: Sequence[str]) -> str:
    """The command of a task: after the profile's lines the shell becomes Python, so that signals reach that.

    submitit's own setup lines stay between: the job is then a shell, which a signal ends alone.
    """
    lines = " && ".join([*setup, f'exec {shlex.quote(sys.executable)} "$@"'])
    return shlex.join(["bash", "-c", lines, "python"]) if setup else shlex.quote(sys.executable)


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
def _outside_any_job() -> Iterator[None]:
    """Hide the job this process may be part of: a job submitted from it would inherit its limits and ranks."""
    from submitit.helpers import clean_env

    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    configuration = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with clean_env():
        os.environ.update(configuration)
        yield


@contextmanager
def _code_of(submission: Submission) -> Iterator[None]:
    """The environment of a local worker: the snapshot of the code, the profile's own variables."""
    before = dict(os.environ)
    path = [submission.source.folder, *filter(None, [before.get("PYTHONPATH")])]
    os.environ.update(submission.profile.environment, PYTHONPATH=":".join(path), PYTHONSAFEPATH="1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _detached() -> Iterator[None]:
    """What is started inside outlives this terminal, and does not write to it."""
    kept = [os.dup(descriptor) for descriptor in range(3)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        yield
    finally:
        for descriptor, copy in enumerate(kept):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)
        signal.signal(signal.SIGHUP, before)
