"""VICReg's Σ Cov² of a view and Barlow Twins' Σ R² of two, with their gradients, primal or dual.

With X centred (N x D) and H = X Xᵀ, exactly:  Σ_{dd'} Cov_{dd'}² = ‖H‖²_F/(N−1)², with gradient 4 H X/(N−1)².
FroSSL takes the first of columns of unit length in place of centred ones.
With A, B standardised and R = AᵀB/N, exactly:  Σ_{dd'} R_{dd'}² = ⟨A Aᵀ, B Bᵀ⟩_F/N², with gradient 2 B Bᵀ A/N² by A.
Primal: Cov or R (D x D), over blocks of this rank's rows. Dual: the Gram matrices (N x N), over blocks of columns.
Any number of views: sums run over views, and over pairs a < b with weights. `forms` counts the flop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor

from ..pairing import Pair
from .matmul import add_product_, as_operand, inner, product_
from .rows import Batch, CentredBatch

STANDARD_EPSILON = 1e-5  # inside the square root of the batch standardisation, as in BatchNorm

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


# Σ_p w_p Σ_{dd'} R² (float64), R_dd of every pair, and write_(out, α, β_PD): ∂/∂x of α Σ w R² + Σ_p β_p·diag R_p.
Correlation = tuple[Tensor, Tensor, Callable[[list[Tensor], float, Tensor], None]]


@dataclass(frozen=True)
class StandardisedBatch:
    """Views standardised over the batch: A = (x − mean)/√(Var + 1e-5), Var dividing by N; and the pairs that meet."""

    centred: CentredBatch
    weights: Mapping[Pair, float]  # w of the pairs of views a < b

    @cached_property
    def inverse_deviations(self) -> Tensor:
        return (self.centred.square_deviations / self.centred.count + STANDARD_EPSILON).rsqrt()

    def columns(self, view: int, cols: slice) -> Tensor:
        """Some columns of the rows of all ranks, (N, C)."""
        return self.centred.columns(view, cols).mul_(self.inverse_deviations[view, cols])

    def rows(self, rows: slice) -> list[Tensor]:
        """Some of this rank's rows, V of (R, D)."""
        return [self.centred.rows(view, rows).mul_(self.inverse_deviations[view]) for view in self.centred.indices]

    def diagonals(self, blocks: list[Tensor]) -> Tensor:
        """What these rows add to N R_dd of every pair, (P, D)."""
        return torch.stack([torch.linalg.vecdot(blocks[a], blocks[b], dim=0) for a, b in self.weights])


def dual_correlation(standardised: StandardisedBatch) -> Correlation:
    batch, weights = standardised.centred, standardised.weights
    diagonals_PD = reduce(torch.add, (standardised.diagonals(standardised.rows(rows)) for rows in batch.row_tiles()))
    grams = [batch.gram(standardised.columns(view, cols) for cols in batch.column_tiles()) for view in batch.indices]
    square_sums = [weight * batch.inner(grams[a], grams[b]) for (a, b), weight in weights.items()]
    square_sum = torch.stack(square_sums).sum() / batch.count**2

    def write_(out: list[Tensor], alpha: float, beta_PD: Tensor) -> None:
        """dL/dA_a = 2α/N² Σ_b w_ab K_b A_a + 1/N Σ_b A_b diag β_ab, K_b = A_b A_bᵀ, over pairs a, b."""
        partners = [_partner(grams, weights, view, 2 * alpha / batch.count**2) for view in batch.indices]
        for cols in batch.column_tiles():
            blocks = [standardised.columns(view, cols) for view in batch.indices]
            gradients = [gradient[:, cols] for gradient in out]
            for gradient_nC, partner_nN, block_NC in zip(gradients, partners, blocks, strict=True):
                product_(gradient_nC, partner_nN, block_NC.to(batch.matmul_dtype))
            own = [block_NC[batch.own] for block_NC in blocks]
            for (a, b), beta_C in zip(weights, beta_PD[:, cols], strict=True):
                gradients[a].addcmul_(own[b], beta_C, value=1 / batch.count)
                gradients[b].addcmul_(own[a], beta_C, value=1 / batch.count)
            along_VC = torch.stack([torch.linalg.vecdot(*pair, dim=0) for pair in zip(gradients, own, strict=True)])
            along_VC = batch.group.all_reduce_(along_VC) / batch.count
            _destandardise_(gradients, own, along_VC, standardised.inverse_deviations[:, cols])

    return square_sum, batch.group.all_reduce_(diagonals_PD) / batch.count, write_


