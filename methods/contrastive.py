"""Contrastive losses on the sphere: SimCLR, the SFRIK repository's variant of it, and the spectral contrastive loss.

Both InfoNCE losses are functions of δ_ab,i = ‖z_i^a − z_i^b‖² (the positives) and of S_i^a, the sum of
exp((z_i^a·z_j^b − 1)/τ) over all views b of all other images j ≠ i (the negatives). Inner products on the sphere are at
most 1, so that subtracting 1 is the shift that keeps the sum of exponentials from overflowing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from .forms import choose_form
from .kernels import quadratic, rbf
from .loss import Loss, check_views
from .pairwise import row_sums
from .regularisers import kernel_measure
from .sphere import sphere_loss

SMALLEST_TEMPERATURE = 0.02  # exp(−1/τ) must stay within float32


def simclr(
    views: Sequence[Tensor], *, temperature: float = 0.1, form: str = "auto", group: dist.ProcessGroup | None = None
) -> Loss:
    """NT-Xent (Chen et al. 2020): −log e^{t_ab/τ} / Σ e^{t/τ} over all other embeddings, averaged over positive pairs.

    With V > 2 views every other view of the image is a positive in turn and all stay in the denominator. `temperature`
    is τ ≥ 0.02. Terms: `alignment` = mean (1 − t_ab)/τ, `contrast` = mean log Σ e^{(t−1)/τ}; their sum is the loss.
    """

    def log_partition(logits_VPN: Tensor, negatives_VN: Tensor) -> Tensor:
        return (negatives_VN + logits_VPN.exp().sum(1)).log()

    return _info_nce(views, log_partition, temperature, form, group)


def simclr_sfrik(
    views: Sequence[Tensor], *, temperature: float = 0.15, form: str = "auto", group: dist.ProcessGroup | None = None
) -> Loss:
    """InfoNCE as in the SFRIK repository: the denominator holds the one positive and the views of other images only.

    Equal to `simclr` for two views (where the published code uses it); with more, the image's further views are no
    negatives of each other. Terms and `temperature` as for `simclr`.
    """

    def log_partition(logits_VPN: Tensor, negatives_VN: Tensor) -> Tensor:
        return (negatives_VN[:, None] + logits_VPN.exp()).log()

    return _info_nce(views, log_partition, temperature, form, group)


def spectral(
    views: Sequence[Tensor], *, reg_weight: float = 1.0, form: str = "auto", group: dist.ProcessGroup | None = None
) -> Loss:
    """Spectral contrastive loss on the sphere (HaoChen et al. 2021).

        −2 mean_i z_i^a·z_i^b + reg_weight · mean_{i≠j} (z_i^a·z_j^b)²,   averaged over ordered pairs of views a ≠ b

    On a sphere of radius √μ and divided by μ, as in the published code, it is reg_weight = μ.
    Terms: `alignment` = mean_i ‖z_i^a − z_i^b‖² − 2, `contrast`.
    """
    check_views(views)
    form, measure = kernel_measure(views, quadratic(views[0].shape[1]), form, group, across=True)

    def outer(delta_VVN: Tensor, sums: Tensor) -> dict[str, Tensor]:
        positives = 1 - _of_positives(delta_VVN) / 2
        square = (sums.sum() - positives.square().sum()) / (positives.numel() * (delta_VVN.shape[2] - 1))
        return {"alignment": -2 * positives.mean(), "contrast": reg_weight * square}

    return sphere_loss(views, outer, measure, form, group)


def _info_nce(
    views: Sequence[Tensor],
    log_partition: Callable[[Tensor, Tensor], Tensor],
    temperature: float,
    form: str,
    group: dist.ProcessGroup | None,
) -> Loss:
    """Mean over images and ordered pairs of views of log_partition − logit.

    log_partition takes the logits of the P = V − 1 positives of each row (V, P, N) and the sum of its negatives (V, N).
    """
    check_views(views)
    if not temperature >= SMALLEST_TEMPERATURE:
        raise ValueError(f"the temperature must be at least {SMALLEST_TEMPERATURE}, not {temperature!r}")
    kernel = rbf(1 / (2 * temperature), views[0].shape[1])  # exp((t − 1)/τ)
    form = choose_form(form, {"rowwise": 0.0})

    def outer(delta_VVN: Tensor, negatives_VN: Tensor) -> dict[str, Tensor]:
        logits_VPN = -_of_positives(delta_VVN) / (2 * temperature)  # (t − 1)/τ
        return {"alignment": -logits_VPN.mean(), "contrast": log_partition(logits_VPN, negatives_VN).mean()}

    return sphere_loss(views, outer, partial(row_sums, kernel=kernel), form, group)


def _of_positives(delta_VVN: Tensor) -> Tensor:
    """What belongs to two different views, for each view one after the other, (V, V − 1, N)."""
    count = len(delta_VVN)
    return torch.stack([torch.stack([delta_VVN[a, b] for b in range(count) if b != a]) for a in range(count)])
