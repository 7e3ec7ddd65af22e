"""Σ_{dd'} Cov² of a view and its gradient, primal or dual: VICReg's covariance term.

With X centred (N x D) and H = X Xᵀ, exactly:  Σ_{dd'} Cov_{dd'}² = ‖H‖²_F/(N−1)², with gradient 4 H X/(N−1)².
Primal: Cov (D x D), 4 N D² flop, D² memory. Dual: H (N x N), 3.25 N² D flop, N² memory, the columns of X streamed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from .columns import Batch
from .products import add_product_, as_operand, inner, product_

# Σ_{dd'} Cov² (float64), and write_(out_nD, α, β_D): out = X (α Cov + diag β) on this rank's rows.
SquareSum = tuple[Tensor, Callable[[Tensor, float, Tensor], None]]


def dual_covariance(batch: Batch, view: int) -> SquareSum:
    """Through H = X Xᵀ, over blocks of columns."""
    gram_nN = batch.gram(batch.columns(view, cols) for cols in batch.column_tiles())
    square_sum = batch.inner(gram_nN, gram_nN) / (batch.count - 1) ** 2
    return square_sum, partial(_write_dual_, batch, view, gram_nN)


def _write_dual_(batch: Batch, view: int, gram_nN: Tensor, out_nD: Tensor, alpha: float, beta_D: Tensor) -> None:
    gram_nN.mul_(alpha / (batch.count - 1))
    for cols in batch.column_tiles():
        block_NC = batch.columns(view, cols)
        product_(out_nD[:, cols], gram_nN, block_NC.to(batch.products))
        out_nD[:, cols].addcmul_(block_NC[batch.own], beta_D[cols])


def primal_covariance(batch: Batch, view: int) -> SquareSum:
    """Through Cov itself, over blocks of this rank's rows."""
    covariance_DD = batch.means.new_zeros((batch.width, batch.width))
    for rows in batch.row_tiles():
        block_RD = batch.rows(view, rows)
        add_product_(covariance_DD, block_RD.T, block_RD.to(batch.products))
    batch.ranks.sum_(covariance_DD).div_(batch.count - 1)
    square_sum = inner(covariance_DD, covariance_DD)
    return square_sum, partial(_write_primal_, batch, view, covariance_DD)


def _write_primal_(
    batch: Batch, view: int, covariance_DD: Tensor, out_nD: Tensor, alpha: float, beta_D: Tensor
) -> None:
    covariance_DD.mul_(alpha).diagonal().add_(beta_D)
    operand_DD, scale = as_operand(covariance_DD, batch.products)
    for rows in batch.row_tiles():
        product_(out_nD[rows], batch.rows(view, rows), operand_DD, scale)
