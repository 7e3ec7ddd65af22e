"""One process among several: who it is, its device and threads, and what the others say."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from threadpoolctl import ThreadpoolController
from torch import Tensor

from benchmark.runtime.errors import UserError, in_one_line
from benchmark.runtime.failures import Failure, Failures

# What processes tell each other goes through gloo, between CPUs: through NCCL the host would wait for the GPU at every
# step, and a GPU for its turn while another process solves a problem alone.
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
# Some solvers run on the main process alone while the others wait for it at a collective.
_PATIENCE = timedelta(hours=12)


T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """This process. ``group`` is None where it is alone."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    group: dist.ProcessGroup | None = None
    failures: Failures = field(default_factory=Failures)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and evaluates."""
        return self.rank == 0

    def all_reduce_max(self, level: int) -> int:
        """The highest ``level`` of any process, on all of them."""
        if self.group is None:
            return level
        levels = torch.tensor([level])
        dist.all_reduce(levels, op=dist.ReduceOp.MAX, group=self.group)
        return int(levels.item())

    def broadcast(self, value: T | None) -> T:
        """The main process's ``value``, on every process: decisions that look at files are taken once."""
        box = [value]
        if self.group is not None:
            dist.broadcast_object_list(box, src=0, group=self.group, device=torch.device("cpu"))
        return cast("T", box[0])

    def is_first_to_fail(self, status: str, message: str) -> bool:
        """Tell the others of a failure, past every collective: of several processes the first is told of."""
        own = Failure(status, message, self.rank, self.world_size)
        return self.failures.tell(own) == own

    def all_gather(self, value: T) -> list[T]:
        """Every process's ``value`` in the order of ranks, on all of them."""
        if self.group is None:
            return [value]
        values: list[T | None] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return cast("list[T]", values)

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' ``tensor``, of one shape on all of them, in place."""
        if self.group is not None:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def barrier(self) -> None:
        """Wait until every process is here: hours maybe, in which torch's own barrier would keep the GPUs busy."""
        self.all_reduce_max(0)


def is_lost_peer(error: BaseException) -> bool:
    """Whether a collective failed since a process is gone: gloo says so in words only."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Raises :class:`UserError` for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # refused as any other that is neither
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
    store, rank, _ = next(dist.rendezvous("env://", timeout=_PATIENCE))
    group_store = dist.PrefixStore("group", store)
    dist.init_process_group(
        _BACKENDS[device.type], store=group_store, rank=rank, world_size=world_size, timeout=_PATIENCE
    )
    this = Process(device, rank, world_size, dist.group.WORLD, Failures(store))
    with this.failures.watched():
        try:
            yield this
        except BaseException as error:
            if not is_lost_peer(error):
                this.is_first_to_fail("failed", in_one_line(error))
                raise
            # Another process died, of a failure that it told of, or without a word, of a kill or with its node.
            cause: object = None
            with suppress(dist.DistError):
                cause = this.failures.first()
            cause = cause or f"the end of another: {in_one_line(error)}"
            raise SystemExit(f"process {rank} of {world_size}: ended by {cause}") from error
        finally:
            dist.destroy_process_group()


def one_thread() -> AbstractContextManager[Any]:
    """NumPy, SciPy and scikit-learn on one thread inside the block: for problems too small for several."""
    return _libraries().limit(limits=1)


@cache
def _libraries() -> ThreadpoolController:
    """Looked up once, which takes milliseconds: it reads what the process has loaded."""
    import sklearn.linear_model
    import sklearn.svm  # noqa: F401  both bring libraries of their own

    return ThreadpoolController()
