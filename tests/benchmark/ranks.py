"""Several processes on this host that do one work together, as torchrun or Slurm would start them.

They are forked from this one, which has imported torch: that is what takes the time.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmark.networks import trained
from benchmark.running.runner import execute_suite
from benchmark.runtime.process import Process, process
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import load_suite
from benchmark.views.loader import Batch, ViewLoader
from tests.benchmark import batch_norm
from tests.patience import PATIENCE

BREAKS = "the third batch is not to be had"
# A mark for where small grey images are trained: the first convolution has its gradient in another layout than its
# weights, of which DistributedDataParallel warns: 9 numbers a channel.
GREY = pytest.mark.filterwarnings("ignore:Grad strides do not match")


class BreakingLoader(ViewLoader):
    """Gives two batches of an epoch and no third."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for step, batch in enumerate(super().epoch(epoch, first_step)):
            if step == 2:
                raise ValueError(BREAKS)
            yield batch


def together(world: int, work: Callable[[Process], object], failing: int | None = None) -> list[int | None]:
    """Let so many processes ``work``; returns their exit codes. The one named ``failing`` gets broken loaders.

    None is left behind: those that have not ended after ``PATIENCE`` are killed, and have the code -9.
    """
    importlib.import_module("torch._dynamo")  # optimisers do on first use, in two seconds: once for all forks
    fork = multiprocessing.get_context("fork")
    port = _free_port()
    ranks = [fork.Process(target=_join, args=(work, rank, world, port, rank == failing)) for rank in range(world)]
    try:
        for rank in ranks:
            rank.start()
        until = time.monotonic() + PATIENCE
        for rank in ranks:
            rank.join(max(0.0, until - time.monotonic()))
    finally:
        for rank in ranks:
            if rank.is_alive():
                rank.kill()
                rank.join()
    return [rank.exitcode for rank in ranks]


def _join(work: Callable[[Process], object], rank: int, world: int, port: int, breaks: bool) -> None:
    gc.freeze()  # or a run's collections go through all that was inherited, and copy its pages, a second a process
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if breaks:
        trained.ViewLoader = BreakingLoader  # type: ignore[misc]
    with process("cpu") as this:
        work(this)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def run(
    path: Path, out: Path, worlds: Sequence[int], *, failing: Sequence[int] = (), settings: Sequence[str] = ()
) -> None:
    """Do a suite once with each number of processes, into ``out/WORLD``; they leave what they find of batch
    normalisation in ``out``. And for each of ``failing`` with two, of which that one breaks in the third step, into
    ``out/failing-RANK``."""
    suite = load_suite(str(path), settings)

    def work(this: Process, name: str) -> None:
        execute_suite(suite, out / name, this, Requests(), retry=False, report=print)
        batch_norm.leave(this, out)

    for world in worlds:
        assert together(world, partial(work, name=str(world))) == [0] * world
    for rank in failing:
        assert together(2, partial(work, name=f"failing-{rank}"), rank) == [1, 1]
