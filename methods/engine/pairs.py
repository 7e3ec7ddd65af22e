"""The pairwise engine: sums of φ(z_i·z_j) and their gradient, tile by tile of the Gram matrix.

Three measures of V views on the sphere (see `sphere`), each O(tile²) memory beside the N x D gradients it fills:

- `pair_sums`: S = Σ φ(z_i·z_j) over pairs, in one pass for value and gradient. 3 N² D flop: N² D for the upper triangle
  of the inner products, 2 N² D for their gradient. Nothing N x N is kept.
- `row_sums`: S_i = Σ_j φ(z_i·z_j) a row, for InfoNCE. The gradient weighs a pair by both rows' sums, so a second pass
  follows the first; inner products are kept between them while they take no more than half of what the embeddings do
  (3 M² D flop for M = VN rows), and recomputed beyond (4 M² D).
- `log_row_sums`: log S_i within a view, likewise, of a kernel of which S_i itself is out of any type's range.

Sharded over W ranks each rank does its own rows against all: 4 N² D / W flop, N D elements received a view.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..kernels.kernel import RotationInvariantKernel
from ..pairing import Pair
from .matmul import add_product_, gram_, symmetric_gram_
from .sphere import Measured, PointGradient, Points
from .tiles import cached_rows, row_blocks, slices, tile_rows


@dataclass(frozen=True)
class Tile:
    """Rows of view a against rows of view b. A mirrored tile stands for its transpose too."""

    a: int
    rows: slice
    b: int
    cols: slice
    mirrored: bool

    @property
    def symmetric(self) -> bool:
        return self.a == self.b and self.rows == self.cols

    def own_rows(self, points: Points) -> slice:
        """Its rows among this rank's, from among all."""
        start = points.own.start
        return slice(self.rows.start - start, self.rows.stop - start)

    def same_image(self, matrix: Tensor) -> Tensor:
        """The entries of a matrix on this tile whose row and column are the same image: a view, maybe empty."""
        offset = self.rows.start - self.cols.start
        inside = -matrix.shape[0] < offset < matrix.shape[1]
        return matrix.diagonal(offset) if inside else matrix[:0, 0]


def tiles(points: Points, pairs: Collection[Pair]) -> Iterator[Tile]:
    """Every ordered pair of rows of these pairs of views, a ≤ b, once, mirrors counted.

    Alone, a process walks the upper triangle; among ranks, each walks its own rows against all.
    """
    count, step = points.count, tile_rows(points.views[0].device)
    alone, own = points.group.world_size == 1, points.own
    for a in range(len(points.views)):
        for b in range(a if alone else 0, len(points.views)):
            if (min(a, b), max(a, b)) not in pairs:
                continue
            for rows in slices(own.stop, step, start=own.start):
                for cols in slices(count, step, start=rows.start if alone and a == b else 0):
                    yield Tile(a, rows, b, cols, mirrored=alone and (a != b or cols.start > rows.start))


def cosines(points: Points, tile: Tile) -> Tensor:
    """z_i·z_j on a tile, in a new tensor of the working type."""
    a_RD, b_CD = points.operands[tile.a][tile.rows], points.operands[tile.b][tile.cols]
    out_RC = a_RD.new_empty((len(a_RD), len(b_CD)), dtype=points.dtype)
    if tile.symmetric:
        symmetric_gram_(out_RC, a_RD)
    else:
        gram_(out_RC, a_RD, b_CD)
    return out_RC.mul_(points.scales[tile.b, tile.cols]).mul_(points.scales[tile.a, tile.rows, None])


class TwoPasses:
    """Tiles of inner products walked twice, and kept in between while they take no more than half of the embeddings."""

    def __init__(self, points: Points, pairs: Collection[Pair], gradient: bool) -> None:
        self.points, self.pairs = points, pairs
        self.kept: list[Tensor | None] = []
        self.room = sum(view.numel() for view in points.views) // 2 if gradient else 0

    def first(self) -> Iterator[tuple[Tile, Tensor]]:
        for tile in tiles(self.points, self.pairs):
            t_RC = cosines(self.points, tile)
            keep = t_RC.numel() <= self.room
            self.kept.append(t_RC if keep else None)
            self.room -= t_RC.numel() if keep else 0
            yield tile, t_RC

    def second(self) -> Iterator[tuple[Tile, Tensor]]:
        """Overwrite what it yields: each is let go once it is used."""
        self.kept.reverse()
        for tile in tiles(self.points, self.pairs):
            t_RC = self.kept.pop()
            yield tile, cosines(self.points, tile) if t_RC is None else t_RC


