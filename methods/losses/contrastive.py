"""Contrastive losses on the sphere: SimCLR, the SFRIK repository's variant of it, DCL, and the spectral loss.

The InfoNCE losses are functions of δ_ab,i = ‖z_i^a − z_i^b‖² (the positives) and of S_i^a, the sum of
exp((z_i^a·z_j^b − 1)/τ) over all views b of all other images j ≠ i (the negatives). They differ in which of the image's
own views stand beside the negatives in the denominator: all that are aligned with the row (SimCLR), but the one
positive (the SFRIK repository), none (DCL). Inner products on the sphere are at
most 1, so that subtracting 1 is the shift that keeps the sum of exponentials from overflowing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.pairs import row_sums
from ..kernels.kernel import quadratic, rbf
from ..pairing import Pair, Pairing
from .base import How, Loss, Shared, check_views, sum_textbook, weighted_sum
from .sphere import kernel_measures, sphere_loss

SMALLEST_TEMPERATURE = 0.02  # exp(−1/τ) must stay within float32

Own = Literal["aligned", "positive", "none"]  # the image's own views in the denominator


def simclr_textbook(views: Sequence[Tensor], *, temperature: float, pairing: Pairing | None = None) -> Tensor:
    """NT-Xent (Chen et al. 2020): −log e^{t_ab/τ} / Σ e^{t/τ} over all other rows, averaged over positive pairs a, b.

    t = z·z' over all rows of all views; a cross-entropy, every other row a class. With a pairing the average is
    over aligned pairs, weighted, and the classes of a row are the views of its image that are aligned with it and the
    regularised views of other images.
    """
    return _info_nce_textbook(views, temperature, pairing, own="aligned")


def simclr_sfrik_textbook(views: Sequence[Tensor], *, temperature: float, pairing: Pairing | None = None) -> Tensor:
    """The same with the further views of the image left out of the denominator: of two views there are none."""
    return _info_nce_textbook(views, temperature, pairing, own="positive")


def dcl_textbook(views: Sequence[Tensor], *, temperature: float, pairing: Pairing | None = None) -> Tensor:
    """DCL (Yeh et al. 2022): the same with none of the image's own views in the denominator, not the positive either.

    −t_ab/τ + log Σ e^{t/τ} over the views of other images: the positive no longer weighs on its own gradient.
    """
    return _info_nce_textbook(views, temperature, pairing, own="none")


def _info_nce_textbook(views: Sequence[Tensor], temperature: float, pairing: Pairing | None, *, own: Own) -> Tensor:
    pairing = Pairing.of(pairing, len(views))
    z_VND = torch.stack([F.normalize(view) for view in views])
    images_N = torch.arange(len(views[0]), device=views[0].device)
    losses = []
    for (a, b), weight in _ordered(pairing.aligned).items():
        logits_NVN = torch.einsum("nd,vmd->nvm", z_VND[a], z_VND) / temperature
        positives = {c for aligned in pairing.aligned if a in aligned for c in aligned if c != a}
        inside = {"aligned": positives, "positive": {b}, "none": set()}[own]
        classes_NVN = torch.zeros_like(logits_NVN, dtype=torch.bool)
        classes_NVN[:, list(pairing.regularised)] = True
        for view in range(len(views)):
            classes_NVN[images_N, view, images_N] = view in inside
        denominators_N = logits_NVN.masked_fill(~classes_NVN, -torch.inf).flatten(1).logsumexp(1)
        losses.append(weight * (denominators_N - logits_NVN[images_N, b, images_N]).mean())
    return sum_textbook(losses)


def spectral_textbook(views: Sequence[Tensor], *, reg_weight: float, pairing: Pairing | None = None) -> Tensor:
    """Spectral contrastive loss on the sphere (HaoChen et al. 2021), averaged over pairs of views a ≠ b:

    −2 mean_i z_i^a·z_i^b + reg_weight · mean_{i≠j} (z_i^a·z_j^b)²

    With a pairing: the first over aligned pairs, weighted, the second over pairs of which one view is regularised.
    """
    pairing, z = Pairing.of(pairing, len(views)), [F.normalize(view) for view in views]
    others_NN = ~torch.eye(len(z[0]), dtype=torch.bool, device=z[0].device)
    positives = sum_textbook(w * (z[a] * z[b]).sum(1).mean() for (a, b), w in pairing.aligned.items())
    contrasts = torch.stack([(z[a] @ z[b].T)[others_NN].square().mean() for a, b in pairing.contrasted])
    return -2 * positives + reg_weight * contrasts.mean()


def simclr(views: Sequence[Tensor], *, temperature: float = 0.1, **shared: Unpack[Shared]) -> Loss:
    """NT-Xent as in `simclr_textbook`.

    With V > 2 views every other view of the image is a positive in turn and all stay in the denominator; a `pairing`
    says which are positives (the aligned pairs) and whose views of other images are negatives (the regularised).
    `temperature` is τ ≥ 0.02. Terms: `alignment` = mean (1 − t_ab)/τ, `contrast` = mean log Σ e^{(t−1)/τ}; their sum is
    the loss.
    """
    return _info_nce(views, temperature, own="aligned", **shared)


def simclr_sfrik(views: Sequence[Tensor], *, temperature: float = 0.15, **shared: Unpack[Shared]) -> Loss:
    """InfoNCE as in the SFRIK repository: the denominator holds the one positive and the views of other images only.

    Equal to `simclr` for two views (where the published code uses it); with more, the image's further views are no
    negatives of each other. Terms, `pairing` and `temperature` as for `simclr`.
    """
    return _info_nce(views, temperature, own="positive", **shared)


def dcl(views: Sequence[Tensor], *, temperature: float = 0.1, **shared: Unpack[Shared]) -> Loss:
    """DCL as in `dcl_textbook`: the denominator holds the views of other images only.

    With more than two views the image's further ones are no negatives either. Terms, `pairing` and `temperature` as for
    `simclr`; the value may be negative.
    """
    return _info_nce(views, temperature, own="none", **shared)


def spectral(
    views: Sequence[Tensor], *, reg_weight: float = 1.0, pairing: Pairing | None = None, **how: Unpack[How]
) -> Loss:
    """Spectral contrastive loss as in `spectral_textbook`.

    On a sphere of radius √μ and divided by μ, as in the published code, it is reg_weight = μ.
    Terms: `alignment` = mean_i ‖z_i^a − z_i^b‖² − 2, `contrast`.
    """
    check_views(views)
    pairing = Pairing.of(pairing, len(views))
    measures = kernel_measures(quadratic(views[0].shape[1]), pairing, across=True)
    aligned, contrasted = _ordered(pairing.aligned), _ordered(dict.fromkeys(pairing.contrasted, 1.0))

    def outer(delta_VVN: Tensor, sums: Tensor) -> dict[str, Tensor]:
        positives_ON, same_images_ON = (
            torch.stack([1 - delta_VVN[pair] / 2 for pair in pairs]) for pairs in (aligned, contrasted)
        )
        square = (sums.sum() - same_images_ON.square().sum()) / (same_images_ON.numel() * (delta_VVN.shape[2] - 1))
        similarity = weighted_sum(positives_ON, aligned.values()) / positives_ON.shape[1]
        return {"alignment": -2 * similarity, "contrast": reg_weight * square}

    return sphere_loss(views, outer, {*pairing.aligned, *pairing.contrasted}, *measures, **how)


def _info_nce(
    views: Sequence[Tensor], temperature: float, *, own: Own, pairing: Pairing | None = None, **how: Unpack[How]
) -> Loss:
    """Weighted mean over ordered aligned pairs of views, and mean over images, of log(denominator) − logit.

    own: which of the image's own views the denominator holds beside the negatives.
    """
    check_views(views)
    if not temperature >= SMALLEST_TEMPERATURE:
        raise ValueError(f"the temperature must be at least {SMALLEST_TEMPERATURE}, not {temperature!r}")
    pairing = Pairing.of(pairing, len(views))
    kernel = rbf(1 / (2 * temperature), views[0].shape[1])  # exp((t − 1)/τ)
    ordered = _ordered(pairing.aligned)

    def mean(values_ON: Tensor) -> Tensor:
        return weighted_sum(values_ON, ordered.values()) / values_ON.shape[1]

    def outer(delta_VVN: Tensor, negatives_VN: Tensor) -> dict[str, Tensor]:
        logits_ON = torch.stack([delta_VVN[pair] for pair in ordered]) / (-2 * temperature)  # (t − 1)/τ
        negatives_ON = torch.stack([negatives_VN[a] for a, _ in ordered])
        if own == "none":
            return {"alignment": -mean(logits_ON), "contrast": mean(negatives_ON.log())}
        positives_ON = logits_ON.exp()
        if own == "aligned":
            by_row = {
                a: torch.stack([p for p, (c, _) in zip(positives_ON, ordered, strict=True) if c == a]).sum(0)
                for a, _ in ordered
            }
            positives_ON = torch.stack([by_row[a] for a, _ in ordered])
        denominators_ON = (negatives_ON + positives_ON).log()
        return {"alignment": -mean(logits_ON), "contrast": mean(denominators_ON)}

    measure = partial(row_sums, kernel=kernel, negatives=set(pairing.regularised))
    return sphere_loss(views, outer, pairing.aligned, {"rowwise": measure}, **how)


def _ordered(weights: Mapping[Pair, float]) -> dict[Pair, float]:
    """The weights of pairs a, b and b, a, half each."""
    both = {pair: weight / 2 for (a, b), weight in weights.items() for pair in ((a, b), (b, a))}
    return dict(sorted(both.items()))
