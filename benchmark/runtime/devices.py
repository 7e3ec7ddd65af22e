"""Which device a process computes on; and why a GPU can compute nothing, with the versions that decide it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import torch

from benchmark.runtime.errors import UserError


def resolve_device(name: str) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; of several tasks on a node, this one's.

    ``auto`` is a GPU where there is one, or where the job was given one. Raises :class:`UserError` for a device that is
    not there, and where tasks and GPUs do not go together.
    """
    if name == "auto":
        name = "cuda" if given_gpus() or torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # refused as any other that is neither
    if device.type not in {"cpu", "cuda"}:
        raise UserError(f"--set device: is {name!r}, must be auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return torch.device("cpu")
    seen, local_rank = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if not seen:
        raise UserError(f"no GPU can be used: {gpu_fault()}; --set device=cpu computes without")
    if device.index is not None and device.index >= seen:
        raise UserError(f"--set device: is {name!r}, but this process sees {seen} CUDA devices")
    return torch.device("cuda", own_gpu(local_rank, seen) if device.index is None else device.index)


def own_gpu(local_rank: int, seen: int) -> int:
    """Which of the GPUs that a task sees is its own: by its rank on the node of all, or the one that is bound to it."""
    if local_rank < seen:
        return local_rank
    if seen == 1:
        return 0
    raise UserError(
        f"task {local_rank} of this node sees {seen} GPUs: each task must see one of its own, or all of the node's"
    )


def check_apart(uses: Sequence[tuple[str, str]]) -> None:
    """Raise :class:`UserError` where two processes would share a GPU. ``uses``: node and GPU of each rank."""
    (node, gpu), count = Counter(uses).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} processes would share GPU {gpu} of {node}: start one for each GPU")


def given_gpus() -> str:
    """The GPUs that the job of this process was given, as its environment lists them; '' where it was given none."""
    names = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS") if "SLURM_JOB_ID" in os.environ else ("CUDA_VISIBLE_DEVICES",)
    listed = (os.environ.get(name, "") for name in names)
    return next((gpus for gpus in listed if gpus not in {"", "-1", "NoDevFiles"}), "")


def check_usable(device: torch.device) -> None:
    """Raise :class:`UserError` where a device cannot run a kernel, rather than after hours, or on the CPU."""
    if device.type == "cuda" and (fault := gpu_fault([device.index])):
        raise UserError(f"{device} cannot be used: {fault}")


def gpu_fault(indices: Iterable[int] | None = None) -> str:
    """Why torch can compute nothing on GPUs of this machine, all or those at ``indices``; '' where it can."""
    if without := built_without_cuda():
        return without
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a driver that is too old, which is raised as well
            torch.cuda.init()
            count = torch.cuda.device_count()
            for index in range(count) if indices is None else indices:
                if index >= count:
                    return f"torch sees {count}"
                torch.ones(1, device=f"cuda:{index}").add(1).item()
    except (RuntimeError, AssertionError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        return f"torch {torch.__version__}, built for CUDA {torch.version.cuda}, {driver()}: {said}"
    return "" if count else f"torch sees 0, {driver()}"


def built_without_cuda() -> str:
    """What to say of a torch that can use no GPU wherever it runs; '' of one that can."""
    has_any = torch.version.cuda is not None or torch.version.hip is not None
    return "" if has_any else f"torch {torch.__version__} was built without CUDA"


@cache
def driver() -> str:
    """The NVIDIA driver of this machine, in words."""
    loaded = Path("/proc/driver/nvidia/version")
    if loaded.exists() and (version := re.search(r"\b\d+\.\d+(?:\.\d+)?\b", loaded.read_text(encoding="utf-8"))):
        return f"driver {version[0]}"
    if shutil.which("nvidia-smi"):  # where it lies elsewhere, as in WSL
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        if told.returncode == 0 and told.stdout.strip():
            return f"driver {told.stdout.split()[0]}"
    return "no driver"