def add_gradient_(gradient: PointGradient, points: Points, tile: Tile, weights_RC: Tensor, cosines_RC: Tensor) -> None:
    """Add Σ_j w_ij z_j to g of the tile's rows, and of its columns where mirrored; overwrites its inputs."""
    rows = tile.own_rows(points)
    radial_RC = cosines_RC.mul_(weights_RC)
    gradient.radial[tile.a, rows] += radial_RC.sum(1)
    weights_RC.mul_(points.scales[tile.b, tile.cols]).mul_(points.scales[tile.a, tile.rows, None])
    add_product_(gradient.unscaled[tile.a][rows], weights_RC, points.operands[tile.b][tile.cols])
    if tile.mirrored:
        gradient.radial[tile.b, tile.cols] += radial_RC.sum(0)
        add_product_(gradient.unscaled[tile.b][tile.cols], weights_RC.T, points.operands[tile.a][tile.rows])


def pair_sums(
    points: Points, gradient: bool, *, kernel: RotationInvariantKernel, pairs: Collection[Pair], across: bool = False
) -> Measured:
    """S_a = Σ_{i≠j} φ(z_i^a·z_j^a), one a view, 0 where (a, a) is not among `pairs`.

    Or `across`: one sum over i, j and the ordered pairs of different views in `pairs`, which holds them a < b.
    Within a view the diagonal is left out: φ(1) is a constant on the sphere, and need not be smooth there.
    """
    by_points = PointGradient.zeros(points) if gradient else None
    sums = points.scales.new_zeros(1 if across else len(points.views), dtype=torch.float64)
    for tile in tiles(points, pairs):
        t_RC = cosines(points, tile)
        value_RC, derivative_RC = _evaluate(kernel, tile, t_RC, exclude=tile.a == tile.b)
        sums[0 if across else tile.a] += value_RC.sum(1).sum(dtype=torch.float64) * (2 if tile.mirrored else 1)
        if by_points is not None:
            add_gradient_(by_points, points, tile, derivative_RC, t_RC)

    def gradient_of(by_sums: Tensor) -> PointGradient:
        assert by_points is not None
        by_points.factors = 2 * by_sums.expand(len(points.views))  # a row stands on either side of a pair
        return by_points

    return points.group.all_reduce_(sums), gradient_of


def row_sums(
    points: Points, gradient: bool, *, kernel: RotationInvariantKernel, negatives: Collection[int]
) -> Measured:
    """S_i^a = Σ_b Σ_{j≠i} φ(z_i^a·z_j^b), one a row (V, N): over the views b in `negatives` of all other images."""
    views = range(len(points.views))
    pairs = {(a, b) for a in views for b in views if a <= b and (a in negatives or b in negatives)}
    passes = TwoPasses(points, pairs, gradient)
    sums_Vn = torch.zeros_like(points.inverse_norms, dtype=torch.float64)
    for tile, t_RC in passes.first():
        value_RC, _ = _evaluate(kernel, tile, t_RC, exclude=True)
        if tile.b in negatives:
            sums_Vn[tile.a, tile.own_rows(points)] += value_RC.sum(1)
        if tile.mirrored and tile.a in negatives:
            sums_Vn[tile.b, tile.cols] += value_RC.sum(0)

    def gradient_of(by_sums_VN: Tensor) -> PointGradient:
        """The second pass: a pair (i, j) weighs φ'(z_i·z_j) (∂L/∂S_i + ∂L/∂S_j), each where S has it."""
        by_points = PointGradient.zeros(points)
        by_sums_VN = by_sums_VN.to(points.dtype)
        for tile, t_RC in passes.second():
            _, derivative_RC = _evaluate(kernel, tile, t_RC, exclude=True)
            by_rows_R1, by_cols_C = by_sums_VN[tile.a, tile.rows, None], by_sums_VN[tile.b, tile.cols]
            if tile.a in negatives and tile.b in negatives:
                derivative_RC.mul_(by_rows_R1 + by_cols_C)
            else:
                derivative_RC.mul_(by_rows_R1 if tile.b in negatives else by_cols_C)
            add_gradient_(by_points, points, tile, derivative_RC, t_RC)
        return by_points

    return points.group.all_gather_last(sums_Vn), gradient_of


