"""Is this machine ready? One line a check, and what to do about a no."""

from __future__ import annotations

import fcntl
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.runtime.errors import UserError
from slurm import queue
from slurm.execution import gpu_count
from slurm.submit import unshared_filesystem


@dataclass(frozen=True)
class Finding:
    """One check: what, whether it is fine, what was found, and what to do where it is not."""

    what: str
    fine: bool
    found: str
    advice: str = ""
    needed: bool = True


def examine(runs: Path, data_root: Path) -> Iterator[Finding]:
    """Every check, one after the other; some take seconds."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _torch,
        _cuda,
        _nccl,
        _slurm_commands,
        _slurm_answers,
        lambda: _folder(runs),
        lambda: _shared(runs),
        lambda: _data(data_root),
    )
    for check in checks:
        yield check()


def _python() -> Finding:
    fine = sys.version_info >= (3, 11)
    return Finding("python", fine, platform.python_version(), "install Python 3.11 or newer")


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("torch", False, str(error), "install spherebench with its dependencies: pip install .")
    return Finding("torch", True, torch.__version__)


def _cuda() -> Finding:
    import torch

    there, count = torch.cuda.is_available(), gpu_count()
    if there:
        names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
        return Finding("CUDA", True, f"{torch.version.cuda}, {torch.cuda.device_count()} x {', '.join(sorted(names))}")
    if count:
        advice = "this torch has no CUDA: install a build for the driver that nvidia-smi shows"
        return Finding("CUDA", False, f"{count} GPUs that torch does not see", advice)
    advice = "fine on a login node; runs use the CPU where there is no GPU"
    return Finding("CUDA", False, "no GPU on this machine", advice, needed=False)


def _nccl() -> Finding:
    import torch.distributed as dist

    backends = [name for name in ("nccl", "gloo") if getattr(dist, f"is_{name}_available")()]
    advice = "runs over several GPUs need NCCL: install a CUDA build of torch"
    return Finding("NCCL", "nccl" in backends, ", ".join(backends) or "no backend", advice, needed=gpu_count() > 1)


def _slurm_commands() -> Finding:
    names = ("sbatch", "squeue", "scancel", "scontrol", "srun", "sacct")
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return Finding("Slurm commands", True, ", ".join(names))
    advice = "log in to a login node, or use --cluster local"
    return Finding("Slurm commands", False, f"missing {', '.join(missing)}", advice, needed=False)


def _slurm_answers() -> Finding:
    if not queue.has_slurm():
        return Finding("Slurm controller", False, "not asked", "use --cluster local", needed=False)
    try:
        count = len(queue.jobs())
    except UserError as error:
        return Finding("Slurm controller", False, str(error), "ask the cluster's administrators")
    return Finding("Slurm controller", True, f"answers; {count} of your jobs")


def _folder(runs: Path) -> Finding:
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=runs) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        advice = "choose a folder with --out that can be written and locked (Lustre: mounted with flock)"
        return Finding("runs folder", False, f"{runs}: {error.strerror}", advice)
    free = shutil.disk_usage(runs).free / 2**30
    return Finding("runs folder", True, f"{runs.resolve()}, {free:.0f} GiB free")


def _shared(runs: Path) -> Finding:
    kind = unshared_filesystem(runs)
    advice = "fine on one machine; on a cluster choose a folder that every node sees"
    return Finding("shared folder", kind is None, kind or "on a network file system", advice, needed=False)


def _data(root: Path) -> Finding:
    advice = "spherebench datasets tells how to get each; digits needs none"
    try:
        found = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    except OSError as error:
        return Finding("data sets", False, f"{root}: {error.strerror}", advice, needed=False)
    return Finding("data sets", bool(found), f"{root}: {', '.join(found) or 'none'}", advice, needed=False)
