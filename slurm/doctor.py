"""Is this machine ready? One line a check, and what to do about a no. Loads without torch, which may be missing."""

import fcntl
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.runtime.errors import UserError
from slurm import queue
from slurm.send import gpu_count


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
    fine = sys.version_info >= (3, 11)
    yield Finding("python", fine, platform.python_version(), "install Python 3.11 or newer")
    yield from _torch()
    yield from _slurm()
    yield _folder(runs)
    kind = unshared_filesystem(runs)
    advice = "fine on one machine; on a cluster choose a folder that every node sees"
    yield Finding("shared folder", kind is None, kind or "on a network file system", advice, needed=False)
    yield _data(data_root)


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import torch.distributed as dist
    except ImportError as error:
        yield Finding("torch", False, str(error), "install spherebench with its dependencies: pip install .")
        return
    from benchmark.runtime.devices import built_without_cuda, gpu_fault

    yield Finding("torch", True, torch.__version__)
    seen, count, fault = torch.cuda.device_count(), gpu_count(), gpu_fault()
    if not fault:
        names = ", ".join(sorted({torch.cuda.get_device_name(index) for index in range(seen)}))
        yield Finding("CUDA", True, f"{torch.version.cuda}, {seen} x {names}")
    elif count or seen:
        advice = "install a build of torch for the driver that nvidia-smi shows; jobs that are given GPUs fail"
        yield Finding("CUDA", False, f"{count or seen} GPUs that cannot be used: {fault}", advice)
    elif built_without_cuda():
        advice = "runs use the CPU, and jobs that are given GPUs fail: for those install a CUDA build of torch"
        yield Finding("CUDA", False, fault, advice, needed=False)
    else:
        advice = "fine on a login node; runs use the CPU where there is no GPU"
        yield Finding("CUDA", False, "no GPU on this machine", advice, needed=False)
    backends = [name for name in ("nccl", "gloo") if getattr(dist, f"is_{name}_available")()]
    advice = "runs over several GPUs need NCCL: install a CUDA build of torch"
    yield Finding("NCCL", "nccl" in backends, ", ".join(backends) or "no backend", advice, needed=count > 1)


def _slurm() -> Iterator[Finding]:
    names = ("sbatch", "squeue", "scancel", "scontrol", "srun", "sacct")
    missing = ", ".join(name for name in names if shutil.which(name) is None)
    advice = "log in to a login node, or use --cluster local"
    found = f"missing {missing}" if missing else ", ".join(names)
    yield Finding("Slurm commands", not missing, found, advice, needed=False)
    if shutil.which("sbatch") is None:
        yield Finding("Slurm controller", False, "not asked", "use --cluster local", needed=False)
        return
    try:
        yield Finding("Slurm controller", True, f"answers; {len(queue.jobs())} of your jobs")
    except UserError as error:
        yield Finding("Slurm controller", False, str(error), "ask the cluster's administrators")


def _folder(runs: Path) -> Finding:
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=runs) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        advice = "choose a folder with --out that can be written and locked, or go on with --set lock=false"
        return Finding("runs folder", False, f"{runs}: {error.strerror}", advice)
    free = shutil.disk_usage(runs).free / 2**30
    return Finding("runs folder", True, f"{runs.resolve()}, {free:.0f} GiB free")


def unshared_filesystem(runs: Path) -> str | None:
    """The type of the file system ``runs`` is on, where it is one that other machines do not see; else None."""
    shared = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse", "weka", "panfs", "pvfs", "afs", "smb", "cifs", "9p")
    path = os.path.realpath(runs)
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [(place, kind) for place, kind in mounts if f"{path}/".startswith(f"{place.rstrip('/')}/")]
    kind = max(holding, key=lambda mount: len(mount[0]))[1]
    return None if kind.startswith(shared) else kind


def _data(root: Path) -> Finding:
    advice = "spherebench datasets says how to get each; digits needs none"
    try:
        found = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    except OSError as error:
        return Finding("data sets", False, f"{root}: {error.strerror}", advice, needed=False)
    return Finding("data sets", bool(found), f"{root}: {', '.join(found) or 'none'}", advice, needed=False)
