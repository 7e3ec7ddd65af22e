"""Losses of V views on the unit sphere: outer functions of few numbers, which `engine.sphere` turns into gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch.distributed as dist
from torch import Tensor

from ..engine.forms import choose_form, kernel_costs
from ..engine.matmul import closed_form, matmul_dtype
from ..engine.moments import low_powers, moment_sums
from ..engine.pairs import pair_sums
from ..engine.ranks import Group
from ..engine.sphere import Measure, Points
from ..kernels.kernel import RotationInvariantKernel
from ..pairing import Pair, Pairing, common_weight
from .base import Loss, assemble, terms_and_gradients, wants_gradient

# Few numbers in, named terms out: outer(delta_VVN, sums) -> {name: scalar}, float64.
Outer = Callable[[Tensor, Tensor], dict[str, Tensor]]


def sphere_loss(
    views: Sequence[Tensor],
    outer: Outer,
    pairs: Collection[Pair],
    measure: Measure,
    form: str,
    group: dist.ProcessGroup | None,
) -> Loss:
    """outer(δ, S) of the views on the sphere, S as `measure` sums them, with its gradient. The views are checked.

    pairs: the pairs of views a < b whose δ is looked at; the others are left 0.
    """
    wanted, dtype, processes = wants_gradient(views), matmul_dtype(views[0]), Group.of(group)
    processes.check_rows(views[0])
    with closed_form(views[0]):
        points = Points.of(views, dtype, processes)
        delta_VVN = points.squared_distances(pairs)
        sums, gradient_of = measure(points, wanted)
        terms, (by_delta_VVN, by_sums) = terms_and_gradients(outer, delta_VVN, sums)
        gradients = gradient_of(by_sums).by_views_(points, pairs, delta_VVN, by_delta_VVN) if wanted else None
    return assemble(views, terms, gradients, form)


def kernel_measure(
    views: Sequence[Tensor],
    kernel: RotationInvariantKernel,
    pairing: Pairing,
    form: str,
    group: dist.ProcessGroup | None,
    across: bool = False,
) -> tuple[str, Measure]:
    """The form in which a kernel's pair sums are taken, and the engine that takes them.

    The sums are of each regularised view, or `across`: over the pairs of views that the pairing contrasts.
    """
    count, dim = views[0].shape
    check_dimension(kernel, dim)
    world = Group.of(group).world_size
    chosen = choose_form(form, kernel_costs(count * world, dim, world, primal=low_powers(kernel) is not None))
    engine = moment_sums if chosen == "primal" else pair_sums
    pairs = set(pairing.contrasted) if across else {(view, view) for view in pairing.regularised}
    return chosen, partial(engine, kernel=kernel, pairs=pairs, across=across)


def check_dimension(kernel: RotationInvariantKernel, dim: int) -> None:
    """Raise ValueError where a kernel is of another dimension than the embeddings."""
    if kernel.dim != dim:
        raise ValueError(f"the kernel is of dimension {kernel.dim}, the embeddings of {dim}")


def alignment(delta_VVN: Tensor, pairing: Pairing) -> Tensor:
    """Σ_{a<b} w_ab mean_i ‖z_i^a − z_i^b‖², from δ of the pairs with a weight; the others' is 0."""
    common, others = common_weight(pairing.weights)
    total = common / 2 * delta_VVN.sum()  # both a, b and b, a are in it
    for (a, b), more in others.items():
        total = total + more * delta_VVN[a, b].sum()
    return total / delta_VVN.shape[2]
