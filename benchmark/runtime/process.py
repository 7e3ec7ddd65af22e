"""One process among several: who it is, its device, and what the others say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from benchmark.runtime.errors import UserError

# What processes tell each other goes through gloo, between CPUs: through NCCL the host would wait for the GPU at every
# step, and a GPU for its turn during an evaluation.
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
# The main process evaluates while the others wait for it at a collective: evaluation may take hours on ImageNet.
_PATIENCE = timedelta(hours=12)


T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """This process. ``group`` is None where it is alone."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    group: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and evaluates."""
        return self.rank == 0

    def highest(self, level: int) -> int:
        """The highest ``level`` of any process; the same answer on all of them."""
        if self.group is None:
            return level
        levels = torch.tensor([level])
        dist.all_reduce(levels, op=dist.ReduceOp.MAX, group=self.group)
        return int(levels.item())

    def told(self, value: T | None) -> T:
        """The main process's ``value``, on every process: decisions that look at files are taken once."""
        box = [value]
        if self.group is not None:
            dist.broadcast_object_list(box, src=0, group=self.group, device=torch.device("cpu"))
        return cast("T", box[0])

    def wait(self) -> None:
        """Wait until every process is here: hours where one evaluates, in which a barrier would keep the GPUs busy."""
        self.highest(0)


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Raises :class:`UserError` for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--set device: is {name!r}, must be auto, cpu, cuda or cuda:N") from error
    if device.type not in {"cpu", "cuda"}:
        raise UserError(f"--set device: is {name!r}, must be auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return torch.device("cpu")
    index = local_rank if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise UserError(f"--set device: is {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", index)


@contextmanager
def process(device_name: str) -> Iterator[Process]:
    """Join the other processes where ``torchrun`` or Slurm started several (RANK, WORLD_SIZE, MASTER_ADDR are set)."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    device = resolve_device(device_name, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        yield Process(device)
        return
    dist.init_process_group(_BACKENDS[device.type], timeout=_PATIENCE)
    try:
        yield Process(device, dist.get_rank(), world_size, dist.group.WORLD)
    finally:
        dist.destroy_process_group()
