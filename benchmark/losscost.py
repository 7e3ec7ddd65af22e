"""What a loss costs alone: time and peak memory of its value and gradient on embeddings of a run's shape."""

from __future__ import annotations

import time

import torch

from benchmark.clock import quartiles
from benchmark.memory import PeakMemory
from benchmark.randomness import generator
from benchmark.run import Run
from benchmark.step import AUTOCAST
from methods import registry
from results.record import Quartiles

_WARM_UP, _REPEATS = 1, 5


def measure_loss(run: Run, device: torch.device) -> tuple[Quartiles | None, int]:
    """Seconds, and peak bytes beyond the two embeddings, of ``run``'s loss and its gradient on one process.

    The embeddings are two independent Gaussian batches (N, D) in the type that autocast gives the projector's output.
    """
    assert run.embedding_dim is not None
    draws = generator(run.seed, "loss cost")
    views = [
        torch.randn(run.batch_size, run.embedding_dim, generator=draws).to(device, AUTOCAST[run.precision])
        for _ in range(2)
    ]
    with PeakMemory(*views, device=device) as memory:
        _value_and_gradient(run, views)
    seconds = [_seconds(run, views, device) for _ in range(_WARM_UP + _REPEATS)]
    return quartiles(seconds[_WARM_UP:]), memory.peak_bytes


def _seconds(run: Run, views: list[torch.Tensor], device: torch.device) -> float:
    _synchronise(device)
    began = time.perf_counter()
    _value_and_gradient(run, views)
    _synchronise(device)
    return time.perf_counter() - began


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _value_and_gradient(run: Run, views: list[torch.Tensor]) -> None:
    leaves = [view.detach().requires_grad_() for view in views]
    registry.get(run.method)(leaves, **run.loss, form=run.form).value.backward()
