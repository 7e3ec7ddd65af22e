"""Sliced tests: alignment plus how far the embeddings' projections on random directions are from those of a target.

    loss = (1 − weight) · alignment + weight · mean_v T(Z^v)

T is a mean over unit directions a, drawn anew at each step. With `pairing=None` the alignment is the published
invariance, the mean over views of the squared distance to their centre; for large and small views
`Pairing.centre(large, small)`, the distance to the centre of the large ones. SIGReg and VISReg are published with the
mean over N and D, and have it here: the one exception to this project's sum over the D coordinates. SUSReg sums.

Draws: equal seeds draw equal directions, on every rank and whatever the views' type, though not on another kind of
device; no other generator is touched. A training loop passes another `seed` at each step; or gives `directions`.

| | embeddings | T |
|---|---|---|
| `sigreg` [1] | as they are | distance of the characteristic function from the normal distribution's |
| `susreg` [2] | on the sphere | from the uniform distribution's, projected |
| `visreg` [3] | as they are | mean, deviations, and the distance of sorted projections from normal quantiles |

[1] Balestriero and LeCun, LeJEPA, arXiv 2511.08544. [2] SPHERE-JEPA, arXiv 2605.26900. [3] VISReg, arXiv 2606.02572.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..engine.alignment import add_alignment_
from ..engine.forms import choose_form
from ..engine.matmul import closed_form, matmul_dtype, working_dtype
from ..engine.ranks import Group
from ..engine.rows import CentredBatch
from ..engine.slices import CharacteristicDistance, Directions, QuantileDistance, slice_sums
from ..engine.sphere import Measured, PointGradient, Points
from ..engine.tiles import operand_rows, row_blocks, row_tiles
from ..pairing import Pairing
from .base import How, Loss, alignment_textbook, assemble, check_views, terms_and_gradients, wants_gradient
from .sphere import alignment, sphere_loss

LARGEST_KNOT = 10.0  # beyond, the window e^{−t²/2} is below 1e-21
STANDARD_EPSILON = 1e-4  # added to VISReg's standard deviations
FORM = {"sliced": 0.0}  # the one there is


def sigreg_textbook(
    views: Sequence[Tensor],
    *,
    weight: float,
    slices: int,
    knots: int,
    t_max: float,
    directions: Tensor | None = None,
    seed: int = 0,
    pairing: Pairing | None = None,
) -> Tensor:
    """SIGReg (LeJEPA): T = N · mean_a Σ_k w_k |mean_i exp(i t_k x_i·a) − exp(−t_k²/2)|².

    t_k: `knots` of them, from 0 to `t_max` at equal distances Δ; w_k = 2Δ exp(−t_k²/2), half of that at both ends: the
    trapezoid rule on −t_max … t_max.
    """
    pairing = Pairing.or_centre(pairing, len(views))
    t_K, w_K = knots_and_weights(knots, t_max, views[0])
    a_DS = _directions(views, slices, directions, seed).whole(views[0])
    tests = [_characteristic_textbook(views[view], a_DS, t_K, w_K, normal_target(t_K)) for view in pairing.regularised]
    invariance = alignment_textbook(views, pairing) / views[0].shape[1]
    return (1 - weight) * invariance + weight * torch.stack(tests).mean()


def susreg_textbook(
    views: Sequence[Tensor],
    *,
    weight: float,
    slices: int,
    knots: int,
    t_max: float,
    directions: Tensor | None = None,
    seed: int = 0,
    pairing: Pairing | None = None,
) -> Tensor:
    """SUSReg (SPHERE-JEPA): T of SIGReg for z = x/‖x‖ and the projected uniform distribution, ₀F₁(; D/2; −t²/4)."""
    pairing, z = Pairing.or_centre(pairing, len(views)), [F.normalize(view) for view in views]
    t_K, w_K = knots_and_weights(knots, t_max, views[0])
    target_K, a_DS = uniform_target(t_K, z[0].shape[1]), _directions(z, slices, directions, seed).whole(z[0])
    tests = [_characteristic_textbook(z[view], a_DS, t_K, w_K, target_K) for view in pairing.regularised]
    return (1 - weight) * alignment_textbook(z, pairing) + weight * torch.stack(tests).mean()


def _characteristic_textbook(x_ND: Tensor, a_DS: Tensor, t_K: Tensor, w_K: Tensor, target_K: Tensor) -> Tensor:
    angles_NSK = (x_ND @ a_DS)[..., None] * t_K.to(x_ND.dtype)
    error_SK = (angles_NSK.cos().mean(0) - target_K).square() + angles_NSK.sin().mean(0).square()
    return len(x_ND) * (error_SK @ w_K.to(error_SK.dtype)).mean()


def visreg_textbook(
    views: Sequence[Tensor],
    *,
    weight: float,
    slices: int,
    centre_weight: float,
    scale_weight: float,
    shape_weight: float,
    directions: Tensor | None = None,
    seed: int = 0,
    pairing: Pairing | None = None,
) -> Tensor:
    """VISReg: T = centre_weight · mean_d μ_d² + scale_weight · mean_d (σ_d − 1)² + shape_weight · mean (p_ai − q_i)².

    μ and σ over the rows, σ² dividing by N; p_a1 ≤ … ≤ p_aN the sorted projections of (x − μ)/(σ + 1e-4) on a, σ
    detached; q_i = Φ⁻¹(i/(N + 1)).
    """
    pairing, count = Pairing.or_centre(pairing, len(views)), len(views[0])
    a_DS = _directions(views, slices, directions, seed).whole(views[0])
    ranks_N = torch.arange(1, count + 1, dtype=torch.float64, device=a_DS.device)
    q_N1 = torch.special.ndtri(ranks_N / (count + 1)).to(a_DS.dtype)[:, None]

    def test(x_ND: Tensor) -> Tensor:
        mean_D, deviation_D = x_ND.mean(0), x_ND.var(0, unbiased=False).sqrt()
        z_ND = (x_ND - mean_D) / (deviation_D.detach() + STANDARD_EPSILON)
        shape = ((z_ND @ a_DS).sort(0).values - q_N1).square().mean()
        spread = centre_weight * mean_D.square().mean() + scale_weight * (deviation_D - 1).square().mean()
        return spread + shape_weight * shape

    invariance = alignment_textbook(views, pairing) / views[0].shape[1]
    tests = torch.stack([test(views[view]) for view in pairing.regularised])
    return (1 - weight) * invariance + weight * tests.mean()


def sigreg(
    views: Sequence[Tensor],
    *,
    weight: float = 0.05,
    slices: int = 1024,
    knots: int = 17,
    t_max: float = 3.0,
    directions: Tensor | None = None,
    seed: int = 0,
    pairing: Pairing | None = None,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """SIGReg as in `sigreg_textbook`, N the rows of all ranks. Terms: `alignment`, `regulariser`.

    weight: in [0, 1]; 1 leaves the test alone, 0 the invariance. directions: (D, slices), made unit, in place of a draw
    by `seed`; the same on all ranks. Raises ValueError on an option out of range, directions of another dimension, an
    unknown form, a pairing of another number of views, or views that do not match.
    """
    _check(views, weight, slices, knots, t_max)
    pairing, form = Pairing.or_centre(pairing, len(views)), choose_form(form, FORM)
    chosen = _directions(views, slices, directions, seed)
    wanted, dtype, processes = wants_gradient(views), matmul_dtype(views[0]), Group.of(group)
    processes.check_rows(views[0])
    regularised = [views[view] for view in pairing.regularised]
    share = weight / (len(regularised) * chosen.count)  # what a direction of a view weighs
    with closed_form(views[0]):
        gradients = [torch.zeros_like(view, dtype=working_dtype(view)) for view in views] if wanted else None
        t_K, w_K = knots_and_weights(knots, t_max, views[0])
        step, factor = t_max / (knots - 1), share * processes.world_size
        statistic = CharacteristicDistance(step, w_K, normal_target(t_K), processes, factor=factor)
        sums_V = slice_sums(
            lambda index, rows: regularised[index][rows].to(dtype),
            regularised,
            row_tiles(views[0]),
            chosen,
            statistic,
            [gradients[view] for view in pairing.regularised] if gradients is not None else None,
        )
        invariance = add_alignment_(gradients, views, pairing, processes, (1 - weight) / views[0].shape[1])
    return assemble(views, {"alignment": invariance, "regulariser": share * sums_V.sum()}, gradients, form)


def susreg(
    views: Sequence[Tensor],
    *,
    weight: float = 0.05,
    slices: int = 1024,
    knots: int = 17,
    t_max: float = 3.0,
    directions: Tensor | None = None,
    seed: int = 0,
    pairing: Pairing | None = None,
    **how: Unpack[How],
) -> Loss:
    """SUSReg as in `susreg_textbook`, otherwise as `sigreg`. Over all directions and knots it is an MMD: see `mmd`."""
    _check(views, weight, slices, knots, t_max)
    pairing, chosen = Pairing.or_centre(pairing, len(views)), _directions(views, slices, directions, seed)

    def measure(points: Points, wanted: bool) -> Measured:
        by_points, which = PointGradient.zeros(points), pairing.regularised
        t_K, w_K = knots_and_weights(knots, t_max, views[0])
        scales_Vn = torch.stack([points.local_scales[view] for view in which])
        target_K = uniform_target(t_K, views[0].shape[1])
        sums_V = slice_sums(
            lambda index, rows: points.local_operands[which[index]][rows],
            [views[view] for view in which],
            row_tiles(views[0]),
            chosen,
            CharacteristicDistance(t_max / (knots - 1), w_K, target_K, points.group, scales_Vn),
            [by_points.unscaled[view] for view in which] if wanted else None,
        )
        by_points.set_radial_(points, which if wanted else ())

        def gradient_of(by_sum: Tensor) -> PointGradient:
            by_points.factors = by_sum.expand(len(views))
            return by_points

        return sums_V.sum(), gradient_of

    def outer(delta_VVN: Tensor, total: Tensor) -> dict[str, Tensor]:
        test = total / (len(pairing.regularised) * chosen.count)
        return {"alignment": (1 - weight) * alignment(delta_VVN, pairing), "regulariser": weight * test}

    return sphere_loss(views, outer, pairing.weights, {"sliced": measure}, **how)


def visreg(
    views: Sequence[Tensor],
    *,
    weight: float = 0.6,
    slices: int = 4096,
    centre_weight: float = 1.0,
    scale_weight: float = 1.0,
    shape_weight: float = 1.0,
    directions: Tensor | None = None,
    seed: int = 0,
    pairing: Pairing | None = None,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """VISReg as in `visreg_textbook`, N the rows of all ranks. Terms: `alignment`, `centre`, `scale`, `shape`.

    As published, the shape does not pull on the deviations: its gradient is that of standardised embeddings over their
    deviations, which is not the derivative of the value. `weight`, `directions`, `seed` and errors as of `sigreg`.
    """
    _check(views, weight, slices)
    pairing, form = Pairing.or_centre(pairing, len(views)), choose_form(form, FORM)
    chosen = _directions(views, slices, directions, seed)
    wanted, batch = wants_gradient(views), CentredBatch.of([views[view] for view in pairing.regularised], group)
    count, world, share = batch.count, batch.group.world_size, weight / len(pairing.regularised)
    per_entry = share * shape_weight / (count * chosen.count)

    def of_moments(means_VD: Tensor, deviations_VD: Tensor) -> dict[str, Tensor]:
        centre, scale = (moment.square().mean(1).sum() for moment in (means_VD, deviations_VD - 1))
        return {"centre": share * centre_weight * centre, "scale": share * scale_weight * scale}

    with closed_form(views[0]):
        gradients = [torch.zeros_like(view, dtype=batch.dtype) for view in views] if wanted else None
        deviations_VD = (batch.square_deviations / count).sqrt_()
        inverse_VD = (deviations_VD + STANDARD_EPSILON).reciprocal_()
        sums_V = slice_sums(
            lambda index, rows: batch.rows(index, rows).mul_(inverse_VD[index]).to(batch.matmul_dtype),
            batch.views,
            operand_rows(views[0]),
            chosen,
            QuantileDistance(batch.group, factor=per_entry * world),
            [gradients[view] for view in pairing.regularised] if gradients is not None else None,
        )
        terms, slopes = terms_and_gradients(of_moments, batch.means, deviations_VD, wanted=wanted)
        terms["shape"] = per_entry * sums_V.sum()
        if gradients is not None:
            # Projections are centred and quantiles symmetric: from the shape's gradient centring takes nothing.
            by_means_VD, by_deviations_VD = ((slope * world / count).to(batch.dtype) for slope in slopes)
            along_VD = by_deviations_VD / deviations_VD.clamp_min(torch.finfo(batch.dtype).tiny)
            for index, view in enumerate(pairing.regularised):
                for rows in row_blocks(views[0]):
                    gradient_RD = gradients[view][rows].mul_(inverse_VD[index]).add_(by_means_VD[index])
                    gradient_RD.addcmul_(batch.rows(index, rows), along_VD[index])
        invariance = add_alignment_(gradients, views, pairing, batch.group, (1 - weight) / batch.width)
    return assemble(views, {"alignment": invariance, **terms}, gradients, form)


def normal_target(t_K: Tensor) -> Tensor:
    """The characteristic function of the standard normal distribution: exp(−t²/2)."""
    return (-t_K.square() / 2).exp()


def uniform_target(t_K: Tensor, dim: int) -> Tensor:
    """Of one coordinate of the uniform distribution on the sphere in R^dim: ₀F₁(; dim/2; −t²/4).

    That is Σ_j (−x)^j/(j! ν (ν + 1) … (ν + j − 1)), x = t²/4, ν = dim/2, here from within:
    1 − x/ν (1 − x/(2 (ν + 1)) (1 − …)). With x ≤ 25 a hundred terms are more than float64 holds.
    """
    x_K, value_K = t_K.square() / 4, torch.ones_like(t_K)
    for j in range(100, 0, -1):
        value_K = 1 - x_K * value_K / (j * (dim / 2 + j - 1))
    return value_K


def knots_and_weights(knots: int, t_max: float, view: Tensor) -> tuple[Tensor, Tensor]:
    """t_K and w_K, float64."""
    t_K = torch.linspace(0, t_max, knots, dtype=torch.float64, device=view.device)
    w_K = 2 * t_max / (knots - 1) * normal_target(t_K)
    w_K[0] /= 2
    w_K[-1] /= 2
    return t_K, w_K


def _directions(views: Sequence[Tensor], slices: int, directions: Tensor | None, seed: int) -> Directions:
    if directions is None:
        return Directions(slices, seed)
    dim = views[0].shape[1]
    if not isinstance(directions, Tensor):
        raise ValueError(f"directions must be a tensor (D, slices), not {type(directions).__name__}")
    if directions.dim() != 2 or directions.shape[0] != dim or not directions.shape[1]:
        raise ValueError(f"directions must be a matrix (D, slices), D = {dim}, not {tuple(directions.shape)}")
    return Directions(directions.shape[1], seed, directions.detach())


def _check(views: Sequence[Tensor], weight: float, slices: int, knots: int = 2, t_max: float = 1.0) -> None:
    check_views(views)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie in [0, 1], not {weight!r}: the invariance weighs 1 - weight")
    for name, value, least in (("slices", slices, 1), ("knots", knots, 2)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    if not 0 < t_max <= LARGEST_KNOT:
        raise ValueError(f"t_max must lie in (0, {LARGEST_KNOT:g}], not {t_max!r}")
