"""Contrastive losses on the sphere: SimCLR, the SFRIK repository's variant of it, and the spectral contrastive loss.

Both InfoNCE losses are functions of δ_ab,i = ‖z_i^a − z_i^b‖² (the positives) and of S_i^a, the sum of
exp((z_i^a·z_j^b − 1)/τ) over all views b of all other images j ≠ i (the negatives). Inner products on the sphere are at
most 1, so that subtracting 1 is the shift that keeps the sum of exponentials from overflowing.
"""

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..engine.forms import choose_form
from ..engine.pairs import row_sums
from ..kernels.kernel import quadratic, rbf
from .base import Loss, check_views
from .sphere import kernel_measure, sphere_loss

SMALLEST_TEMPERATURE = 0.02  # exp(−1/τ) must stay within float32


def simclr_textbook(views: Sequence[Tensor], *, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020): −log e^{t_ab/τ} / Σ e^{t/τ} over all other rows, averaged over positive pairs a, b.

    t = z·z' over all rows of all views; a cross-entropy, every other row a class.
    """
    logits_MM = _logits_textbook(views, temperature)
    targets = _positives_textbook(views)
    return torch.stack([F.cross_entropy(logits_MM, target_M) for target_M in targets]).mean()


def simclr_sfrik_textbook(views: Sequence[Tensor], *, temperature: float) -> Tensor:
    """The same with the further views of the image left out of the denominator: of two views there are none."""
    logits_MM, targets = _logits_textbook(views, temperature), _positives_textbook(views)
    losses = []
    for target_M in targets:
        classes_MM = logits_MM
        for further_M in targets:
            if further_M is not target_M:
                classes_MM = classes_MM.scatter(1, further_M[:, None], -torch.inf)
        losses.append(F.cross_entropy(classes_MM, target_M))
    return torch.stack(losses).mean()


def _logits_textbook(views: Sequence[Tensor], temperature: float) -> Tensor:
    """z_i·z_j/τ over all rows of all views, −∞ of a row with itself."""
    z_MD = torch.cat([F.normalize(view) for view in views])
    return (z_MD @ z_MD.T / temperature).fill_diagonal_(-torch.inf)


def _positives_textbook(views: Sequence[Tensor]) -> list[Tensor]:
    """For each row the row of its image one, two, … V − 1 views before."""
    count = len(views[0])
    rows_M = torch.arange(len(views) * count, device=views[0].device)
    return [rows_M.roll(shift * count) for shift in range(1, len(views))]


def spectral_textbook(views: Sequence[Tensor], *, reg_weight: float) -> Tensor:
    """Spectral contrastive loss on the sphere (HaoChen et al. 2021), averaged over pairs of views a ≠ b:

    −2 mean_i z_i^a·z_i^b + reg_weight · mean_{i≠j} (z_i^a·z_j^b)²
    """
    losses = []
    for a_ND, b_ND in combinations([F.normalize(view) for view in views], 2):
        t_NN = a_ND @ b_ND.T
        others = ~torch.eye(len(t_NN), dtype=torch.bool, device=t_NN.device)
        losses.append(-2 * t_NN.diagonal().mean() + reg_weight * t_NN[others].square().mean())
    return torch.stack(losses).mean()


def simclr(
    views: Sequence[Tensor], *, temperature: float = 0.1, form: str = "auto", group: dist.ProcessGroup | None = None
) -> Loss:
    """NT-Xent as in `simclr_textbook`.

    With V > 2 views every other view of the image is a positive in turn and all stay in the denominator. `temperature`
    is τ ≥ 0.02. Terms: `alignment` = mean (1 − t_ab)/τ, `contrast` = mean log Σ e^{(t−1)/τ}; their sum is the loss.
    """
    return _info_nce(views, temperature, form, group, further=True)


def simclr_sfrik(
    views: Sequence[Tensor], *, temperature: float = 0.15, form: str = "auto", group: dist.ProcessGroup | None = None
) -> Loss:
    """InfoNCE as in the SFRIK repository: the denominator holds the one positive and the views of other images only.

    Equal to `simclr` for two views (where the published code uses it); with more, the image's further views are no
    negatives of each other. Terms and `temperature` as for `simclr`.
    """
    return _info_nce(views, temperature, form, group, further=False)


def spectral(
    views: Sequence[Tensor], *, reg_weight: float = 1.0, form: str = "auto", group: dist.ProcessGroup | None = None
) -> Loss:
    """Spectral contrastive loss as in `spectral_textbook`.

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
    views: Sequence[Tensor], temperature: float, form: str, group: dist.ProcessGroup | None, *, further: bool
) -> Loss:
    """Mean over images and the P = V − 1 positives of each row of log(denominator) − logit.

    further: whether the denominator holds the image's further views, or but the one positive beside the negatives.
    """
    check_views(views)
    if not temperature >= SMALLEST_TEMPERATURE:
        raise ValueError(f"the temperature must be at least {SMALLEST_TEMPERATURE}, not {temperature!r}")
    kernel = rbf(1 / (2 * temperature), views[0].shape[1])  # exp((t − 1)/τ)
    form = choose_form(form, {"rowwise": 0.0})

    def outer(delta_VVN: Tensor, negatives_VN: Tensor) -> dict[str, Tensor]:
        logits_VPN = -_of_positives(delta_VVN) / (2 * temperature)  # (t − 1)/τ
        positives_VPN = logits_VPN.exp().sum(1, keepdim=True) if further else logits_VPN.exp()
        return {"alignment": -logits_VPN.mean(), "contrast": (negatives_VN[:, None] + positives_VPN).log().mean()}

    return sphere_loss(views, outer, partial(row_sums, kernel=kernel), form, group)


def _of_positives(delta_VVN: Tensor) -> Tensor:
    """What belongs to two different views, for each view one after the other, (V, V − 1, N)."""
    count = len(delta_VVN)
    return torch.stack([torch.stack([delta_VVN[a, b] for b in range(count) if b != a]) for a in range(count)])
