"""VICReg's Σ Cov² of a view and Barlow Twins' Σ R² of two, with their gradients, primal or dual.

With X centred (N x D) and H = X Xᵀ, exactly:  Σ_{dd'} Cov_{dd'}² = ‖H‖²_F/(N−1)², with gradient 4 H X/(N−1)².
FroSSL takes the first of columns of unit length in place of centred ones.
With A, B standardised and R = AᵀB/N, exactly:  Σ_{dd'} R_{dd'}² = ⟨A Aᵀ, B Bᵀ⟩_F/N², with gradient 2 B Bᵀ A/N² by A.
Primal: Cov or R (D x D), over blocks of this rank's rows. Dual: the Gram matrices (N x N), over blocks of columns.
Any number of views: sums run over views, and over pairs a < b with weights. `forms` counts the flop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from ..pairing import Pair
from .matmul import add_product_, as_operand, inner, product_
from .rows import Batch, StandardisedBatch
from .tiles import row_blocks

# Σ_{dd'} Cov² (float64), and write_(out_nD, α, β_D): out = X (α Cov + diag β) on this rank's rows.
SquareSum = tuple[Tensor, Callable[[Tensor, float | Tensor, Tensor], None]]


def dual_covariance(batch: Batch, view: int) -> SquareSum:
    gram_nN = batch.gram(batch.columns(view, cols) for cols in batch.column_tiles())
    square_sum = batch.inner(gram_nN, gram_nN) / (batch.count - 1) ** 2

    def write_(out_nD: Tensor, alpha: float | Tensor, beta_D: Tensor) -> None:
        gram_nN.mul_(alpha / (batch.count - 1))
        for cols in batch.column_tiles():
            block_NC = batch.columns(view, cols)
            product_(out_nD[:, cols], gram_nN, block_NC.to(batch.matmul_dtype))
            out_nD[:, cols].addcmul_(block_NC[batch.own], beta_D[cols])

    return square_sum, write_


def primal_covariance(batch: Batch, view: int) -> SquareSum:
    covariance_DD = batch.zeros(batch.width, batch.width)
    for rows in batch.row_tiles():
        block_RD = batch.rows(view, rows)
        add_product_(covariance_DD, block_RD.T, block_RD.to(batch.matmul_dtype))
    batch.group.all_reduce_(covariance_DD).div_(batch.count - 1)
    square_sum = inner(covariance_DD, covariance_DD)

    def write_(out_nD: Tensor, alpha: float | Tensor, beta_D: Tensor) -> None:
        covariance_DD.mul_(alpha).diagonal().add_(beta_D)
        operand_DD, scale = as_operand(covariance_DD, batch.matmul_dtype)
        for rows in batch.row_tiles():
            product_(out_nD[rows], batch.rows(view, rows), operand_DD, scale)

    return square_sum, write_


# Σ_p w_p Σ_{dd'} R² (float64), R_dd of every pair (P, D), and gradients(α, β_PD): V of (n, D), where the standardised
# rows lay, ∂/∂x of Σ_p w_p (α Σ R² + β_p·diag R).
Correlation = tuple[Tensor, Tensor, Callable[[float, Tensor], Sequence[Tensor]]]


def dual_correlation(batch: StandardisedBatch, weights: Mapping[Pair, float]) -> Correlation:
    x = batch.standardised
    diagonals_PD = torch.stack([_column_products(x[a], x[b]) for a, b in weights])
    grams = [batch.gram(batch.columns(view, cols) for cols in batch.column_tiles()) for view in batch.indices]
    square_sums = (weight * batch.inner(grams[a], grams[b]) for (a, b), weight in weights.items())
    square_sum = reduce(torch.add, square_sums) / batch.count**2

    def gradients(alpha: float, beta_PD: Tensor) -> Sequence[Tensor]:
        """dL/dA_a = 2α/N² Σ_b w_ab K_b A_a + 1/N Σ_b w_ab A_b diag β_ab, K_b = A_b A_bᵀ, over pairs a, b."""
        partners = [_partner(grams, weights, view, 2 * alpha / batch.count**2) for view in batch.indices]
        for cols in batch.column_tiles():
            blocks = [x_nD[:, cols] for x_nD in x]
            slopes = [torch.empty_like(block_nC) for block_nC in blocks]
            for view, slope_nC in enumerate(slopes):
                product_(slope_nC, partners[view], batch.columns(view, cols).to(batch.matmul_dtype))
            for ((a, b), weight), beta_C in zip(weights.items(), beta_PD[:, cols], strict=True):
                slopes[a].addcmul_(blocks[b], beta_C, value=weight / batch.count)
                slopes[b].addcmul_(blocks[a], beta_C, value=weight / batch.count)
            for block_nC, slope_nC, inverse_D in zip(blocks, slopes, batch.inverse_deviations, strict=True):
                along_C = batch.group.all_reduce_(torch.linalg.vecdot(slope_nC, block_nC, dim=0)) / batch.count
                _destandardise_(block_nC, slope_nC, along_C, inverse_D[cols])
        return x

    return square_sum, batch.group.all_reduce_(diagonals_PD) / batch.count, gradients


def _column_products(a_nD: Tensor, b_nD: Tensor) -> Tensor:
    """Σ_i a_id b_id, in blocks of rows."""
    return reduce(torch.add, (torch.linalg.vecdot(a_nD[rows], b_nD[rows], dim=0) for rows in row_blocks(a_nD)))


def _partner(grams: list[Tensor], weights: Mapping[Pair, float], view: int, factor: float) -> Tensor:
    """factor · Σ_b w_ab K_b over the partners b of view a: of two views in K_b's memory, of more a new tensor."""
    factors = {b if a == view else a: factor * w for (a, b), w in weights.items() if view in (a, b)}
    if len(grams) == 2:
        return grams[1 - view].mul_(factors[1 - view])
    partner = torch.zeros_like(grams[0])
    for other, own_factor in factors.items():
        partner.add_(grams[other], alpha=own_factor)
    return partner


