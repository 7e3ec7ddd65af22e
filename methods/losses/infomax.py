"""InfoMax losses: VICReg and Barlow Twins, through D x D matrices (primal) or, exactly, through N x N ones (dual).

Both work on the embeddings as they come, not on the sphere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..engine import covariance
from ..engine.alignment import add_alignment_
from ..engine.forms import choose_form, correlation_costs, covariance_costs
from ..engine.matmul import closed_form
from ..engine.rows import CentredBatch, StandardisedBatch
from ..pairing import Pairing
from .base import (
    Loss,
    alignment_textbook,
    assemble,
    check_views,
    sum_textbook,
    wants_gradient,
    weighted_sum,
)

VARIANCE_EPSILON = 1e-4  # inside the square root of VICReg's standard deviation
VICREG_SIM = 25.0  # the published coefficient of the mean over N and D


def vicreg_textbook(
    views: Sequence[Tensor],
    *,
    align_weight: float,
    variance_weight: float,
    covariance_weight: float,
    pairing: Pairing | None = None,
) -> Tensor:
    """VICReg (Bardes et al. 2022), Var and Cov over the rows of a view x^v, dividing by N − 1.

    align_weight · mean_i ‖x_i^1 − x_i^2‖² + variance_weight · mean_v mean_d relu(1 − √(Var_d + 1e-4))
      + covariance_weight · Σ_v Σ_{d≠d'} Cov_{dd'}² / D       (for V views 2/V times the sum)

    With a pairing the first is its alignment, and v runs over the regularised views.
    """
    (count, dim), pairing = views[0].shape, Pairing.of(pairing, len(views))
    alignment, hinges, covariances = alignment_textbook(views, pairing), [], []
    for view in pairing.regularised:
        x_ND = views[view] - views[view].mean(0)
        hinges.append(F.relu(1 - (x_ND.var(0) + VARIANCE_EPSILON).sqrt()).mean())
        cov_DD = x_ND.T @ x_ND / (count - 1)
        covariances.append(_off_diagonal(cov_DD).square().sum() / dim)
    spread = variance_weight * torch.stack(hinges).mean() + 2 * covariance_weight * torch.stack(covariances).mean()
    return align_weight * alignment + spread


def barlow_twins_textbook(
    views: Sequence[Tensor], *, off_diagonal_weight: float, pairing: Pairing | None = None
) -> Tensor:
    """Barlow Twins (Zbontar et al. 2021): Σ_d (1 − R_dd)² + λ Σ_{d≠d'} R_{dd'}², averaged over aligned pairs of views.

    R = AᵀB/N, A and B the two views standardised over the batch as by BatchNorm.
    """
    losses, pairing = [], Pairing.of(pairing, len(views))
    standardised = [F.batch_norm(view, None, None, training=True) for view in views]
    for (a, b), weight in pairing.aligned.items():
        r_DD = standardised[a].T @ standardised[b] / len(views[0])
        off_diagonal = off_diagonal_weight * _off_diagonal(r_DD).square().sum()
        losses.append(weight * ((1 - r_DD.diagonal()).square().sum() + off_diagonal))
    return sum_textbook(losses)


def _off_diagonal(matrix_DD: Tensor) -> Tensor:
    """All entries off the diagonal, without a mask: each row of the flattened matrix, cut behind its diagonal entry."""
    dim = len(matrix_DD)
    return matrix_DD.flatten()[:-1].view(dim - 1, dim + 1)[:, 1:]


def vicreg(
    views: Sequence[Tensor],
    *,
    align_weight: float | None = None,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
    pairing: Pairing | None = None,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """VICReg as in `vicreg_textbook`, N the rows of all ranks.

    `align_weight` sums over coordinates; by default 25/D, the published 25 of the mean over coordinates.
    `pairing` says which views are aligned and which spread out (regularised); None: all pairs, all.
    Terms: `alignment`, `variance`, `covariance`.
    """
    check_views(views)
    align_weight = VICREG_SIM / views[0].shape[1] if align_weight is None else align_weight
    pairing = Pairing.of(pairing, len(views))
    wanted, batch = wants_gradient(views), CentredBatch.of([views[view] for view in pairing.regularised], group)
    form = choose_form(form, covariance_costs(batch.count, batch.width, batch.group.world_size))
    square_sum_of = covariance.dual_covariance if form == "dual" else covariance.primal_covariance
    share = 2 * covariance_weight / (len(batch.views) * batch.width)  # what a view's Σ Cov² weighs

    with closed_form(views[0]):
        gradients = [torch.empty_like(view, dtype=batch.dtype) for view in views] if wanted else None
        variances_VD = batch.square_deviations.double() / (batch.count - 1)
        deviations_VD = (variances_VD + VARIANCE_EPSILON).sqrt()
        hinges_VD = torch.relu(1 - deviations_VD)
        # The diagonal is taken out of Σ_{dd'} Cov².
        terms = {
            "variance": variance_weight * hinges_VD.mean(),
            "covariance": -share * variances_VD.square().sum(),
        }
        by_hinge_VD = torch.where(hinges_VD > 0, variance_weight / (2 * hinges_VD.numel()) / deviations_VD, 0.0)
        by_variances_VD = (-2 * share * variances_VD - by_hinge_VD).to(batch.dtype)
        for index, view in enumerate(pairing.regularised):
            square_sum, write_gradient_ = square_sum_of(batch, index)
            terms["covariance"] = terms["covariance"] + share * square_sum
            if gradients is not None:
                scale = batch.group.world_size / (batch.count - 1)
                write_gradient_(gradients[view], 4 * share * scale, 2 * scale * by_variances_VD[index])
        if gradients is not None:
            for view in set(range(len(views))).difference(pairing.regularised):
                gradients[view].zero_()
        terms = {"alignment": add_alignment_(gradients, views, pairing, batch.group, align_weight), **terms}
    return assemble(views, terms, gradients, form)


def barlow_twins(
    views: Sequence[Tensor],
    *,
    off_diagonal_weight: float = 0.0051,
    pairing: Pairing | None = None,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """Barlow Twins as in `barlow_twins_textbook`, N the rows of all ranks. Terms: `on_diagonal`, `off_diagonal`.

    `pairing` says which pairs of views are aligned and how much each weighs; None: all alike.
    """
    check_views(views)
    weights = Pairing.of(pairing, len(views)).aligned
    wanted, batch = wants_gradient(views), StandardisedBatch.of(views, group)
    form = choose_form(form, correlation_costs(batch.count, batch.width, batch.group.world_size))
    correlate = covariance.dual_correlation if form == "dual" else covariance.primal_correlation
    with closed_form(views[0]):
        square_sum, diagonals_PD, gradients_of = correlate(batch, weights)
        r_PD, world = diagonals_PD.double(), batch.group.world_size
        off_diagonal = square_sum - weighted_sum(r_PD.square(), weights.values())
        terms = {
            "on_diagonal": weighted_sum((1 - r_PD).square(), weights.values()),
            "off_diagonal": off_diagonal_weight * off_diagonal,
        }
        # By R_dd alone; that of Σ R² is the engine's.
        by_diagonals_PD = diagonals_PD * (2 * world * (1 - off_diagonal_weight)) - 2 * world
        gradients = gradients_of(off_diagonal_weight * world, by_diagonals_PD) if wanted else None
    return assemble(views, terms, gradients, form)
