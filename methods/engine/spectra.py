"""Sums of a function of the spectrum of points on the sphere, with their gradient, through D x D or N x N matrices.

With Y (N x D) the points, or their mean over some views, centred or not, and λ the eigenvalues of YᵀY/N (primal) or of
Y Yᵀ/N (dual), which are the same but for zeros,

    S = Σ_k f(λ_k),   ∂S/∂Y = (2/N) Y f'(YᵀY/N) = (2/N) f'(Y Yᵀ/N) Y

A function of the matrix and not of its eigenvectors: where eigenvalues coincide it is as smooth as elsewhere. Here f is
a square root (`root`: singular values) or −λ log λ (`entropy`), whose slopes are infinite at 0, while Y f' stays
bounded there. Eigenvalues that are rounding are 0 and pull nowhere, which is the subgradient of least norm.

Sharded: the primal form sums YᵀY over the ranks; the dual one gathers the points, each rank multiplies its own rows by
all, and the ranks gather the N x N matrix. Every rank takes the eigenvalues of the whole. On a GPU `torch.linalg.eigh`
waits for its result; nothing else here does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .matmul import add_product_, add_upper_gram_, mirror_, product_
from .sphere import Measured, PointGradient, Points
from .tiles import column_tiles, row_blocks, row_tiles

# f and f' of positive eigenvalues.
SpectralFunction = Callable[[Tensor], tuple[Tensor, Tensor]]
# Eigenvalues below this many units of rounding of the largest are rounding: of matrices without full rank the largest
# such were 6 units, in float32 as in float64, N and D from 20 to 1100.
ROUNDING = 16


def root(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """√λ."""
    roots = eigenvalues.sqrt()
    return roots, 0.5 / roots


def entropy(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """−λ log λ."""
    logs = eigenvalues.log()
    return -eigenvalues * logs, -logs - 1


@dataclass(frozen=True)
class Mean:
    """Y: the mean of some views on the sphere, less its mean over the batch where `centred`; read in blocks."""

    points: Points
    views: tuple[int, ...]
    centred: bool = False

    def rows(self, rows: slice) -> Tensor:
        """Some of this rank's rows, (R, D), in the working type."""
        mean_RD = torch.stack([self.points.rows(view, rows) for view in self.views]).mean(0)
        return mean_RD.sub_(self.middle) if self.centred else mean_RD

    def columns(self, cols: slice) -> Tensor:
        """Some columns of the rows of all ranks, (N, C)."""
        points = self.points
        blocks = [points.operands[view][:, cols] * points.scales[view, :, None] for view in self.views]
        mean_NC = torch.stack(blocks).mean(0)
        return mean_NC.sub_(self.middle[cols]) if self.centred else mean_NC

    @cached_property
    def middle(self) -> Tensor:
        """The mean over the batch."""
        sum_D = torch.zeros_like(self.points.views[0][0], dtype=self.points.dtype)
        for view in self.views:
            for rows in row_blocks(self.points.views[0]):
                sum_D += self.points.rows(view, rows).sum(0)
        return self.points.group.all_reduce_(sum_D).div_(self.points.count * len(self.views))

    def primal(self) -> Tensor:
        """YᵀY/N."""
        points, width = self.points, self.points.views[0].shape[1]
        moments_EE = torch.zeros((width + 1, width), dtype=points.dtype, device=points.views[0].device)
        second_DD, first_D = moments_EE[:width], moments_EE[width]
        for rows in row_tiles(points.views[0]):
            operand_RD = self.rows(rows).to(points.matmul_dtype)
            add_product_(second_DD, operand_RD.T, operand_RD)
            first_D += operand_RD.sum(0, dtype=points.dtype)
        points.group.all_reduce_(moments_EE).div_(points.count)
        # What the rounding to the type of matrix products left of the mean.
        return second_DD.addr_(first_D, first_D, alpha=-1) if self.centred else second_DD

    def dual(self) -> Tensor:
        """Y Yᵀ/N, whole on every rank."""
        points, own = self.points, self.points.own
        alone = points.group.world_size == 1
        gram_nN = points.inverse_norms.new_zeros((own.stop - own.start, points.count))
        for cols in column_tiles(points.views[0], points.count):
            operand_NC = self.columns(cols).to(points.matmul_dtype)
            if alone:
                add_upper_gram_(gram_nN, operand_NC, operand_NC)
            else:
                add_product_(gram_nN, operand_NC[own], operand_NC.T)
        gram_NN = (mirror_(gram_nN) if alone else points.group.all_gather(gram_nN)).div_(points.count)
        if self.centred:
            gram_NN -= gram_NN.mean(0)
            gram_NN -= gram_NN.mean(1, keepdim=True)
        return gram_NN

    def add_gradient_(self, gradient: PointGradient, slope: Tensor, form: str) -> None:
        """Add Y (primal) or this rank's part of the dual product with the slope to g of each view, by its share."""
        points, own = self.points, self.points.own
        whole = slice(None)
        if form == "primal":
            operand_DD = slope.to(points.matmul_dtype)
            for rows in row_tiles(points.views[0]):
                block_RD = self.rows(rows)
                self._spread_(gradient, product_(torch.empty_like(block_RD), block_RD, operand_DD), rows, whole)
            return
        slope_nN = slope[own]
        for cols in column_tiles(points.views[0], points.count):
            operand_NC = self.columns(cols).to(points.matmul_dtype)
            block_nC = slope_nN.new_empty((len(slope_nN), operand_NC.shape[1]))
            self._spread_(gradient, product_(block_nC, slope_nN, operand_NC), whole, cols)

    def _spread_(self, gradient: PointGradient, block: Tensor, rows: slice, cols: slice) -> None:
        for view in self.views:
            scales_R1 = self.points.local_scales[view, rows, None]
            gradient.unscaled[view][rows, cols].addcmul_(block, scales_R1, value=1 / len(self.views))


