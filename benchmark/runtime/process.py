"""One process among several: who it is, its device and threads, and what the others say."""

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from threadpoolctl import ThreadpoolController
from torch import Tensor

from benchmark.runtime.calibration import constants_of
from benchmark.runtime.devices import check_apart, check_usable, resolve_device
from benchmark.runtime.errors import in_one_line
from benchmark.runtime.failures import LOOK_SECONDS, Failure, Failures
from benchmark.runtime.lifelines import Lifelines, interface_of
from benchmark.runtime.memory import is_out_of_memory
from benchmark.runtime.numerics import computing_in
from methods.engine.forms import calibrated

_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
# All processes come to a collective of a step at about the same time: what takes longer is never to come.
_COLLECTIVE = timedelta(minutes=10)
# What they tell each other goes through gloo, between CPUs, in a group of its own: some solvers run on the main process
# alone while the others wait, and through NCCL the host would wait for the GPU at every step.
_PATIENCE = timedelta(hours=12)
_OF_NCCL_ITSELF = re.compile("ncclInvalid|ncclUnhandledCudaError")
_GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"


T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """This process. Where it is alone ``group``, which computes together, and ``talk``, which waits, are None.

    ``jobs``: processes that work side by side on this machine, each on a run of its own; this is one of them.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    group: dist.ProcessGroup | None = None
    talk: dist.ProcessGroup | None = None
    failures: Failures = field(default_factory=Failures)
    jobs: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and evaluates."""
        return self.rank == 0

    def all_reduce_max(self, level: int) -> int:
        """The highest ``level`` of any process, on all of them."""
        if self.talk is None:
            return level
        levels = torch.tensor([level])
        dist.all_reduce(levels, op=dist.ReduceOp.MAX, group=self.talk)
        return int(levels.item())

    def broadcast(self, value: T | None) -> T:
        """The main process's ``value``, on every process: decisions that look at files are taken once."""
        box = [value]
        if self.talk is not None:
            dist.broadcast_object_list(box, src=0, group=self.talk)
        return cast("T", box[0])

    def is_first_to_fail(self, status: str, message: str) -> bool:
        """Tell the others of a failure, past every collective: of several processes the first is told of."""
        own = Failure(status, message, self.rank, self.world_size)
        return self.failures.tell(own) == own

    def all_gather(self, value: T) -> list[T]:
        """Every process's ``value`` in the order of ranks, on all of them."""
        if self.talk is None:
            return [value]
        values: list[T | None] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.talk)
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
    """Whether a collective failed since a process is gone: gloo says so in words only, and NCCL also says its own."""
    if isinstance(error, dist.DistBackendError) and (_OF_NCCL_ITSELF.search(str(error)) or is_out_of_memory(error)):
        return False
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


@contextmanager
def process(device_name: str) -> Iterator[Process]:
    """Join the other processes where ``torchrun`` or Slurm started several (RANK, WORLD_SIZE, MASTER_ADDR are set).

    Raises :class:`UserError` where the device is not there or can compute nothing, or two processes share one.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    device = resolve_device(device_name)
    check_usable(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with computing_in("fp32"):
        if world_size == 1:
            with calibrated(constants_of(device)):
                yield Process(device)
        else:
            with _joined(device, world_size) as this:
                yield this


@contextmanager
def _joined(device: torch.device, world_size: int) -> Iterator[Process]:
    from submitit.core.utils import environment_variables

    store, rank, _ = next(dist.rendezvous("env://", timeout=_COLLECTIVE))
    lifelines = Lifelines.tie(dist.PrefixStore("lifelines", store), os.environ["MASTER_ADDR"], rank, world_size)
    failures = Failures(store)
    with failures.watched(lifelines):
        try:
            # By itself gloo takes the interface of the host name's entry in /etc/hosts: 127.0.1.1 as Debian writes it.
            name = None if _GLOO_INTERFACE in os.environ else interface_of(lifelines.address)
            with environment_variables(**({_GLOO_INTERFACE: name} if name else {})):
                group_store, backend = dist.PrefixStore("group", store), _BACKENDS[device.type]
                dist.init_process_group(
                    backend, store=group_store, rank=rank, world_size=world_size, timeout=_COLLECTIVE
                )
                talk = dist.new_group(backend="gloo", timeout=_PATIENCE)
                this = Process(device, rank, world_size, dist.group.WORLD, cast("dist.ProcessGroup", talk), failures)
                if device.type == "cuda":
                    check_apart(this.all_gather((platform.node(), str(torch.cuda.get_device_properties(device).uuid))))
                with calibrated(this.broadcast(constants_of(device))):
                    yield this
        except BaseException as error:
            if not is_lost_peer(error):
                failures.tell(Failure("failed", in_one_line(error), rank, world_size))
                raise
            # Another process died, of a failure that it told of, or of a kill, which the first is about to see.
            time.sleep(2 * LOOK_SECONDS)
            cause = failures.tell(Failure("failed", f"the end of another: {in_one_line(error)}", rank, world_size))
            raise SystemExit(f"process {rank} of {world_size}: ended by {cause}") from error
        finally:
            if dist.is_initialized():
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
