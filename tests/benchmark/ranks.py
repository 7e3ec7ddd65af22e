"""Several processes on this host that do one work together, as torchrun or Slurm would start them.

``together`` forks them from a process that has imported torch, which is what takes the time.
``python tests/benchmark/ranks.py SUITE OUT WORLD...`` does a suite once with each number of processes, into
``OUT/WORLD``, and leaves there what they find of batch normalisation. ``--fail RANK`` does it with two processes, of
which that one breaks in the third step, into ``OUT/failing-RANK``. Ends with 1 where a process did not end as it
should.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmark.networks import trained
from benchmark.running.runner import execute_suite
from benchmark.runtime.process import Process, process
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import load_suite
from benchmark.views.loader import Batch, ViewLoader
from tests.benchmark import batch_norm
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
BREAKS = "the third batch is not to be had"


class BreakingLoader(ViewLoader):
    """Gives two batches of an epoch and no third."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for step, batch in enumerate(super().epoch(epoch, first_step)):
            if step == 2:
                raise ValueError(BREAKS)
            yield batch


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """This module as a program."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    # The first convolution of grey images has its gradient in another layout than its weights: 9 numbers a channel.
    tolerated = "ignore:Grad strides do not match"
    command = [sys.executable, "-W", "error", "-W", tolerated, __file__, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


def together(world: int, work: Callable[[Process], object], failing: int | None = None) -> list[int | None]:
    """Let so many processes ``work``; returns their exit codes. The one named ``failing`` gets broken loaders.

    None is left behind: those that have not ended after ``PATIENCE`` are killed, and have the code -9.
    """
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


def main(arguments: Sequence[str]) -> bool:
    """Whether all ended as they should."""
    # DistributedDataParallel imports it on first use: once for all forks.
    importlib.import_module("torch._dynamo")
    parser = argparse.ArgumentParser()
    parser.add_argument("suite")
    parser.add_argument("out", type=Path)
    parser.add_argument("worlds", type=int, nargs="+")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--fail", type=int, action="append", default=[])
    given = parser.parse_args(arguments)
    suite = load_suite(given.suite, given.set)

    def work(this: Process, name: str) -> None:
        execute_suite(suite, given.out / name, this, Requests(), retry=False, report=print)
        batch_norm.leave(this, given.out)

    well = [together(world, partial(work, name=str(world))) == [0] * world for world in given.worlds]
    ill = [together(2, partial(work, name=f"failing-{rank}"), rank) == [1, 1] for rank in given.fail]
    return all(well) and all(ill)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