def spectral_sums(
    points: Points,
    gradient: bool,
    *,
    function: SpectralFunction,
    means: Sequence[tuple[int, ...]],
    form: str,
    centred: bool = False,
) -> Measured:
    """S of the mean of each of these sets of views, float64 (len(means),)."""
    sums, slopes = [], []
    for views in means:
        mean = Mean(points, views, centred)
        total, slope = _of_spectrum(mean.primal() if form == "primal" else mean.dual(), function, gradient)
        sums.append(total)
        slopes.append((mean, slope))

    def gradient_of(by_sums: Tensor) -> PointGradient:
        by_points = PointGradient.zeros(points)
        for (mean, slope), by_sum in zip(slopes, by_sums, strict=True):
            assert slope is not None
            mean.add_gradient_(by_points, slope.mul_((2 / points.count * by_sum).to(slope.dtype)), form)
        by_points.set_radial_(points, range(len(points.views)))
        return by_points

    return torch.stack(sums), gradient_of


def _of_spectrum(matrix: Tensor, function: SpectralFunction, gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Σ_k f(λ_k), float64, and f'(matrix); not a number where the matrix is none: `eigh` would raise."""
    nothing = matrix.diagonal().sum() * 0
    eigenvalues, vectors = torch.linalg.eigh(torch.nan_to_num(matrix, 0.0, 0.0, 0.0))
    least = eigenvalues[-1] * (ROUNDING * torch.finfo(matrix.dtype).eps)
    values, slopes = function(eigenvalues.clamp_min(torch.finfo(matrix.dtype).tiny))
    is_zero = eigenvalues <= least.clamp_min(0)
    total = values.double().masked_fill(is_zero, 0).sum() + nothing
    if not gradient:
        return total, None
    return total, (vectors * (slopes.masked_fill(is_zero, 0) + nothing)) @ vectors.T