def log_row_sums(
    points: Points, gradient: bool, *, kernel: RotationInvariantKernel, views: Collection[int]
) -> Measured:
    """log S_i^a, S_i^a = Σ_{j≠i} φ(z_i^a·z_j^a)/φ(1), one a row (V, N): over a row's own view; −∞ for other views.

    However far φ > 0 falls: no sum is formed but of φ over the row's largest. What is elementwise is done in float64,
    as log φ grows with D and its rounding is φ's relative error; in blocks of rows, so that it takes a tile or two.
    """
    passes = TwoPasses(points, {(view, view) for view in views}, gradient)

    def logarithms(tile: Tile, t_RC: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Of some of a tile's rows: log φ/φ(1), −∞ for pairs of one image, and φ'/φ."""
        block = replace(tile, rows=slice(tile.rows.start + rows.start, tile.rows.start + rows.stop))
        block.same_image(t_RC[rows]).zero_()
        log_BC, slope_BC = kernel.log_value_and_slope(t_RC[rows].double())
        block.same_image(log_BC).fill_(-torch.inf)
        return log_BC, slope_BC

    logs_Vn = torch.full_like(points.inverse_norms, -torch.inf, dtype=torch.float64)
    for tile, t_RC in passes.first():
        of_rows_R, of_cols_C = logs_Vn[tile.a, tile.own_rows(points)], logs_Vn[tile.b, tile.cols]
        for rows in row_blocks(t_RC):
            log_BC, _ = logarithms(tile, t_RC, rows)
            of_rows_R[rows] = torch.logaddexp(of_rows_R[rows], log_BC.logsumexp(1))
            if tile.mirrored:
                of_cols_C.copy_(torch.logaddexp(of_cols_C, log_BC.logsumexp(0)))
    logs_VN = points.group.all_gather_last(logs_Vn)

    def gradient_of(by_logs_VN: Tensor) -> PointGradient:
        """A pair (i, j) weighs φ' (∂L/∂log S_i / S_i + ∂L/∂log S_j / S_j), and φ is at most S_i and S_j."""

        def weights(tile: Tile, t_RC: Tensor, rows: slice) -> Tensor:
            log_BC, slope_BC = logarithms(tile, t_RC, rows)
            share_BC = (log_BC - logs_VN[tile.a, tile.rows][rows, None]).exp_()
            share_BC.mul_(by_logs_VN[tile.a, tile.rows][rows, None])
            share_BC.addcmul_(log_BC.sub_(logs_VN[tile.b, tile.cols]).exp_(), by_logs_VN[tile.b, tile.cols])
            return share_BC.mul_(slope_BC)

        by_points = PointGradient.zeros(points)
        for tile, t_RC in passes.second():
            weights_RC = torch.empty_like(t_RC)
            for rows in row_blocks(t_RC):
                weights_RC[rows] = weights(tile, t_RC, rows)
            add_gradient_(by_points, points, tile, weights_RC, t_RC)
        return by_points

    return logs_VN, gradient_of


def _evaluate(kernel: RotationInvariantKernel, tile: Tile, t_RC: Tensor, exclude: bool) -> tuple[Tensor, Tensor]:
    """φ and φ' on a tile, zero for pairs of one image where those are excluded."""
    if exclude:
        tile.same_image(t_RC).zero_()
    value_RC, derivative_RC = torch.empty_like(t_RC), torch.empty_like(t_RC)
    for rows in cached_rows(t_RC):  # of a kernel of many terms a cache holds what it makes on the way
        value_RC[rows], derivative_RC[rows] = kernel.value_and_derivative(t_RC[rows])
    if exclude:
        tile.same_image(value_RC).zero_()
        tile.same_image(derivative_RC).zero_()
    return value_RC, derivative_RC
