"""Primal form of the pairwise sums for polynomial kernels of degree at most 2: first and second moments, D x D.

For φ(t) = a_0 + a_1 t + a_2 t²  (SFRIK up to L = 2, the quadratic kernel), exactly:

    Σ_ij φ(z_i·z_j) = a_0 N² + a_1 ‖Σ_i z_i‖² + a_2 ‖C‖²_F,   C = Σ_i z_i z_iᵀ

Cheaper than tiles where N > 4D/3 (`forms`). Sharded: D² + D elements are summed over ranks and no row is gathered.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor

from ..kernels.kernel import RotationInvariantKernel
from ..pairing import Pair
from .matmul import add_product_, as_operand, inner
from .sphere import Measured, PointGradient, Points
from .tiles import row_tiles

Powers = tuple[float, float, float]  # a_0, a_1, a_2


@dataclass(frozen=True)
class Moments:
    """How many points, Σ_i z_i (D) and Σ_i z_i z_iᵀ (D x D) over the rows of all ranks."""

    count: int
    first: Tensor
    second: Tensor

    @staticmethod
    def of(points: Points, view: int) -> Moments:
        width = points.views[view].shape[1]
        first = points.inverse_norms.new_zeros(width)
        second = first.new_zeros((width, width))
        for rows in row_tiles(points.views[view]):
            z_RD = points.rows(view, rows)
            first += z_RD.sum(0)
            add_product_(second, z_RD.T, z_RD.to(points.matmul_dtype))
        return Moments(points.count, points.group.all_reduce_(first), points.group.all_reduce_(second))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.first + other.first, self.second + other.second)

    def inner(self, other: Moments, powers: Powers) -> Tensor:
        """Σ_ij φ(z_i·z'_j) for the points of two sets of moments, float64."""
        constant, linear, square = powers
        first = torch.dot(self.first.double(), other.first.double())
        return constant * (self.count * other.count) + linear * first + square * inner(self.second, other.second)


def low_powers(kernel: RotationInvariantKernel) -> Powers | None:
    """a_0, a_1, a_2 where φ is a polynomial of degree at most 2, which is what has a primal form; else None."""
    if kernel.monomials is None or any(kernel.monomials[3:]):
        return None
    constant, linear, square = (*kernel.monomials, 0.0, 0.0)[:3]
    return constant, linear, square


def moment_sums(
    points: Points, gradient: bool, *, kernel: RotationInvariantKernel, pairs: Collection[Pair], across: bool = False
) -> Measured:
    """The sums of `pairs.pair_sums`, through moments: `across` views, the pairs of one image are in, as there."""
    powers = low_powers(kernel)
    assert powers is not None, "a kernel without primal form was not asked for it"
    moments = {view: Moments.of(points, view) for view in sorted({view for pair in pairs for view in pair})}
    # Whose rows a view's rows meet: of all the views it is paired with.
    partners = {
        own: reduce(add, (moments[b if a == own else a] for a, b in sorted(pairs) if own in (a, b))) for own in moments
    }
    sums = torch.stack([moments[own].inner(partner, powers) for own, partner in partners.items()])
    if across:
        sums = sums.sum(0, keepdim=True)
    else:
        own_sums = dict(zip(moments, sums - points.count * kernel.value_at_one, strict=True))
        nothing = torch.zeros_like(sums[0])
        sums = torch.stack([own_sums.get(view, nothing) for view in range(len(points.views))])

    def gradient_of(by_sums: Tensor) -> PointGradient:
        """g_i = a_1 Σ_j z'_j + 2 a_2 C' z_i, over the partner's points; a pair stands on either side, hence the 2."""
        by_points = PointGradient.zeros(points)
        by_points.factors = 2 * by_sums.expand(len(points.views))
        for view, partner in partners.items():
            second, scale = as_operand(partner.second, points.matmul_dtype)
            for rows in row_tiles(points.views[view]):
                z_RD, g_RD = points.rows(view, rows), by_points.unscaled[view][rows]
                add_product_(g_RD, z_RD, second)
                g_RD.mul_(2 * powers[2] * scale).add_(partner.first, alpha=powers[1])
                by_points.radial[view, rows] = torch.linalg.vecdot(z_RD, g_RD)
                g_RD.mul_(points.local_scales[view, rows, None])
        return by_points

    return sums, gradient_of
