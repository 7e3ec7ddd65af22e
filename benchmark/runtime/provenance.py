"""Where a number comes from: commit, versions, device, host, job.

What asks only for the job, as a batch script's last act does, does not load torch.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from results.record import Provenance

if TYPE_CHECKING:
    import torch

    from benchmark.runtime.process import Process

ROOT, SOURCE_NAME = Path(__file__).parents[2], "source.json"
_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(process: Process, started: str, attempts: int, lost_seconds: float) -> Provenance:
    import torch

    from benchmark.runtime.numerics import flags
    from methods.engine.forms import constants

    commit, dirty = _commit()
    versions = {name: _version(name) for name in _PACKAGES}
    return Provenance(
        commit=commit,
        dirty=dirty,
        versions={"python": platform.python_version(), **versions, **_of_gpu(process.device)},
        device=device_name(process.device),
        host=platform.node(),
        threads=torch.get_num_threads(),
        flags=flags(process.device),
        cost_model=asdict(constants()),
        world_size=process.world_size,
        jobs=process.jobs,
        slurm_job=job_id() if "SLURM_JOB_ID" in os.environ else None,
        attempts=attempts,
        lost_seconds=lost_seconds,
        started=started,
        finished=now(),
    )


def job_id() -> str | None:
    """The job this process is part of, as Slurm names it (``123`` or ``123_4``), or ``local-PID``; None outside one."""
    environment = os.environ
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    if "SUBMITIT_LOCAL_JOB_ID" in environment:
        return f"local-{environment['SUBMITIT_LOCAL_JOB_ID']}"
    return environment.get("SLURM_JOB_ID")


@cache
def _commit() -> tuple[str | None, bool | None]:
    """The commit of this code and whether files differ from it; (None, None) outside a checkout.

    A snapshot of the code carries its commit with it, in ``source.json``.
    """
    source = ROOT / SOURCE_NAME
    if source.exists():
        noted = json.loads(source.read_text(encoding="utf-8"))
        return noted["commit"], noted["dirty"]
    commit = checked_out()
    return commit, None if commit is None else bool(git("status", "--porcelain", "--untracked-files=no").strip())


def checked_out() -> str | None:
    """The commit of the checkout that this code is in; None where it is in none."""
    try:
        git("ls-files", "--error-unmatch", "benchmark/__init__.py")  # installed, it may lie in a repository of others
        return git("rev-parse", "HEAD").decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


@cache
def device_name(device: torch.device) -> str:
    """The name of the GPU, or of the processor."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(models, platform.processor() or platform.machine())}, {os.cpu_count()} cores"


@cache
def _of_gpu(device: torch.device) -> dict[str, str]:
    """The versions of what a GPU computes with; nothing on the CPU."""
    import torch

    from benchmark.runtime.devices import driver

    if device.type != "cuda":
        return {}
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    return {
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "nccl": nccl,
        "driver": driver().removeprefix("driver "),
    }


@cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
