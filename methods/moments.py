"""Primal form of the pairwise sums for polynomial kernels of degree at most 2: first and second moments, D x D.

For φ(t) = a_0 + a_1 t + a_2 t²  (SFRIK up to L = 2, the quadratic kernel), exactly:

    Σ_ij φ(z_i·z_j) = a_0 N² + a_1 ‖Σ_i z_i‖² + a_2 ‖C‖²_F,   C = Σ_i z_i z_iᵀ

4 N D² flop for value and gradient, against 3 N² D by tiles: cheaper where N > 4D/3. Sharded: D² + D elements are summed
over ranks and no row is gathered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .kernels import RotationInvariantKernel
from .products import add_product_, as_operand, inner, slices, tile_rows
from .sphere import Field, Measured, Points


@dataclass(frozen=True)
class Moments:
    """Σ_i z_i (D) and Σ_i z_i z_iᵀ (D x D) over the rows of all ranks."""

    first: Tensor
    second: Tensor

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.first + other.first, self.second + other.second)

    def inner(self, other: Moments, powers: tuple[float, float, float], count: int) -> Tensor:
        """Σ_ij φ(z_i·z'_j) for the points of two sets of moments, float64."""
        constant, linear, square = powers
        first = torch.dot(self.first.double(), other.first.double())
        return constant * count**2 + linear * first + square * inner(self.second, other.second)


def has_primal(kernel: RotationInvariantKernel) -> bool:
    """Whether φ is a polynomial of degree at most 2."""
    powers = kernel.monomials
    return powers is not None and not any(powers[3:])


def moment_sums(points: Points, gradient: bool, *, kernel: RotationInvariantKernel, across: bool = False) -> Measured:
    """The sums of `pairwise.pair_sums`, through moments: `across` views, the pairs of one image are in, as there."""
    powers = _powers(kernel)
    moments = [_moments(points, view) for view in range(len(points.views))]
    partners = [_others(moments, view) for view in range(len(moments))] if across else moments
    pairs = zip(moments, partners, strict=True)
    sums = torch.stack([own.inner(partner, powers, points.count) for own, partner in pairs])
    sums = sums.sum(0, keepdim=True) if across else sums - points.count * kernel.value_at_one
    return sums, partial(_field, points, powers, partners)


def _powers(kernel: RotationInvariantKernel) -> tuple[float, float, float]:
    powers = kernel.monomials
    if powers is None or any(powers[3:]):
        raise ValueError("only polynomial kernels of degree at most 2 have a primal form: use form 'dual' or 'auto'")
    constant, linear, square = (*powers, 0.0, 0.0)[:3]
    return constant, linear, square


def _moments(points: Points, view: int) -> Moments:
    width = points.views[view].shape[1]
    first = points.inverse_norms.new_zeros(width)
    second = first.new_zeros((width, width))
    for rows in _row_tiles(points):
        z_RD = points.rows(view, rows)
        first += z_RD.sum(0)
        add_product_(second, z_RD.T, z_RD.to(points.products))
    return Moments(points.ranks.sum_(first), points.ranks.sum_(second))


def _row_tiles(points: Points) -> Iterator[slice]:
    view = points.views[0]
    return slices(view.shape[0], tile_rows(view.device))


def _others(moments: list[Moments], view: int) -> Moments:
    first, *rest = (other for index, other in enumerate(moments) if index != view)
    for other in rest:
        first = first + other
    return first


def _field(points: Points, powers: tuple[float, float, float], partners: list[Moments], sum_slopes: Tensor) -> Field:
    """p_i = a_1 Σ_j z'_j + 2 a_2 C' z_i, over the partner's points."""
    field = Field.zeros(points)
    field.factors = 2 * sum_slopes.expand(len(partners))
    for view, partner in enumerate(partners):
        second, scale = as_operand(partner.second, points.products)
        for rows in _row_tiles(points):
            z_RD, pull_RD = points.rows(view, rows), field.pulls[view][rows]
            add_product_(pull_RD, z_RD, second)
            pull_RD.mul_(2 * powers[2] * scale).add_(partner.first, alpha=powers[1])
            field.radial[view, rows] = torch.linalg.vecdot(z_RD, pull_RD)
            pull_RD.mul_(points.local_scales[view, rows, None])
    return field
