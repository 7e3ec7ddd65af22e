"""Losses that spread the spectrum of the embeddings: FroSSL [F], W₂ uniformity [W], von Neumann entropy [V], MMCR [M].

With λ the eigenvalues of a view's second moments, each asks for as many and as equal ones as there may be:

| | embeddings | spread, to be large | |
|---|---|---|---|
| `frossl` | columns of length 1 | −log Σ λ²/(Σ λ)² | Rényi's entropy of order 2 |
| `wasserstein` | on the sphere, centred in λ | Σ √λ | up to scale, of order ½ |
| `vne` | on the sphere | −Σ λ log λ | von Neumann's, of order 1 |
| `mmcr` | on the sphere, averaged over views | Σ √λ | which aligns them too |

Through D x D matrices (primal) or N x N ones (dual), whose eigenvalues are the same but for zeros.

[F] Skean et al. 2023, arXiv 2310.02903. [W] Fang et al., ICLR 2024, arXiv 2403.00642. [V] Kim et al., CVPR 2023,
arXiv 2304.01434. [M] Yerxa et al., NeurIPS 2023, arXiv 2303.03307.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..engine import covariance
from ..engine.alignment import add_alignment_
from ..engine.forms import choose_form, covariance_costs, spectral_costs
from ..engine.matmul import closed_form
from ..engine.rows import UnitColumns
from ..engine.spectra import SpectralFunction, entropy, root, spectral_sums
from ..engine.sphere import Measure
from ..engine.tiles import row_blocks
from ..pairing import Pairing
from .base import How, Loss, alignment_textbook, assemble, check_views, sum_textbook, wants_gradient, weighted_sum
from .sphere import alignment, sphere_loss

VNE_ALIGN = 4.16  # published: log 64, of the batch's size there
SMALLEST_SQUARE = 1e-30  # of W₂, whose root has no slope at 0


def frossl_textbook(views: Sequence[Tensor], *, align_weight: float, pairing: Pairing | None = None) -> Tensor:
    """FroSSL [F]: Σ_v [2 log(‖C_v‖_F/tr C_v) + align_weight · V D · mse(z_v, z̄)], C = zᵀz, z̄ the mean over views.

    z: x with columns of length 1 over the batch, not centred; the mean squared error is over N and D. That is
    V · [mean_v 2 log(‖C_v‖_F/tr C_v) + align_weight · (V − 1)/2 · alignment], the alignment averaged over pairs; with a
    pairing it is the pairing's, the mean runs over the regularised views, and V counts the views that have a part.
    """
    pairing, z = Pairing.of(pairing, len(views)), [F.normalize(view, dim=0) for view in views]
    count, spreads = len(pairing.taking_part), []
    for view in pairing.regularised:
        c_DD = z[view].T @ z[view]
        spreads.append(2 * (torch.linalg.matrix_norm(c_DD) / c_DD.trace()).log())
    return count * (torch.stack(spreads).mean() + align_weight * (count - 1) / 2 * alignment_textbook(z, pairing))


def wasserstein_textbook(
    views: Sequence[Tensor], *, align_weight: float, reg_weight: float, pairing: Pairing | None = None
) -> Tensor:
    """align_weight · alignment + reg_weight · mean_v W₂(Z^v), z = x/‖x‖ and W₂ the distance [W]

    W₂ = √(‖μ‖² + 1 + tr Σ − (2/√D) tr Σ^½) of two Gaussians, one of the mean μ and the covariance Σ of the rows
    (dividing by N), the other of mean 0 and covariance I/D.
    """
    pairing, z = Pairing.of(pairing, len(views)), [F.normalize(view) for view in views]
    distances = []
    for view in pairing.regularised:
        mean_D = z[view].mean(0)
        centred_ND = (z[view] - mean_D) / math.sqrt(len(z[view]))
        roots = torch.linalg.matrix_norm(centred_ND, "nuc")  # tr Σ^½
        squared = mean_D.square().sum() + 1 + centred_ND.square().sum() - 2 / math.sqrt(len(mean_D)) * roots
        distances.append(squared.sqrt())
    return align_weight * alignment_textbook(z, pairing) + reg_weight * torch.stack(distances).mean()


def vne_textbook(
    views: Sequence[Tensor], *, align_weight: float, entropy_weight: float, pairing: Pairing | None = None
) -> Tensor:
    """I-VNE+ [V]: −align_weight · mean cos(x_i^a, x_i^b) − entropy_weight · mean_v S(ρ_v).

    S = −tr ρ log ρ, ρ = ZᵀZ/N, z = x/‖x‖. The first mean is over aligned pairs of views, weighted.
    """
    pairing, z = Pairing.of(pairing, len(views)), [F.normalize(view) for view in views]
    entropies = []
    for view in pairing.regularised:
        eigenvalues = torch.linalg.svdvals(z[view] / math.sqrt(len(z[view]))).square()
        entropies.append(-torch.xlogy(eigenvalues, eigenvalues).sum())
    cosines = sum_textbook(w * (z[a] * z[b]).sum(1).mean() for (a, b), w in pairing.aligned.items())
    return -align_weight * cosines - entropy_weight * torch.stack(entropies).mean()


def mmcr_textbook(views: Sequence[Tensor], *, pairing: Pairing | None = None) -> Tensor:
    """MMCR [M]: −‖C‖_*, the sum of the singular values of the centroids C (N, D), c_i the mean over views of x/‖x‖.

    The published λ, which would shrink each image's own views, is 0. With a pairing: the mean over its stars, by
    weight, of the same for the views of each; the set of regularised views plays no part.
    """
    pairing, z = Pairing.of(pairing, len(views)), [F.normalize(view) for view in views]
    centroids = {which: torch.stack([z[view] for view in which]).mean(0) for which in pairing.bundles}
    norms = [w * torch.linalg.matrix_norm(centroids[which], "nuc") for which, w in pairing.bundles.items()]
    return -sum_textbook(norms)


def frossl(
    views: Sequence[Tensor],
    *,
    align_weight: float = 1.0,
    pairing: Pairing | None = None,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """FroSSL as in `frossl_textbook`, N the rows of all ranks; in its dual form ‖C‖_F = ‖z zᵀ‖_F.

    `align_weight` is the published invariance weight. Terms: `alignment`, `spread`. Raises ValueError on an unknown
    form or views that do not match.
    """
    check_views(views)
    pairing, batch = Pairing.of(pairing, len(views)), UnitColumns.of(views, group)
    wanted, world, count = wants_gradient(views), batch.group.world_size, len(pairing.taking_part)
    form = choose_form(form, covariance_costs(batch.count, batch.width, world))
    square_sum_of = covariance.dual_covariance if form == "dual" else covariance.primal_covariance
    share = count / len(pairing.regularised)
    with closed_form(views[0]):
        gradients = [batch.zeros(*view.shape) for view in views] if wanted else None
        traces_V = (batch.lengths * batch.inverse_lengths).square().sum(1).double()  # how many columns are not 0
        spread, nothing_D = torch.zeros_like(traces_V[0]), torch.zeros_like(batch.lengths[0])
        for view in pairing.regularised:
            square_sum, write_gradient_ = square_sum_of(batch, view)  # ‖C‖_F²/(N − 1)²
            spread += share * (square_sum.log() + 2 * math.log(batch.count - 1) - 2 * traces_V[view].log())
            if gradients is not None:  # 4 Z C/‖C‖_F²; what comes of the trace lies along the columns
                factor = 4 * share * world / ((batch.count - 1) * square_sum)
                write_gradient_(gradients[view], factor.to(batch.dtype), nothing_D)
        weight = align_weight * count * (count - 1) / 2
        invariance = add_alignment_(gradients, views, pairing, batch.group, weight, batch.inverse_lengths)
        if gradients is not None:
            _by_lengths_(gradients, batch)
    return assemble(views, {"alignment": invariance, "spread": spread}, gradients, form)


def _by_lengths_(gradients: Sequence[Tensor], batch: UnitColumns) -> None:
    """From ∂L/∂z to ∂L/∂x = (∂L/∂z − z (z·∂L/∂z))/‖x‖, column by column."""
    along_VD = torch.zeros_like(batch.lengths)
    for view, gradient in enumerate(gradients):
        for rows in row_blocks(gradient):
            along_VD[view] += torch.linalg.vecdot(batch.rows(view, rows), gradient[rows], dim=0)
    batch.group.all_reduce_(along_VD)
    for view, gradient in enumerate(gradients):
        for rows in row_blocks(gradient):
            gradient[rows].addcmul_(batch.rows(view, rows), along_VD[view], value=-1).mul_(batch.inverse_lengths[view])


def wasserstein(
    views: Sequence[Tensor],
    *,
    align_weight: float = 1.0,
    reg_weight: float = 2.0,
    pairing: Pairing | None = None,
    **how: Unpack[How],
) -> Loss:
    """Alignment and W₂ uniformity as in `wasserstein_textbook`: 0 for N > D points of covariance I/D, √2 at collapse.

    On the sphere ‖μ‖² + tr Σ = 1, and of W₂ the roots are left, singular values of the centred points: from their N x N
    or their D x D products, whichever are fewer. Terms: `alignment`, `regulariser`. Errors as of `frossl`.
    """
    check_views(views)
    pairing, scale = Pairing.of(pairing, len(views)), 2 / math.sqrt(views[0].shape[1])
    measures = _spectral_measures(root, [(view,) for view in pairing.regularised], centred=True)

    def outer(delta_VVN: Tensor, roots_R: Tensor) -> dict[str, Tensor]:
        distances_R = (2 - scale * roots_R).clamp_min(SMALLEST_SQUARE).sqrt()
        return {
            "alignment": align_weight * alignment(delta_VVN, pairing),
            "regulariser": reg_weight * distances_R.mean(),
        }

    return sphere_loss(views, outer, pairing.weights, measures, spectral_costs, **how)


def vne(
    views: Sequence[Tensor],
    *,
    align_weight: float = VNE_ALIGN,
    entropy_weight: float = 1.0,
    pairing: Pairing | None = None,
    **how: Unpack[How],
) -> Loss:
    """I-VNE+ as in `vne_textbook`: the published α₁ and α₂; S is at most log min(N, D).

    As cos = 1 − ‖z_a − z_b‖²/2, `align_weight` is twice that of losses of squared distances.
    Terms: `alignment` = −align_weight · mean cos, `entropy` = −entropy_weight · mean S. Errors as of `frossl`.
    """
    check_views(views)
    pairing = Pairing.of(pairing, len(views))
    measures = _spectral_measures(entropy, [(view,) for view in pairing.regularised])

    def outer(delta_VVN: Tensor, entropies_R: Tensor) -> dict[str, Tensor]:
        cosines_PN = torch.stack([1 - delta_VVN[pair] / 2 for pair in pairing.aligned])
        cosine = weighted_sum(cosines_PN, pairing.aligned.values()) / cosines_PN.shape[1]
        return {"alignment": -align_weight * cosine, "entropy": -entropy_weight * entropies_R.mean()}

    return sphere_loss(views, outer, pairing.aligned, measures, spectral_costs, **how)


def mmcr(views: Sequence[Tensor], *, pairing: Pairing | None = None, **how: Unpack[How]) -> Loss:
    """MMCR as in `mmcr_textbook`: between −√(N min(N, D)) and −√N at collapse. One term: `capacity`.

    Errors as of `frossl`.
    """
    check_views(views)
    pairing = Pairing.of(pairing, len(views))
    measures = _spectral_measures(root, list(pairing.bundles))

    def outer(delta_VVN: Tensor, roots_B: Tensor) -> dict[str, Tensor]:
        return {"capacity": -math.sqrt(delta_VVN.shape[2]) * weighted_sum(roots_B, pairing.bundles.values())}

    return sphere_loss(views, outer, (), measures, spectral_costs, **how)


def _spectral_measures(
    function: SpectralFunction, means: Sequence[tuple[int, ...]], centred: bool = False
) -> dict[str, Measure]:
    """The engine that takes a function of spectra, in both forms."""
    return {
        form: partial(spectral_sums, function=function, means=means, form=form, centred=centred)
        for form in ("dual", "primal")
    }
