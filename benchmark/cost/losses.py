"""What a loss costs alone: time, peak memory and flop of its value and gradient, and how exact they are.

Several calls are timed in turns, so that a busy moment falls on all of them alike.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from benchmark.cost.flop import FlopCounter
from benchmark.networks.trained import Trained
from benchmark.runtime.memory import Holder, PeakMemory
from benchmark.runtime.numerics import AUTOCAST
from benchmark.runtime.progress import quartiles
from benchmark.runtime.seeds import generator
from benchmark.runtime.spec import Precision
from methods import Pairing, registry
from methods.losses.base import Loss
from results.cell import Clock
from results.record import Quartiles

if TYPE_CHECKING:  # which builds on this module
    from benchmark.cost.sweep import Cell

T = TypeVar("T")
Views = tuple[Tensor, Tensor]
# Calls are repeated for about BUDGET seconds, within these limits; where one takes longer than PATIENCE, thrice in all.
BUDGET = 5.0
LEAST, MOST = 5, 31
PATIENCE, SLOW = 10.0, 2
LOSS_SCALE = 2.0**16  # where torch's GradScaler begins
# A peer where it is installed: its losses as they come, by our names, with the defaults of their own.
PEER = "lightly"
PeerLoss = Callable[[Tensor, Tensor], Tensor]
_PEER_LOSSES: dict[str, Callable[[Any, Mapping[str, Any]], PeerLoss]] = {
    "auh": lambda peer, _: importlib.import_module(f"{peer.__name__}.hypersphere_loss").HypersphereLoss(),
    "simclr": lambda peer, options: peer.NTXentLoss(temperature=options["temperature"]),
    "vicreg": lambda peer, _: peer.VICRegLoss(),
    "barlow_twins": lambda peer, _: peer.BarlowTwinsLoss(),
    "dcl": lambda peer, _: peer.DCLLoss(),
    "frossl": lambda peer, _: _as_a_list(peer.FroSSLLoss()),
    "sigreg": lambda peer, _: _as_sizes(peer.LeJEPALoss()),
    "visreg": lambda peer, _: _as_sizes(peer.VISRegLoss()),
}


def peer_loss(method: str, options: Mapping[str, Any]) -> PeerLoss:
    """The peer's of this method; of our options it takes the temperature."""
    return _PEER_LOSSES[method](importlib.import_module(f"{PEER}.loss"), options)


def _as_a_list(loss: Callable[..., Tensor]) -> PeerLoss:
    return lambda first, second: loss([first, second])


def _as_sizes(loss: Callable[..., Tensor]) -> PeerLoss:
    """One view large, the other small: it takes no fewer."""
    return lambda first, second: loss(global_proj=first[None], local_proj=second[None])


def draw_views(count: int, dim: int, dtype: torch.dtype, device: torch.device) -> Views:
    """Two views' embeddings (N, D) as in the middle of training, of the type that autocast gives a projector's output.

    x_i^v = m/2 + c_i + e_i^v/2 with Gaussian m, c, e: cosines of about 0.83 within a pair, 0.17 between images.
    """
    draws = generator("loss cost", count, dim)
    centre = torch.randn(dim, generator=draws).div_(2) + torch.randn(count, dim, generator=draws)
    first, second = (
        torch.randn(count, dim, generator=draws).div_(2).add_(centre).to(device, dtype).requires_grad_()
        for _ in range(2)
    )
    return first, second


def count(call: Callable[[], object], *baseline: Holder, device: torch.device) -> tuple[PeakMemory, int]:
    """Peak memory and flop (of matrix products and convolutions) of one call, which also serves to warm it up."""
    with FlopCounter() as flop, PeakMemory(*baseline, device=device) as memory:
        call()
    return memory, flop.total


def clock_of(device: torch.device) -> Clock:
    """By which calls are timed in turns: what else runs on a machine lengthens no CPU time of one thread."""
    return "cpu" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


def in_turns(calls: Sequence[Callable[[], object]], device: torch.device, budget: float = BUDGET) -> list[Quartiles]:
    """Seconds of each call by `clock_of` the device, repeated in turns."""
    timed_here = partial(timed, device=device, clock=clock_of(device))
    first = [timed_here(call)[0] for call in calls]
    slow = max(first) > PATIENCE
    repeats = SLOW if slow else min(MOST, max(LEAST, int(budget / sum(first))))
    rounds = [[timed_here(call)[0] for call in calls] for _ in range(repeats)]
    # The first round of slow calls counts: the counting of their memory has warmed them up.
    taken = zip(*([first] if slow else []), *rounds, strict=True)
    return [found for seconds in taken if (found := quartiles(list(seconds)))]


