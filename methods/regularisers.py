"""Kernel regularisers: alignment plus the MMD between the embeddings and the uniform distribution on the sphere.

    loss = align_weight · mean_i ‖z_i^1 − z_i^2‖² + reg_weight · (R(Z^1) + R(Z^2))/2,   z = x/‖x‖
    R(Z) = mean_ij φ(z_i·z_j) − b_0     [Z, section 3]

For more than two views the alignment is averaged over pairs of views and the regulariser over views. The alignment sums
over the D coordinates; published code that takes `mse_loss` with a coefficient c has align_weight = c / D.

[Z] Zheng et al., *Self-supervised learning with rotation-invariant kernels*, ICLR 2023, arXiv 2208.00789.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.distributed as dist
from torch import Tensor

from .forms import choose_form, kernel_costs
from .kernels import RotationInvariantKernel, legendre, rbf
from .loss import Loss, check_views
from .moments import has_primal, moment_sums
from .pairwise import pair_sums
from .sharding import Ranks
from .sphere import Measure, mean_alignment, sphere_loss

SFRIK_WEIGHTS = (1.0, 40.0, 40.0)  # b_1, b_2, b_3 of [Z]
SFRIK_ALIGN = 4000 / 8192  # the published coefficient over the published dimension
AUH_ALIGN = 3000 / 8192
STATISTICS = ("V", "U")
AUH_LARGEST_SCALE = 40.0  # exp(−2s) must stay within float32


def mmd(
    views: Sequence[Tensor],
    *,
    kernel: RotationInvariantKernel,
    statistic: str = "V",
    log: bool = False,
    align_weight: float = SFRIK_ALIGN,
    reg_weight: float = 1.0,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """Alignment and MMD² to the uniform distribution, over any rotation-invariant kernel.

    statistic: "V", the mean over all pairs, diagonal included; or "U", over pairs i ≠ j.
    log: log(mean φ) in place of mean φ − b_0.
    views: V ≥ 2 of (N, D), not normalised. Terms: `alignment`, `regulariser`.
    Raises ValueError on an unknown statistic or form, a kernel of another dimension, or views that do not match.
    """
    check_views(views)
    if statistic not in STATISTICS:
        raise ValueError(f"unknown statistic {statistic!r}: there is V (all pairs) and U (pairs i != j)")
    form, measure = kernel_measure(views, kernel, form, group)

    def outer(delta_VVN: Tensor, sums_V: Tensor) -> dict[str, Tensor]:
        mean_V = _mean(sums_V, delta_VVN.shape[2], kernel, statistic)
        regulariser = mean_V.log() if log else mean_V - kernel.constant
        return {"alignment": align_weight * mean_alignment(delta_VVN), "regulariser": reg_weight * regulariser.mean()}

    return sphere_loss(views, outer, measure, form, group)


def sfrik(
    views: Sequence[Tensor],
    *,
    weights: Sequence[float] = SFRIK_WEIGHTS,
    align_weight: float = SFRIK_ALIGN,
    reg_weight: float = 1.0,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """SFRIK [Z]: the MMD of the truncated Legendre kernel Σ_{l=1..L} b_l P_l, V-statistic; `weights` are b_1..b_L."""
    check_views(views)
    kernel = legendre(weights, views[0].shape[1])
    return mmd(views, kernel=kernel, align_weight=align_weight, reg_weight=reg_weight, form=form, group=group)


def auh(
    views: Sequence[Tensor],
    *,
    scale: float = 2.5,
    align_weight: float = AUH_ALIGN,
    reg_weight: float = 1.0,
    form: str = "auto",
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """Alignment and uniformity on the hypersphere: log mean_{i≠j} exp(−s‖z_i − z_j‖²) a view (Wang and Isola 2020).

    The logarithm of the RBF kernel's U-statistic. `scale` is s, at most 40.
    """
    check_views(views)
    if not 0 < scale <= AUH_LARGEST_SCALE:
        raise ValueError(f"the scale of uniformity must lie in (0, {AUH_LARGEST_SCALE}], not {scale!r}")
    kernel, weights = rbf(scale, views[0].shape[1]), {"align_weight": align_weight, "reg_weight": reg_weight}
    return mmd(views, kernel=kernel, statistic="U", log=True, form=form, group=group, **weights)


def kernel_measure(
    views: Sequence[Tensor],
    kernel: RotationInvariantKernel,
    form: str,
    group: dist.ProcessGroup | None,
    across: bool = False,
) -> tuple[str, Measure]:
    """The form in which a kernel's pair sums are taken, and the engine that takes them."""
    count, dim = views[0].shape
    if kernel.dim != dim:
        raise ValueError(f"the kernel is of dimension {kernel.dim}, the embeddings of {dim}")
    world = Ranks.of(group).world
    chosen = choose_form(form, kernel_costs(count * world, dim, world, has_primal(kernel)))
    engine = moment_sums if chosen == "primal" else pair_sums
    return chosen, partial(engine, kernel=kernel, across=across)


def _mean(sums_V: Tensor, count: int, kernel: RotationInvariantKernel, statistic: str) -> Tensor:
    """Mean of φ over pairs from its sum off the diagonal, where it is φ(1)."""
    if statistic == "U":
        return sums_V / (count * (count - 1))
    return (sums_V + count * kernel.value_at_one) / count**2
