"""Barlow Twins' cross-correlations R = AᵀB/N of standardised views, their square sum and its gradient, primal or dual.

Exactly:  Σ_{dd'} R_{dd'}² = ⟨A Aᵀ, B Bᵀ⟩_F/N², whose gradient with respect to A is 2 B Bᵀ A/N².
Primal: R (D x D), 6 N D² flop. Dual: A Aᵀ and B Bᵀ (N x N), 6.5 N² D flop, the columns of A and B streamed.
Any number of views: sums run over pairs a < b.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import combinations

import torch
from torch import Tensor

from .columns import Batch
from .products import add_product_, as_operand, inner, product_

STANDARD_EPSILON = 1e-5  # inside the square root of the batch standardisation, as in BatchNorm

# Σ_{a<b} Σ_{dd'} R² (float64), R_dd of every pair, and write_(out, α, β_PD): the gradient of α Σ R² + Σ_p β_p·diag R_p
# by x.
Correlation = tuple[Tensor, Tensor, Callable[[list[Tensor], float, Tensor], None]]


@dataclass(frozen=True)
class Standardised:
    """Views standardised over the batch: A = (x − mean)/√(Var + 1e-5), Var dividing by N."""

    batch: Batch

    @cached_property
    def inverse(self) -> Tensor:
        """1/√(Var + 1e-5)."""
        return (self.batch.square_deviations / self.batch.count + STANDARD_EPSILON).rsqrt()

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of views a < b."""
        return list(combinations(self.batch.indices, 2))

    def columns(self, view: int, cols: slice) -> Tensor:
        """Some columns of the rows of all ranks, (N, C)."""
        return self.batch.columns(view, cols).mul_(self.inverse[view, cols])

    def blocks(self, rows: slice) -> list[Tensor]:
        """Some of this rank's rows, V of (R, D)."""
        return [self.batch.rows(view, rows).mul_(self.inverse[view]) for view in self.batch.indices]

    def diagonals(self, blocks: list[Tensor]) -> Tensor:
        """What these rows add to N R_dd of every pair, (P, D)."""
        return torch.stack([torch.linalg.vecdot(blocks[a], blocks[b], dim=0) for a, b in self.pairs])


def dual_correlation(points: Standardised) -> Correlation:
    """Through the Gram matrices, over blocks of columns."""
    batch = points.batch
    diagonals_PD = reduce(torch.add, (points.diagonals(points.blocks(rows)) for rows in batch.row_tiles()))
    grams = [batch.gram(points.columns(view, cols) for cols in batch.column_tiles()) for view in batch.indices]
    square_sum = torch.stack([batch.inner(grams[a], grams[b]) for a, b in points.pairs]).sum() / batch.count**2
    return square_sum, batch.ranks.sum_(diagonals_PD) / batch.count, partial(_write_dual_, points, grams)


def _write_dual_(points: Standardised, grams: list[Tensor], out: list[Tensor], alpha: float, beta_PD: Tensor) -> None:
    """dL/dA_a = 2α/N² Σ_{b≠a} K_b A_a + 1/N Σ_{b≠a} A_b diag β_ab, K_b = A_b A_bᵀ."""
    batch = points.batch
    partners = [_others(grams, view).mul_(2 * alpha / batch.count**2) for view in batch.indices]
    for cols in batch.column_tiles():
        blocks = [points.columns(view, cols) for view in batch.indices]
        slopes = [gradient[:, cols] for gradient in out]
        for slope_nC, partner_nN, block_NC in zip(slopes, partners, blocks, strict=True):
            product_(slope_nC, partner_nN, block_NC.to(batch.products))
        own = [block_NC[batch.own] for block_NC in blocks]
        for (a, b), beta_C in zip(points.pairs, beta_PD[:, cols], strict=True):
            slopes[a].addcmul_(own[b], beta_C, value=1 / batch.count)
            slopes[b].addcmul_(own[a], beta_C, value=1 / batch.count)
        along_VC = torch.stack([torch.linalg.vecdot(*pair, dim=0) for pair in zip(slopes, own, strict=True)])
        _destandardise_(slopes, own, batch.ranks.sum_(along_VC) / batch.count, points.inverse[:, cols])


def _others(grams: list[Tensor], view: int) -> Tensor:
    """Sum of the other views' Gram matrices: for two views the other itself, else a new tensor."""
    others = [gram for index, gram in enumerate(grams) if index != view]
    return others[0] if len(others) == 1 else torch.stack(others).sum(0)


def primal_correlation(points: Standardised) -> Correlation:
    """Through R itself, over blocks of this rank's rows."""
    batch = points.batch
    correlations = [points.inverse.new_zeros((batch.width, batch.width)) for _ in points.pairs]
    diagonals_PD = points.inverse.new_zeros((len(points.pairs), batch.width))
    for rows in batch.row_tiles():
        blocks = points.blocks(rows)
        diagonals_PD += points.diagonals(blocks)
        for (a, b), correlation_DD in zip(points.pairs, correlations, strict=True):
            add_product_(correlation_DD, blocks[a].T, blocks[b].to(batch.products))
    for correlation_DD in correlations:
        batch.ranks.sum_(correlation_DD).div_(batch.count)
    square_sum = torch.stack([inner(matrix, matrix) for matrix in correlations]).sum()
    return square_sum, batch.ranks.sum_(diagonals_PD) / batch.count, partial(_write_primal_, points, correlations)


def _write_primal_(
    points: Standardised, correlations: list[Tensor], out: list[Tensor], alpha: float, beta_PD: Tensor
) -> None:
    """dL/dA = B Gᵀ and dL/dB = A G with G = (2α R + diag β)/N."""
    batch = points.batch
    along_VD = _slopes_(points, correlations, 2 * alpha / batch.count, beta_PD / batch.count)
    operands = [as_operand(slope_DD, batch.products) for slope_DD in correlations]
    for rows in batch.row_tiles():
        blocks = points.blocks(rows)
        slopes = [gradient[rows].zero_() for gradient in out]
        for (a, b), (operand_DD, scale) in zip(points.pairs, operands, strict=True):
            add_product_(slopes[a], blocks[b], operand_DD.T, scale)
            add_product_(slopes[b], blocks[a], operand_DD, scale)
        _destandardise_(slopes, blocks, along_VD, points.inverse)


def _slopes_(points: Standardised, correlations: list[Tensor], alpha: float, beta_PD: Tensor) -> Tensor:
    """Turn each R into G = α R + diag β; return Σ_i A_id dL/dA_id / N a view: row or column sums of R ∘ G."""
    along_VD = torch.zeros_like(points.inverse)
    for (a, b), matrix_DD, beta_D in zip(points.pairs, correlations, beta_PD, strict=True):
        product_DD = matrix_DD.clone()
        matrix_DD.mul_(alpha).diagonal().add_(beta_D)
        product_DD.mul_(matrix_DD)
        along_VD[a] += product_DD.sum(1)
        along_VD[b] += product_DD.sum(0)
    return along_VD


def _destandardise_(slopes: list[Tensor], blocks: list[Tensor], along_VD: Tensor, inverse_VD: Tensor) -> None:
    """dL/dx = (dL/dA − A · mean(A ∘ dL/dA))/√(Var + ε); the column means of dL/dA vanish."""
    for slope, block, along_D, inverse_D in zip(slopes, blocks, along_VD, inverse_VD, strict=True):
        slope.addcmul_(block, along_D, value=-1).mul_(inverse_D)
