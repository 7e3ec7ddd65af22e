"""The losses as they are published, for comparison: autograd through the full Gram matrix, or the D x D matrix.

Written as in the papers' own code, with nothing saved: what a user has who types the formula in. Two views x, y of
(N, D); the options are those of the methods they stand beside, so value and gradient are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.suite.run import Form

Textbook = Callable[..., Tensor]


def sfrik(x_ND: Tensor, y_ND: Tensor, *, weights: list[float], align_weight: float, reg_weight: float) -> Tensor:
    """Alignment and the mean of Σ_l b_l P_l over the Gram matrix, averaged over views."""
    dim = x_ND.shape[1]

    legendre = (
        lambda t: t,
        lambda t: (dim * t**2 - 1) / (dim - 1),
        lambda t: ((dim + 2) * t**3 - 3 * t) / (dim - 1),
    )

    def regulariser(z_ND: Tensor) -> Tensor:
        t_NN = z_ND @ z_ND.T
        return torch.stack([b * p(t_NN).mean() for b, p in zip(weights, legendre, strict=False)]).sum()

    return _aligned(x_ND, y_ND, align_weight, reg_weight, regulariser)


def auh(x_ND: Tensor, y_ND: Tensor, *, scale: float, align_weight: float, reg_weight: float) -> Tensor:
    """Alignment and log mean_{i≠j} exp(−s‖z_i − z_j‖²), averaged over views."""

    def regulariser(z_ND: Tensor) -> Tensor:
        t_NN = z_ND @ z_ND.T
        others = ~torch.eye(len(z_ND), dtype=torch.bool, device=z_ND.device)
        return (-2 * scale * (1 - t_NN[others])).exp().mean().log()

    return _aligned(x_ND, y_ND, align_weight, reg_weight, regulariser)


def simclr(x_ND: Tensor, y_ND: Tensor, *, temperature: float) -> Tensor:
    """NT-Xent through the 2N x 2N matrix of logits."""
    z_MD = torch.cat([F.normalize(x_ND), F.normalize(y_ND)])
    count = len(x_ND)
    logits_MM = z_MD @ z_MD.T / temperature
    logits_MM.fill_diagonal_(-torch.inf)
    positives = torch.arange(2 * count, device=z_MD.device).roll(count)
    return F.cross_entropy(logits_MM, positives)


def spectral(x_ND: Tensor, y_ND: Tensor, *, reg_weight: float) -> Tensor:
    """−2 mean_i x_i·y_i + reg_weight · mean_{i≠j} (x_i·y_j)² on the sphere."""
    t_NN = F.normalize(x_ND) @ F.normalize(y_ND).T
    others = ~torch.eye(len(t_NN), dtype=torch.bool, device=t_NN.device)
    return -2 * t_NN.diagonal().mean() + reg_weight * t_NN[others].square().mean()


def vicreg(
    x_ND: Tensor, y_ND: Tensor, *, align_weight: float, variance_weight: float, covariance_weight: float
) -> Tensor:
    """Mean squared difference, hinge on the standard deviations, off-diagonal of the two D x D covariances."""
    alignment = (x_ND - y_ND).square().sum(1).mean()
    hinges, covariances = zip(*map(_spread, (x_ND, y_ND)), strict=True)
    return align_weight * alignment + variance_weight * sum(hinges) / 2 + covariance_weight * sum(covariances)


def _spread(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    count, dim = x_ND.shape
    x_ND = x_ND - x_ND.mean(0)
    hinge = F.relu(1 - (x_ND.var(0) + 1e-4).sqrt()).mean()
    cov_DD = x_ND.T @ x_ND / (count - 1)
    return hinge, _off_diagonal(cov_DD).square().sum() / dim


def barlow_twins(x_ND: Tensor, y_ND: Tensor, *, off_diagonal_weight: float) -> Tensor:
    """Σ_d (1 − R_dd)² + λ Σ_{d≠d'} R², R the D x D cross-correlation of the views standardised over the batch."""
    a_ND, b_ND = (F.batch_norm(x, None, None, training=True) for x in (x_ND, y_ND))
    r_DD = a_ND.T @ b_ND / len(x_ND)
    return (1 - r_DD.diagonal()).square().sum() + off_diagonal_weight * _off_diagonal(r_DD).square().sum()


def _off_diagonal(matrix_DD: Tensor) -> Tensor:
    """All entries off the diagonal, without a mask: each row of the flattened matrix, cut behind its diagonal entry."""
    dim = len(matrix_DD)
    return matrix_DD.flatten()[:-1].view(dim - 1, dim + 1)[:, 1:]


def _aligned(
    x_ND: Tensor, y_ND: Tensor, align_weight: float, reg_weight: float, regulariser: Callable[[Tensor], Tensor]
) -> Tensor:
    x_ND, y_ND = F.normalize(x_ND), F.normalize(y_ND)
    alignment = (x_ND - y_ND).square().sum(1).mean()
    return align_weight * alignment + reg_weight * (regulariser(x_ND) + regulariser(y_ND)) / 2


TEXTBOOKS: dict[str, Textbook] = {
    "sfrik_l1": sfrik,
    "sfrik_l2": sfrik,
    "sfrik_l3": sfrik,
    "auh": auh,
    "simclr": simclr,
    "simclr_sfrik": simclr,
    "spectral": spectral,
    "vicreg": vicreg,
    "barlow_twins": barlow_twins,
}
# Where they go through the D x D matrix and ours may choose; the others go through the Gram matrix.
PUBLISHED_FORMS: dict[str, Form] = {"vicreg": "primal", "barlow_twins": "primal"}


def textbook_loss(method: str, views: tuple[Tensor, Tensor], options: dict[str, Any]) -> Tensor:
    """The published form's value of ``method`` under its resolved options."""
    return TEXTBOOKS[method](*views, **options)
