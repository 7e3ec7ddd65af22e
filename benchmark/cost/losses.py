"""What a loss costs alone: time, peak memory and flop of its value and gradient, and how exact they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmark.cost import peers, timing
from benchmark.cost.cell import Cell
from benchmark.cost.textbook import textbook_loss
from benchmark.networks.step import AUTOCAST
from benchmark.runtime.seeds import generator
from benchmark.suite.run import Run
from methods import registry
from methods.loss import Loss
from results.record import Quartiles

Views = tuple[Tensor, Tensor]
LOSS_SCALE = 2.0**16  # where torch's GradScaler begins


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


@dataclass
class LossCall:
    """A loss of two views and its gradient; called, it takes both and lets the gradient go."""

    method: str
    options: dict[str, Any]
    asked_form: str
    inputs: Views
    form: str | None = None

    @property
    def holders(self) -> Views:
        """What lives before a call: the embeddings."""
        return self.inputs

    def value(self) -> Tensor:
        """The loss."""
        loss = registry.get(self.method).loss(self.inputs, form=self.asked_form, **self.options)
        self.form = loss.form
        return loss.value

    def __call__(self) -> None:
        """Value and gradient."""
        self.value().backward()
        for view in self.inputs:
            view.grad = None

    def parts(self, last: int) -> dict[str, float]:
        """None: value and gradient are made in one pass."""
        return {}


class TextbookCall(LossCall):
    """The same through the textbook form, under autocast as there."""

    def value(self) -> Tensor:
        """The loss."""
        dtype = self.inputs[0].dtype
        with torch.autocast(self.inputs[0].device.type, dtype=dtype, enabled=dtype != torch.float32):
            return textbook_loss(self.method, self.inputs, self.options)


class PeerCall(LossCall):
    """The same through an installed peer's loss, as it comes."""

    def value(self) -> Tensor:
        """The loss."""
        value: Tensor = peers.LOSSES[self.method]()(*self.inputs)
        return value


def subjects(cell: Cell, device: torch.device) -> dict[str, Callable[[], LossCall]]:
    """What a cell compares: ours; and where asked for, the textbook form and installed peers, on the same views."""
    views = draw_views(cell.batch_size, cell.embedding_dim, AUTOCAST[cell.precision], device)
    kinds: dict[str, type[LossCall]] = {"ours": LossCall}
    if cell.compared:
        kinds |= {"reference": TextbookCall, **({peers.NAME: PeerCall} if peers.has(cell.method) else {})}
    return {name: partial(kind, cell.method, cell.options, cell.form, views) for name, kind in kinds.items()}


def measure(run: Run, device: torch.device) -> tuple[Quartiles, int]:
    """Seconds, and peak bytes beyond the two embeddings, of ``run``'s loss and its gradient on one process."""
    assert run.embedding_dim is not None
    views = draw_views(run.batch_size, run.embedding_dim, AUTOCAST[run.precision], device)
    call = LossCall(run.method, dict(run.loss), run.form, views)
    memory, _ = timing.count(call, *views, device=device)
    return timing.of(timing.in_turns([call], device, budget=0.0)[0]), memory.peak_bytes


def errors(cell: Cell, device: torch.device) -> dict[str, Any]:
    """Relative errors of value and gradient (in the Frobenius norm) against float64 on the same embeddings.

    In fp16 the loss is scaled as in training: without, the smallest entries of a gradient are below fp16's range.
    """
    views = draw_views(cell.batch_size, cell.embedding_dim, AUTOCAST[cell.precision], device)
    loss, gradients = _differentiated(cell, views)
    exact, exact_gradients = _differentiated(cell, tuple(view.detach().double() for view in views))
    pairs = list(zip(gradients, exact_gradients, strict=True))
    difference = sum(float((own - other).square().sum()) for own, other in pairs)
    size = sum(float(other.square().sum()) for _, other in pairs)
    if not math.isfinite(difference):
        return {"form": loss.form, "status": "failed", "message": f"the gradient overflows in {cell.precision}"}
    return {
        "form": loss.form,
        "value_error": abs(float((loss.value.detach().double() / exact.value.detach()) - 1)),
        "gradient_error": (difference / size) ** 0.5,
    }


def _differentiated(cell: Cell, views: tuple[Tensor, ...]) -> tuple[Loss, tuple[Tensor, ...]]:
    leaves = [view.detach().requires_grad_() for view in views]
    loss = registry.get(cell.method).loss(leaves, form=cell.form, **cell.options)
    scale = LOSS_SCALE if cell.precision == "fp16" else 1.0
    return loss, tuple(gradient.double() / scale for gradient in torch.autograd.grad(loss.value * scale, leaves))
