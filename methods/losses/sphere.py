"""Losses of V views on the unit sphere: outer functions of few numbers, which `engine.sphere` turns into gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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
# The flop of each form, of N, D and the number of ranks.
Costs = Callable[[int, int, int], dict[str, float]]


def sphere_loss(
    views: Sequence[Tensor],
    outer: Outer,
    pairs: Collection[Pair],
    measures: Mapping[str, Measure],
    costs: Costs | None = None,
    *,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """outer(δ, S) of the views on the sphere, S as the measure sums them, with its gradient. The views are checked.

    pairs: the pairs of views a < b whose δ is looked at; the others are left 0. measures: one a form that there is.
    costs: what each takes; None where there is one.
    """
    wanted, dtype, processes = wants_gradient(views), matmul_dtype(views[0]), Group.of(group)
    (count, dim), world = views[0].shape, processes.world_size
    form = choose_form(form, costs(count * world, dim, world) if costs else dict.fromkeys(measures, 0.0))
    processes.check_rows(views[0])
    with closed_form(views[0]):
        points = Points.of(views, dtype, processes)
        delta_VVN = points.squared_distances(pairs)
        sums, gradient_of = measures[form](points, wanted)
        terms, slopes = terms_and_gradients(outer, delta_VVN, sums, wanted=wanted)
        gradients = None
        if wanted:
            by_delta_VVN, by_sums = slopes
            gradients = gradient_of(by_sums).by_views_(points, pairs, delta_VVN, by_delta_VVN)
    return assemble(views, terms, gradients, form)


def kernel_measures(
    kernel: RotationInvariantKernel, pairing: Pairing, across: bool = False
) -> tuple[Mapping[str, Measure], Costs]:
    """The engines that take a kernel's pair sums, and what they cost.

    The sums are of each regularised view, or `across`: over the pairs of views that the pairing contrasts.
    """
    pairs = set(pairing.contrasted) if across else {(view, view) for view in pairing.regularised}
    engines = {"dual": pair_sums, "primal": moment_sums}
    measures = {form: partial(engine, kernel=kernel, pairs=pairs, across=across) for form, engine in engines.items()}
    return measures, partial(kernel_costs, primal=low_powers(kernel) is not None)


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
