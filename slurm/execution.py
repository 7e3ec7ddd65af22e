"""Hand a submission to what executes it: Slurm, this machine in the background, or this process."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmark.runtime.errors import UserError
from benchmark.runtime.signals import stop_requests
from slurm import queue, sbatch
from slurm.manifest import Submission


def send(submission: Submission, after: str | None) -> tuple[str, ...]:
    """Send it, on Slurm to wait for the job ``after``; returns the ids of its jobs.

    Raises :class:`UserError` in Slurm's own words where it refuses.
    """
    if submission.profile.executor == "slurm":
        with _outside_any_job():
            return (queue.call(*sbatch.command(submission, after)).strip().partition(";")[0],)
    if submission.profile.executor == "local":
        return _to_this_machine(submission)
    from slurm.work import work

    with stop_requests() as requests:
        work(submission.path, tuple(range(len(submission.entries))), requests)
    return ()


def _to_this_machine(submission: Submission) -> tuple[str, ...]:
    """Start as many workers as may run at once; each takes the next run that nobody has begun."""
    asked, gpus = submission.resources.gpus_per_node, visible_gpus()
    if asked > len(gpus):
        raise UserError(f"gpus_per_node is {asked}, but there are {len(gpus)} GPUs to use here")
    shares = _shares(gpus, max(asked, 1))
    workers = min(submission.profile.jobs_at_once or len(shares), len(submission.entries))
    with _outside_any_job(), _detached():
        return tuple(_worker(submission, shares[worker % len(shares)]) for worker in range(workers))


def _worker(submission: Submission, gpus: tuple[int, ...]) -> str:
    """Start what LocalExecutor would, a task a GPU under one controller; returns its process's number."""
    from submitit.local.local import start_controller

    job = sbatch.job_command(submission, *range(len(submission.entries)))
    # After these lines the shell becomes Python, so that signals reach that.
    lines = " && ".join([*sbatch.shell_lines(submission), f"exec {job}"])
    started = start_controller(
        folder=submission.folder,
        command=shlex.join(["bash", "-c", lines]),
        tasks_per_node=max(len(gpus), 1),
        cuda_devices=",".join(map(str, gpus)),
        timeout_min=submission.resources.minutes,
        stderr_to_stdout=True,
    )
    return str(started.pid)


def _shares(gpus: Sequence[int], each: int) -> list[tuple[int, ...]]:
    """The GPUs of one worker after the other; one worker without any where there are none."""
    return [tuple(gpus[first : first + each]) for first in range(0, len(gpus) - each + 1, each)] or [()]


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
