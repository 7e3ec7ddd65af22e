"""What several processes find: batch normalisation against torch's on the whole batch, in float64; their messages."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.networks.step import sum_over_processes, synchronise_batch_norm
from benchmark.runtime.process import Process

ROWS = 3


def leave(this: Process, folder: Path) -> None:
    """Leave the differences in ``batch-norm-WORLD-RANK.json``, what was heard in ``told-WORLD-RANK.json``."""
    if this.group is not None:
        (folder / f"told-{this.world_size}-{this.rank}.json").write_text(json.dumps(told(this)))
        found = {f"{dimensions} dimensions": differences(this, dimensions) for dimensions in (2, 4)}
        (folder / f"batch-norm-{this.world_size}-{this.rank}.json").write_text(json.dumps(found))


def told(this: Process) -> dict[str, object]:
    """What this process hears of the others."""
    heard = {
        "highest": this.all_reduce_max(this.rank),
        "of one that was asked": this.all_reduce_max(2 if this.rank == 1 else 0),
        "of the main one": this.broadcast(["of", this.rank] if this.is_main else None),
        "of all": this.all_gather(this.rank),
        "sum": this.all_reduce_sum(torch.tensor([float(this.rank), 1.0])).tolist(),
    }
    this.barrier()
    return heard


def layers(dimensions: int) -> tuple[nn.Module, nn.Module]:
    """torch's layer, and its twin over all processes."""
    alone = (nn.BatchNorm1d if dimensions == 2 else nn.BatchNorm2d)(4).double()
    with torch.no_grad():
        alone.weight.copy_(torch.linspace(0.5, 2, 4))
        alone.bias.copy_(torch.linspace(-1, 1, 4))
    (shared,) = synchronise_batch_norm(nn.Sequential(alone), torch.device("cpu"))
    return alone, shared.double()


def differences(this: Process, dimensions: int) -> dict[str, float]:
    """Of a loss of the output, its gradients by input and parameters, and running statistics: shared from alone.

    The first process has no rows, each of the others more than the one before.
    """
    generator = torch.Generator().manual_seed(5)
    first, end = (rank * (rank - 1) // 2 * ROWS for rank in (this.rank, this.rank + 1))
    shape = (this.world_size * (this.world_size - 1) // 2 * ROWS, 4, *([5, 5] if dimensions == 4 else []))
    x, weights = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    own = slice(first, end)
    alone, shared = layers(dimensions)
    whole, part = x.clone().requires_grad_(), x[own].clone().requires_grad_()
    # A loss that is no sum over rows: each process knows it whole, and gives the gradient of it by its own rows.
    expected = (weights * alone(whole)).sum().sin()
    own_share = (weights[own] * shared(part)).sum()
    total = sum_over_processes(own_share).sin()
    expected.backward()
    (total / this.world_size).backward()
    pairs: dict[str, tuple[Tensor, Tensor]] = {"loss": (total, expected), "input": (part.grad, whole.grad[own])}
    for name in ("running_mean", "running_var"):
        pairs[name] = getattr(shared, name), getattr(alone, name)
    for name in ("weight", "bias"):
        pairs[name] = sum_over_processes(getattr(shared, name).grad), getattr(alone, name).grad
    return {name: (got - wanted).norm().item() for name, (got, wanted) in pairs.items()}