def _partner(grams: list[Tensor], weights: Mapping[Pair, float], view: int, factor: float) -> Tensor:
    """factor · Σ_b w_ab K_b over the partners b of view a: of two views in K_b's memory, of more a new tensor."""
    factors = {b if a == view else a: factor * w for (a, b), w in weights.items() if view in (a, b)}
    if len(grams) == 2:
        return grams[1 - view].mul_(factors[1 - view])
    partner = torch.zeros_like(grams[0])
    for other, own_factor in factors.items():
        partner.add_(grams[other], alpha=own_factor)
    return partner


def primal_correlation(standardised: StandardisedBatch) -> Correlation:
    batch, weights = standardised.centred, standardised.weights
    correlations = {pair: batch.means.new_zeros((batch.width, batch.width)) for pair in weights}
    diagonals_PD = batch.means.new_zeros((len(weights), batch.width))
    tiles = list(batch.row_tiles())
    for rows in tiles:
        blocks = standardised.rows(rows)
        diagonals_PD += standardised.diagonals(blocks)
        for (a, b), correlation_DD in correlations.items():
            add_product_(correlation_DD, blocks[a].T, blocks[b].to(batch.matmul_dtype))
    for correlation_DD in correlations.values():
        batch.group.all_reduce_(correlation_DD).div_(batch.count)
    square_sum = torch.stack([weights[pair] * inner(r_DD, r_DD) for pair, r_DD in correlations.items()]).sum()
    diagonals_PD = batch.group.all_reduce_(diagonals_PD) / batch.count
    kept = [blocks]  # of the last tile, with which the gradient begins

    def write_(out: list[Tensor], alpha: float, beta_PD: Tensor) -> None:
        """dL/dA = B Gᵀ and dL/dB = A G with G = (2α w R + diag β)/N."""
        along_VD = torch.zeros_like(batch.means)  # Σ_i A_id dL/dA_id / N a view: row or column sums of R ∘ G
        operands = {}
        for (a, b), beta_D in zip(weights, beta_PD / batch.count, strict=True):
            correlation_DD = correlations[a, b]
            g_DD = correlation_DD * (2 * alpha * weights[a, b] / batch.count)
            g_DD.diagonal().add_(beta_D)
            correlation_DD.mul_(g_DD)
            along_VD[a] += correlation_DD.sum(1)
            along_VD[b] += correlation_DD.sum(0)
            operands[a, b] = as_operand(g_DD, batch.matmul_dtype)
            del correlations[a, b]
        for rows in reversed(tiles):
            blocks = kept.pop() if kept else standardised.rows(rows)
            gradients = [gradient[rows].zero_() for gradient in out]
            for (a, b), (g_DD, scale) in operands.items():
                add_product_(gradients[a], blocks[b], g_DD.T, scale)
                add_product_(gradients[b], blocks[a], g_DD, scale)
            _destandardise_(gradients, blocks, along_VD, standardised.inverse_deviations)

    return square_sum, diagonals_PD, write_


def _destandardise_(gradients: list[Tensor], blocks: list[Tensor], along_VD: Tensor, inverse_VD: Tensor) -> None:
    """dL/dx = (dL/dA − A · mean(A ∘ dL/dA))/√(Var + ε); the column means of dL/dA vanish."""
    for gradient, block, along_D, inverse_D in zip(gradients, blocks, along_VD, inverse_VD, strict=True):
        gradient.addcmul_(block, along_D, value=-1).mul_(inverse_D)
