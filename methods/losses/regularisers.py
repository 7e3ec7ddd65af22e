"""Kernel regularisers: alignment plus the MMD between the embeddings and the uniform distribution on the sphere.

    loss = align_weight · mean_i ‖z_i^1 − z_i^2‖² + reg_weight · (R(Z^1) + R(Z^2))/2,   z = x/‖x‖
    R(Z) = mean_ij φ(z_i·z_j) − b_0     [Z, section 3]

For more than two views the alignment is averaged over pairs of views and the regulariser over views, unless a `pairing`
says which views are aligned and regularised. The alignment sums over the D coordinates; published code that takes
`mse_loss` with a coefficient c has align_weight = c / D.

[Z] Zheng et al., ICLR 2023, arXiv 2208.00789, as in `kernels.kernel`.
"""

from collections.abc import Callable, Sequence
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.kernel import RotationInvariantKernel, legendre, rbf
from ..pairing import Pairing
from .base import How, Loss, Shared, alignment_textbook, check_views
from .sphere import alignment, check_dimension, kernel_measures, sphere_loss

SFRIK_WEIGHTS = (1.0, 40.0, 40.0)  # b_1, b_2, b_3 of [Z]
SFRIK_ALIGN = 4000 / 8192  # the published coefficient over the published dimension
AUH_ALIGN = 3000 / 8192
STATISTICS = ("V", "U")
AUH_LARGEST_SCALE = 40.0  # exp(−2s) must stay within float32


def sfrik_textbook(
    views: Sequence[Tensor],
    *,
    weights: Sequence[float],
    align_weight: float,
    reg_weight: float,
    pairing: Pairing | None = None,
) -> Tensor:
    """SFRIK [Z, section 3.3]: the equation above with φ = Σ_{l=1..L} b_l P_l(D; ·), L ≤ 3, P_l written out.

    `weights` are b_1..b_L.
    """
    dim = views[0].shape[1]
    polynomials: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda t: t,
        lambda t: (dim * t**2 - 1) / (dim - 1),
        lambda t: ((dim + 2) * t**3 - 3 * t) / (dim - 1),
    )
    if len(weights) > len(polynomials):
        raise ValueError(f"the textbook form of SFRIK has {len(polynomials)} degrees, not {len(weights)}")

    def regulariser(z_ND: Tensor) -> Tensor:
        t_NN = z_ND @ z_ND.T
        return torch.stack([b * p(t_NN).mean() for b, p in zip(weights, polynomials, strict=False)]).sum()

    return _regularised_textbook(views, regulariser, align_weight, reg_weight, pairing)


def auh_textbook(
    views: Sequence[Tensor], *, scale: float, align_weight: float, reg_weight: float, pairing: Pairing | None = None
) -> Tensor:
    """Alignment and uniformity (Wang and Isola 2020): above, R(Z) = log mean_{i≠j} exp(−s‖z_i − z_j‖²).

    `scale` is s; ‖z_i − z_j‖² = 2 − 2 z_i·z_j.
    """

    def regulariser(z_ND: Tensor) -> Tensor:
        t_NN = z_ND @ z_ND.T
        others = ~torch.eye(len(z_ND), dtype=torch.bool, device=z_ND.device)
        return (-2 * scale * (1 - t_NN[others])).exp().mean().log()

    return _regularised_textbook(views, regulariser, align_weight, reg_weight, pairing)


def _regularised_textbook(
    views: Sequence[Tensor],
    regulariser: Callable[[Tensor], Tensor],
    align_weight: float,
    reg_weight: float,
    pairing: Pairing | None,
) -> Tensor:
    pairing = Pairing.of(pairing, len(views))
    points = [F.normalize(view) for view in views]
    regularisers = torch.stack([regulariser(points[view]) for view in pairing.regularised])
    return align_weight * alignment_textbook(points, pairing) + reg_weight * regularisers.mean()


def mmd(
    views: Sequence[Tensor],
    *,
    kernel: RotationInvariantKernel,
    statistic: str = "V",
    log: bool = False,
    align_weight: float = SFRIK_ALIGN,
    reg_weight: float = 1.0,
    pairing: Pairing | None = None,
    **how: Unpack[How],
) -> Loss:
    """Alignment and MMD² to the uniform distribution, over any rotation-invariant kernel.

    statistic: "V", the mean over all pairs, diagonal included; or "U", over pairs i ≠ j.
    log: log(mean φ) in place of mean φ − b_0.
    views: V ≥ 2 of (N, D), not normalised. pairing: which of them are aligned and regularised; None: all pairs, all.
    Terms: `alignment`, `regulariser`.
    Raises ValueError on an unknown statistic or form, a kernel of another dimension, a pairing of another number of
    views, or views that do not match.
    """
    check_views(views)
    if statistic not in STATISTICS:
        raise ValueError(f"unknown statistic {statistic!r}: there is V (all pairs) and U (pairs i != j)")
    check_dimension(kernel, views[0].shape[1])
    pairing = Pairing.of(pairing, len(views))

    def outer(delta_VVN: Tensor, sums_V: Tensor) -> dict[str, Tensor]:
        count = delta_VVN.shape[2]
        sums_V = torch.stack([sums_V[view] for view in pairing.regularised])
        if statistic == "U":
            mean_V = sums_V / (count * (count - 1))
        else:  # on the diagonal, which the sums leave out, φ is φ(1)
            mean_V = (sums_V + count * kernel.value_at_one) / count**2
        regulariser = mean_V.log() if log else mean_V - kernel.constant
        aligned = align_weight * alignment(delta_VVN, pairing)
        return {"alignment": aligned, "regulariser": reg_weight * regulariser.mean()}

    return sphere_loss(views, outer, pairing.weights, *kernel_measures(kernel, pairing), **how)


def sfrik(
    views: Sequence[Tensor],
    *,
    weights: Sequence[float] = SFRIK_WEIGHTS,
    align_weight: float = SFRIK_ALIGN,
    reg_weight: float = 1.0,
    **shared: Unpack[Shared],
) -> Loss:
    """SFRIK: the MMD of the truncated Legendre kernel, V-statistic, of any degree L; `weights` are b_1..b_L."""
    check_views(views)
    kernel = legendre(weights, views[0].shape[1])
    return mmd(views, kernel=kernel, align_weight=align_weight, reg_weight=reg_weight, **shared)


def auh(
    views: Sequence[Tensor],
    *,
    scale: float = 2.5,
    align_weight: float = AUH_ALIGN,
    reg_weight: float = 1.0,
    **shared: Unpack[Shared],
) -> Loss:
    """Alignment and uniformity: the logarithm of the RBF kernel's U-statistic. `scale` is s, at most 40."""
    check_views(views)
    if not 0 < scale <= AUH_LARGEST_SCALE:
        raise ValueError(f"the scale of uniformity must lie in (0, {AUH_LARGEST_SCALE}], not {scale!r}")
    kernel = rbf(scale, views[0].shape[1])
    return mmd(
        views, kernel=kernel, statistic="U", log=True, align_weight=align_weight, reg_weight=reg_weight, **shared
    )
