"""Barlow Twins' cross-correlations R = AᵀB/N of standardised views, their square sum and its gradient, primal or dual.

Exactly:  Σ_{dd'} R_{dd'}² = ⟨A Aᵀ, B Bᵀ⟩_F/N², whose gradient with respect to A is 2 B Bᵀ A/N².
Primal: R (D x D), 6 N D² flop. Dual: A Aᵀ and B Bᵀ (N x N), 6.5 N² D flop, the columns of A and B streamed.
Any number of views: sums run over pairs a < b.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations

import torch
from torch import Tensor

from .columns import Batch
from .products import add_product_

STANDARD_EPSILON = 1e-5  # inside the square root of the batch standardisation, as in BatchNorm

# Σ_{a<b} Σ_{dd'} R² (float64), and add_(out, α, β_PD): the gradient of α Σ R² + Σ_p β_p·diag R_p with respect to x.
SquareSum = tuple[Tensor, Callable[[list[Tensor], float, Tensor], None]]


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
        return list(combinations(range(len(self.batch.views)), 2))

    def columns(self, view: int, cols: slice) -> Tensor:
        """Some columns of the rows of all ranks, (N, C)."""
        return self.batch.columns(view, cols).mul_(self.inverse[view, cols])

    def rows(self, view: int, rows: slice) -> Tensor:
        """Some of this rank's rows, (R, D)."""
        return self.batch.rows(view, rows).mul_(self.inverse[view])

    def diagonals(self) -> Tensor:
        """R_dd of every pair of views."""
        total_PD = self.inverse.new_zeros((len(self.pairs), self.batch.width))
        for rows in self.batch.row_tiles():
            blocks = [self.rows(view, rows) for view in range(len(self.batch.views))]
            for pair, (a, b) in enumerate(self.pairs):
                total_PD[pair] += torch.linalg.vecdot(blocks[a], blocks[b], dim=0)
        return self.batch.ranks.sum_(total_PD) / self.batch.count


def dual_correlation(points: Standardised) -> SquareSum:
    """Through the Gram matrices, over blocks of columns."""
    batch = points.batch
    grams = [
        batch.gram(points.columns(view, cols) for cols in batch.column_tiles()) for view in range(len(batch.views))
    ]
    square_sum = sum(batch.total(grams[a] * grams[b]) for a, b in points.pairs) / batch.count**2
    return torch.as_tensor(square_sum), partial(_add_dual_, points, grams)


def _add_dual_(points: Standardised, grams: list[Tensor], out: list[Tensor], alpha: float, beta_PD: Tensor) -> None:
    batch = points.batch
    partners = [_others(grams, view).mul_(2 * alpha / batch.count**2) for view in range(len(grams))]
    for cols in batch.column_tiles():
        blocks = [points.columns(view, cols) for view in range(len(grams))]
        for view, block_NC in enumerate(blocks):
            gradient_nC = add_product_(out[view][:, cols], partners[view], block_NC.to(batch.products))
        own = [block[batch.own] for block in blocks]
        for pair, (a, b) in enumerate(points.pairs):
            out[a][:, cols].addcmul_(own[b], beta_PD[pair, cols], value=1 / batch.count)
            out[b][:, cols].addcmul_(own[a], beta_PD[pair, cols], value=1 / batch.count)
        for view, gradient_nC in enumerate(out):
            along_C = batch.ranks.sum_(torch.linalg.vecdot(gradient_nC[:, cols], own[view], dim=0))
            _destandardise_(gradient_nC[:, cols], own[view], along_C / batch.count, points.inverse[view, cols])


def _others(grams: list[Tensor], view: int) -> Tensor:
    """Sum of the other views' Gram matrices: for two views the other itself, else a new tensor."""
    others = [gram for index, gram in enumerate(grams) if index != view]
    return others[0] if len(others) == 1 else torch.stack(others).sum(0)


def primal_correlation(points: Standardised) -> SquareSum:
    """Through R itself, over blocks of this rank's rows."""
    batch = points.batch
    width = batch.width
    correlations = [batch.means.new_zeros((width, width)) for _ in points.pairs]
    for rows in batch.row_tiles():
        blocks = [points.rows(view, rows) for view in range(len(batch.views))]
        for (a, b), correlation_DD in zip(points.pairs, correlations, strict=True):
            add_product_(correlation_DD, blocks[a].T, blocks[b].to(batch.products))
    for correlation_DD in correlations:
        batch.ranks.sum_(correlation_DD).div_(batch.count)
    square_sum = torch.stack([matrix.square().sum(dtype=torch.float64) for matrix in correlations]).sum()
    return square_sum, partial(_add_primal_, points, correlations)


def _add_primal_(
    points: Standardised, correlations: list[Tensor], out: list[Tensor], alpha: float, beta_PD: Tensor
) -> None:
    batch = points.batch
    along_VD = torch.zeros_like(points.inverse)
    for (a, b), matrix_DD, beta_D in zip(points.pairs, correlations, beta_PD, strict=True):
        square_DD = matrix_DD.square().mul_(2 * alpha)
        diagonal_D = matrix_DD.diagonal() * beta_D
        along_VD[a] += square_DD.sum(1) + diagonal_D
        along_VD[b] += square_DD.sum(0) + diagonal_D
        matrix_DD.mul_(2 * alpha).diagonal().add_(beta_D)
        matrix_DD.div_(batch.count)
    operands = [matrix.to(batch.products) for matrix in correlations]
    for rows in batch.row_tiles():
        blocks = [points.rows(view, rows) for view in range(len(batch.views))]
        for (a, b), operand_DD in zip(points.pairs, operands, strict=True):
            add_product_(out[a][rows], blocks[b], operand_DD.T)
            add_product_(out[b][rows], blocks[a], operand_DD)
        for view, block_RD in enumerate(blocks):
            _destandardise_(out[view][rows], block_RD, along_VD[view] / batch.count, points.inverse[view])


def _destandardise_(gradient: Tensor, standard: Tensor, along: Tensor, inverse: Tensor) -> None:
    """dL/dx = (dL/dA − A · mean(A ∘ dL/dA))/√(Var + ε); the column means of dL/dA vanish."""
    gradient.addcmul_(standard, along, value=-1).mul_(inverse)
