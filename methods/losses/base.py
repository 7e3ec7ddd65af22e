"""What a loss takes and returns, and how a closed-form gradient is handed to autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
import torch.distributed as dist
from torch import Tensor

from ..engine.matmul import working_dtype
from ..pairing import Pairing, common_weight


@dataclass(frozen=True)
class Loss:
    """A loss of V views' embeddings.

    value: scalar, float32 (float64 for float64 embeddings), differentiable once with respect to the views.
    terms: the named, weighted parts whose sum is the value; scalars, detached.
    form: how it was computed: "primal" (D x D), "dual" (N x N, by tiles), "rowwise" (by tiles, a sum a row) or "sliced"
        (N x directions, in blocks).
    """

    value: Tensor
    terms: dict[str, Tensor]
    form: str


class How(TypedDict, total=False):
    """How a loss is computed: in which form ("auto": the cheapest), and which processes share the batch."""

    form: str
    group: dist.ProcessGroup | None


class Shared(How, total=False):
    """What every loss takes beside its own options: which views are aligned and which regularised, and how."""

    pairing: Pairing | None


def check_views(views: Sequence[Tensor]) -> None:
    """V ≥ 2 floating-point matrices of one shape (N, D), D ≥ 2, on one device. Raises ValueError."""
    if len(views) < 2:
        raise ValueError(f"a joint-embedding loss needs at least 2 views, not {len(views)}")
    first = views[0]
    for view in views:
        if not isinstance(view, Tensor):
            raise ValueError(f"a view must be a tensor (N, D), not {type(view).__name__}")
        if view.dim() != 2 or view.shape != first.shape or view.dtype != first.dtype or view.device != first.device:
            # Each once: a batch that is passed as if it were the views has hundreds.
            described = ", ".join(dict.fromkeys(f"{tuple(v.shape)} {v.dtype} {v.device}" for v in views))
            raise ValueError(f"all views must be matrices (N, D) of one shape, type and device, not {described}")
    if not first.is_floating_point() or first.shape[1] < 2:
        raise ValueError(f"embeddings must be floating-point with D >= 2, not {first.dtype} with D = {first.shape[1]}")


def alignment_textbook(views: Sequence[Tensor], pairing: Pairing) -> Tensor:
    """Σ_{a<b} w_ab mean_i ‖x_i^a − x_i^b‖², which most losses have in common: by default averaged over pairs."""
    return sum_textbook(w * (views[a] - views[b]).square().sum(1).mean() for (a, b), w in pairing.weights.items())


def sum_textbook(scalars: Iterable[Tensor]) -> Tensor:
    """Their sum."""
    return torch.stack(list(scalars)).sum()


def weighted_sum(values: Tensor, weights: Iterable[float]) -> Tensor:
    """Σ_p w_p Σ values_p, p along the first axis."""
    common, others = common_weight(dict(enumerate(weights)))
    total = values.sum() if common == 1 else common * values.sum()
    for index, more in others.items():
        total = total + more * values[index].sum()
    return total


def wants_gradient(views: Sequence[Tensor]) -> bool:
    """Whether autograd will ask for the gradient of a loss of these views."""
    return torch.is_grad_enabled() and any(view.requires_grad for view in views)


def terms_and_gradients(
    terms_of: Callable[..., dict[str, Tensor]], *numbers: Tensor, wanted: bool
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Named terms of few numbers, float64, and if wanted the derivative of their sum by each of these, by autograd."""
    if not wanted:  # and in inference mode there is none
        return terms_of(*(number.double() for number in numbers)), ()
    with torch.enable_grad():
        leaves = [number.detach().double().requires_grad_() for number in numbers]
        terms = terms_of(*leaves)
        total = torch.stack(list(terms.values())).sum()
        gradients = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return {name: term.detach() for name, term in terms.items()}, gradients


def assemble(views: Sequence[Tensor], terms: dict[str, Tensor], gradients: Sequence[Tensor] | None, form: str) -> Loss:
    """The Loss of these terms whose derivative with respect to the views is `gradients` (handed over, not copied)."""
    values = torch.stack(list(terms.values())).to(working_dtype(views[0]))
    value = values.sum() if gradients is None else _SumWithGradient.apply(values, *gradients, *views)
    return Loss(value, dict(zip(terms, values.unbind(), strict=True)), form)


class _SumWithGradient(torch.autograd.Function):
    """Σ of a loss's terms, whose gradients with respect to the views are already known."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, *gradients_and_views: Tensor) -> Tensor:
        count = len(gradients_and_views) // 2
        ctx.save_for_backward(*gradients_and_views[:count])
        ctx.view_dtype = gradients_and_views[count].dtype
        return values.sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            scaled = [gradient.to(ctx.view_dtype) for gradient in _scaled(ctx.saved_tensors, upstream)]
        if torch.is_grad_enabled():  # create_graph=True
            scaled = list(_FirstDerivative.apply(torch.zeros((), requires_grad=True), *scaled))
        return (None, *[None] * len(scaled), *scaled)


def _scaled(gradients: tuple[Tensor, ...], upstream: Tensor) -> tuple[Tensor, ...]:
    """upstream · gradients: where they lie, unless the graph is kept, when they are needed again."""
    if torch.compiler.is_compiling():  # a tracer cannot ask, and takes no harm from a copy
        return tuple(gradient * upstream for gradient in gradients)
    if torch._C._autograd._get_current_graph_task_keep_graph():
        return torch._foreach_mul(gradients, upstream)
    # Of a loss that nothing scales this is 1: a CPU sees it at once, a GPU would be waited for, a fake tensor has none.
    if not (type(upstream) is Tensor and upstream.is_cpu and upstream.item() == 1):
        torch._foreach_mul_(gradients, upstream)
    return gradients


class _FirstDerivative(torch.autograd.Function):
    """The identity on gradients that are not a function of anything autograd knows: it refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient.clone() for gradient in gradients)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> None:
        raise RuntimeError(
            "this loss has no second derivatives: its gradient is computed in closed form, outside autograd"
        )
