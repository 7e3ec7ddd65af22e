"""InfoMax losses: VICReg and Barlow Twins, through D x D matrices (primal) or, exactly, through N x N ones (dual).

Both work on the embeddings as they come, not on the sphere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from .columns import Batch
from .correlation import Standardised, dual_correlation, primal_correlation
from .covariance import dual_covariance, primal_covariance
from .forms import choose_form, correlation_costs, covariance_costs
from .loss import Loss, assemble, check_views, closed_form, wants_gradient
from .products import inner
from .sphere import row_slices

VARIANCE_EPSILON = 1e-4  # inside the square root of VICReg's standard deviation
VICREG_SIM = 25.0  # the published coefficient of the mean over N and D


def vicreg(
    views: Sequence[Tensor],
    *,
    align_weight: float | None = None,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """VICReg (Bardes et al. 2022).

        align_weight · mean_i ‖x_i^1 − x_i^2‖² + variance_weight · mean_d relu(1 − √(Var_d + 1e-4))
          + covariance_weight · Σ_v Σ_{d≠d'} Cov_{dd'}² / D

    the variance term averaged over views and the covariance term summed over the two (for V views, 2/V times the sum).
    Var and Cov divide by N − 1, N the rows of all ranks. `align_weight` sums over coordinates; by default 25/D, the
    published 25 of the mean over coordinates. Terms: `alignment`, `variance`, `covariance`.
    """
    check_views(views)
    align_weight = VICREG_SIM / views[0].shape[1] if align_weight is None else align_weight
    wanted, batch = wants_gradient(views), Batch.of(views, group)
    form = choose_form(form, covariance_costs(batch.count, batch.width, batch.ranks.world))
    square_sum_of = dual_covariance if form == "dual" else primal_covariance
    share = 2 * covariance_weight / (len(views) * batch.width)  # what a view's Σ Cov² weighs
    with closed_form(views[0]):
        gradients = batch.buffers() if wanted else None
        variances_VD = batch.square_deviations / (batch.count - 1)
        terms, slopes_VD = _spread_terms(variances_VD, variance_weight, share)
        for view in range(len(views)):
            square_sum, write_gradient_ = square_sum_of(batch, view)
            terms["covariance"] = terms["covariance"] + share * square_sum
            if gradients is not None:
                scale = batch.ranks.world / (batch.count - 1)
                write_gradient_(gradients[view], 4 * share * scale, 2 * scale * slopes_VD[view])
        terms = {"alignment": _alignment(batch, align_weight, gradients), **terms}
    return assemble(views, terms, gradients, form)


def barlow_twins(
    views: Sequence[Tensor],
    *,
    off_diagonal_weight: float = 0.0051,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """Barlow Twins (Zbontar et al. 2021): Σ_d (1 − R_dd)² + off_diagonal_weight · Σ_{d≠d'} R_{dd'}².

    R = AᵀB/N is the cross-correlation of two views standardised over the batch, N the rows of all ranks; for more views
    the loss is averaged over pairs. Terms: `on_diagonal`, `off_diagonal`.
    """
    check_views(views)
    wanted, batch = wants_gradient(views), Batch.of(views, group)
    form = choose_form(form, correlation_costs(batch.count, batch.width, batch.ranks.world))
    with closed_form(views[0]):
        points = Standardised(batch)
        correlate = dual_correlation if form == "dual" else primal_correlation
        square_sum, diagonals_PD, write_gradient_ = correlate(points)
        share = off_diagonal_weight / len(points.pairs)  # what a pair's Σ R² weighs
        terms, slopes_PD = _diagonal_terms(diagonals_PD, share)
        terms["off_diagonal"] = terms["off_diagonal"] + share * square_sum
        gradients = batch.buffers() if wanted else None
        if gradients is not None:
            write_gradient_(gradients, share * batch.ranks.world, slopes_PD * batch.ranks.world)
    return assemble(views, terms, gradients, form)


def _spread_terms(variances_VD: Tensor, variance_weight: float, share: float) -> tuple[dict[str, Tensor], Tensor]:
    """The hinge on the variances, what the diagonal takes from Σ Cov², and their derivative."""

    def terms_of(variances_VD: Tensor) -> dict[str, Tensor]:
        hinge = torch.relu(1 - (variances_VD + VARIANCE_EPSILON).sqrt()).mean()
        return {"variance": variance_weight * hinge, "covariance": -share * variances_VD.square().sum()}

    return _with_slope(terms_of, variances_VD)


def _diagonal_terms(diagonals_PD: Tensor, share: float) -> tuple[dict[str, Tensor], Tensor]:
    """Σ (1 − R_dd)², averaged over pairs of views, what the diagonal takes from Σ R², and their derivative."""

    def terms_of(diagonals_PD: Tensor) -> dict[str, Tensor]:
        on_diagonal = (1 - diagonals_PD).square().sum() / len(diagonals_PD)
        return {"on_diagonal": on_diagonal, "off_diagonal": -share * diagonals_PD.square().sum()}

    return _with_slope(terms_of, diagonals_PD)


def _with_slope(terms_of: Callable[[Tensor], dict[str, Tensor]], numbers: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Named terms of few numbers, and the derivative of their sum, by autograd."""
    with torch.enable_grad():
        leaf = numbers.double().requires_grad_()
        terms = terms_of(leaf)
        (slope,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), leaf)
    return {name: term.detach() for name, term in terms.items()}, slope.to(numbers.dtype)


def _alignment(batch: Batch, weight: float, gradients: list[Tensor] | None) -> Tensor:
    """weight · mean_i ‖x_i^a − x_i^b‖², averaged over pairs of views; its gradient is added."""
    count = len(batch.views)
    scale = 4 * weight / (batch.count * (count - 1)) * batch.ranks.world
    total = batch.means.new_zeros((), dtype=torch.float64)
    for rows in row_slices(batch.views[0]):
        blocks = [view[rows].to(batch.dtype) for view in batch.views]
        middle = torch.stack(blocks).mean(0) if count > 2 else (blocks[0] + blocks[1]).div_(2)
        for view, block in enumerate(blocks):
            deviation = block - middle
            total += inner(deviation, deviation)
            if gradients is not None:
                gradients[view][rows].add_(deviation, alpha=scale)
    return batch.ranks.sum_(total) * (2 * weight / (batch.count * (count - 1)))