def primal_correlation(batch: StandardisedBatch, weights: Mapping[Pair, float]) -> Correlation:
    x, correlations = batch.standardised, {pair: batch.zeros(batch.width, batch.width) for pair in weights}
    tiles = [[x_nD[rows] for x_nD in x] for rows in batch.row_tiles()]
    for blocks in tiles:
        for (a, b), r_DD in correlations.items():
            add_product_(r_DD, blocks[a].T, blocks[b].to(batch.matmul_dtype))
    squares = {}
    for pair, r_DD in correlations.items():
        batch.group.all_reduce_(r_DD).mul_(1 / batch.count)
        # Summed by row and by column: on these the standardisation's own gradient rests, too.
        square_DD = r_DD.square()
        squares[pair] = [square_DD.sum(1), square_DD.sum(0)]
    square_sum = reduce(torch.add, (w * squares[pair][0].sum(dtype=torch.float64) for pair, w in weights.items()))
    diagonals_PD = torch.stack([r_DD.diagonal() for r_DD in correlations.values()])

    def gradients(alpha: float, beta_PD: Tensor) -> Sequence[Tensor]:
        """dL/dA_a = Σ_b A_b Gᵀ_ab and dL/dA_b = Σ_a A_a G_ab with G = w (2α R + diag β)/N."""
        operands: dict[Pair, tuple[Tensor, Tensor | float]] = {}
        along: dict[int, Tensor] = {}  # Σ_i A_id dL/dA_id / N by view: sums of R ∘ G over its pairs
        for (pair, weight), beta_D, r_D in zip(weights.items(), beta_PD, diagonals_PD, strict=True):
            factor, scaled_D = 2 * alpha * weight / batch.count, beta_D * (weight / batch.count)
            own_D = scaled_D * r_D
            for view, square_D in zip(pair, squares[pair], strict=True):
                of_pair_D = torch.add(own_D, square_D, alpha=factor)
                along[view] = along[view] + of_pair_D if view in along else of_pair_D
            g_DD = correlations[pair].mul_(factor)
            g_DD.diagonal().add_(scaled_D)
            operands[pair] = as_operand(g_DD, batch.matmul_dtype)
        for blocks in tiles:
            slopes, written = [torch.empty_like(block_RD) for block_RD in blocks], set[int]()
            for (a, b), (g_DD, unit) in operands.items():
                for view, other, factor_DD in ((a, b, g_DD.T), (b, a, g_DD)):
                    write_ = add_product_ if view in written else product_
                    write_(slopes[view], blocks[other], factor_DD, unit)
                    written.add(view)
            for view, block_RD in enumerate(blocks):
                if view in along:
                    _destandardise_(block_RD, slopes[view], along[view], batch.inverse_deviations[view])
                else:  # in no pair
                    block_RD.zero_()
        return x

    return square_sum, diagonals_PD, gradients


def _destandardise_(x_RD: Tensor, slope_RD: Tensor, along_D: Tensor, inverse_D: Tensor) -> None:
    """From A, in its place, to dL/dx = (dL/dA − A · mean(A ∘ dL/dA))/√(Var + ε); the column means of dL/dA vanish."""
    torch.addcmul(slope_RD, x_RD, along_D, value=-1, out=x_RD).mul_(inverse_D)