def timed(call: Callable[[], T], device: torch.device, clock: Clock = "wall") -> tuple[float, T]:
    """Seconds of one call, to its last kernel, and what it gives."""
    now = time.process_time if clock == "cpu" else time.perf_counter
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    wait(device)
    began = now()
    given = call()
    wait(device)
    return now() - began, given


@dataclass
class LossCall:
    """A loss of two views and its gradient; called, it takes both and lets the gradient go."""

    loss: Callable[[Views], Loss]
    inputs: Views
    form: str | None = None  # that the last call took

    def __call__(self) -> None:
        loss = self.loss(self.inputs)
        self.form = loss.form
        loss.value.backward()
        for view in self.inputs:
            view.grad = None


def textbook(
    method: str, options: dict[str, Any], views: Sequence[Tensor], dtype: torch.dtype, pairing: Pairing | None = None
) -> Loss:
    """The textbook form, under autocast as in training."""
    loss = registry.get(method).textbook
    assert loss is not None  # a cell that has none is not compared
    with torch.autocast(views[0].device.type, dtype=dtype, enabled=dtype != torch.float32):
        return Loss(loss(views, pairing=pairing, **options), {}, "textbook")


def subjects(cell: Cell, device: torch.device) -> dict[str, Callable[[], LossCall]]:
    """What a cell compares: ours; and where asked for, the textbook form and an installed peer, on the same views."""
    dtype = AUTOCAST[cell.precision]
    views = draw_views(cell.batch_size, cell.embedding_dim, dtype, device)
    method, options = cell.method, cell.options
    compared: dict[str, Callable[[Views], Loss]] = {
        "ours": partial(registry.get(method).loss, form=cell.form, **options)
    }
    if cell.compared:
        compared["reference"] = lambda views: textbook(method, options, views, dtype)
        # Beside options of ours that are not the defaults a peer's defaults would be of another loss.
        if method in _PEER_LOSSES and not cell.settings and importlib.util.find_spec(PEER) is not None:
            peer = peer_loss(method, options)
            compared[PEER] = lambda views: Loss(peer(*views), {}, PEER)
    return {name: partial(LossCall, loss, views) for name, loss in compared.items()}


def measure(network: Trained, device: torch.device) -> tuple[Quartiles, int]:
    """Seconds, and peak bytes beyond the two embeddings, of a network's loss and its gradient on one process."""
    views = draw_views(network.batch_size, network.embedding_dim, AUTOCAST[network.precision], device)
    call = LossCall(partial(registry.get(network.method).loss, form=network.form, **network.loss), views)
    memory, _ = count(call, *views, device=device)
    return in_turns([call], device, budget=0.0)[0], memory.peak_bytes


def errors(cell: Cell, device: torch.device) -> dict[str, Any]:
    """Relative errors of value and gradient (in the Frobenius norm) against float64 on the same embeddings.

    In fp16 the loss is scaled as in training: without, the smallest entries of a gradient are below fp16's range.
    """
    views = draw_views(cell.batch_size, cell.embedding_dim, AUTOCAST[cell.precision], device)
    call = partial(registry.get(cell.method).loss, form=cell.form, **cell.options)
    loss, gradients = differentiated(call, views, cell.precision)
    exact, exact_gradients = differentiated(call, [view.detach().double() for view in views])
    error = relative_error(gradients, exact_gradients)
    if not math.isfinite(error):
        return {"form": loss.form, "status": "failed", "message": f"the gradient overflows in {cell.precision}"}
    return {
        "form": loss.form,
        "value_error": abs(float((loss.value.detach().double() / exact.value.detach()) - 1)),
        "gradient_error": error,
    }


def differentiated(
    call: Callable[[Sequence[Tensor]], Loss], views: Iterable[Tensor], precision: Precision = "fp32"
) -> tuple[Loss, list[Tensor]]:
    """A loss of views, and its gradients in float64; in fp16 it is scaled before, and they are afterwards."""
    leaves, scale = [view.detach().requires_grad_() for view in views], LOSS_SCALE if precision == "fp16" else 1.0
    loss = call(leaves)
    return loss, [found.double() / scale for found in torch.autograd.grad(loss.value * scale, leaves)]


def relative_error(own: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """√(Σ ‖own − exact‖² / Σ ‖exact‖²), in the Frobenius norm."""
    difference = sum(float((one - other).square().sum()) for one, other in zip(own, exact, strict=True))
    return (difference / sum(float(other.square().sum()) for other in exact)) ** 0.5
