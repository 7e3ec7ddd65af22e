"""Views as the batch's statistics change them: centred, for VICReg; standardised, for Barlow Twins; or with columns of
unit length, for FroSSL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor

from .matmul import add_product_, add_upper_gram_, inner, matmul_dtype, mirror_
from .ranks import Group, ShardedViews
from .tiles import column_tiles, row_blocks, row_tiles

STANDARD_EPSILON = 1e-5  # inside the square root of the batch standardisation, as in BatchNorm
SMALLEST_LENGTH = 1e-12  # as torch.nn.functional.normalize


@dataclass(frozen=True)
class Batch(ShardedViews):
    """Views that are changed by the batch's statistics, but never as a whole: blocks are, as they are read."""

    matmul_dtype: torch.dtype

    @classmethod
    def of(cls, views: Sequence[Tensor], group: dist.ProcessGroup | None) -> Self:
        """The batch of these views, with autocast's type for products. Raises ValueError on uneven rows over ranks."""
        processes = Group.of(group)
        processes.check_rows(views[0])
        return cls(tuple(views), processes, matmul_dtype(views[0]))

    @property
    def indices(self) -> range:
        return range(len(self.views))

    @property
    def width(self) -> int:
        """D."""
        return self.views[0].shape[1]

    @cached_property
    def gathered(self) -> tuple[Tensor, ...]:
        """The rows of all ranks, V of (N, D), as they came."""
        return tuple(self.group.all_gather(view) for view in self.views)

    def zeros(self, *shape: int) -> Tensor:
        """In the working type."""
        return self.views[0].new_zeros(shape, dtype=self.dtype)

    def rows(self, view: int, rows: slice) -> Tensor:
        """Some of this rank's rows, (R, D), in the working type, until the next block is asked for."""
        raise NotImplementedError

    def columns(self, view: int, cols: slice) -> Tensor:
        """Some columns of the rows of all ranks, (N, C), likewise."""
        raise NotImplementedError

    @cached_property
    def _memory(self) -> list[Tensor]:
        return [self.zeros(0)]

    def _block(self, like: Tensor) -> Tensor:
        """Memory for a block of this shape, the last one's: a CPU takes as long to fetch new memory as to fill it."""
        if self._memory[0].numel() < like.numel():
            self._memory[0] = torch.empty(like.numel(), dtype=self.dtype, device=like.device)
        return self._memory[0][: like.numel()].view(like.shape)

    def row_tiles(self) -> Iterator[slice]:
        """This rank's rows, in blocks large enough for matrix products."""
        return row_tiles(self.views[0])

    def column_tiles(self) -> Iterator[slice]:
        """All columns, in eight blocks or more of the rows of all ranks: a few blocks at a time take little memory."""
        return column_tiles(self.views[0], self.count)

    def gram(self, blocks: Iterable[Tensor]) -> Tensor:
        """Σ_c A_c A_cᵀ over blocks of columns A_c (N, C): this rank's rows by all, (n, N)."""
        alone = self.group.world_size == 1
        gram_nN = self.zeros(self.views[0].shape[0], self.count)
        for block_NC in blocks:
            operand_NC = block_NC.to(self.matmul_dtype)
            if alone:
                add_upper_gram_(gram_nN, block_NC, operand_NC)
            else:
                add_product_(gram_nN, block_NC[self.own], operand_NC.T)
        return mirror_(gram_nN) if alone else gram_nN

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """⟨a, b⟩ of two matrices that the ranks hold by rows, float64."""
        return self.group.all_reduce_(inner(a, b))


@dataclass(frozen=True)
class CentredBatch(Batch):
    """Views centred over the batch: x − mean."""

    @cached_property
    def means(self) -> Tensor:
        sums_VD = torch.stack([view.sum(0, dtype=self.dtype) for view in self.views])
        return self.group.all_reduce_(sums_VD) / self.count

    @cached_property
    def square_deviations(self) -> Tensor:
        """Σ_i (x_id − mean_d)²."""
        total_VD = torch.zeros_like(self.means)
        for view, total_D in enumerate(total_VD.unbind()):
            for rows in row_blocks(self.views[0]):
                total_D += self.rows(view, rows).square_().sum(0)
        return self.group.all_reduce_(total_VD)

    def rows(self, view: int, rows: slice) -> Tensor:
        x_RD = self.views[view][rows]
        return torch.sub(x_RD, self.means[view], out=self._block(x_RD))

    def columns(self, view: int, cols: slice) -> Tensor:
        x_NC = self.gathered[view][:, cols]
        return torch.sub(x_NC, self.means[view, cols], out=self._block(x_NC))


@dataclass(frozen=True)
class StandardisedBatch(Batch):
    """Views standardised over the batch: A = (x − mean)/√(Var + 1e-5), Var dividing by N.

    They are kept as a whole, in memory that their gradient may take.
    """

    @property
    def standardised(self) -> tuple[Tensor, ...]:
        """This rank's rows, V of (n, D), in the working type."""
        return self._rows_and_scales[0]

    @property
    def inverse_deviations(self) -> tuple[Tensor, ...]:
        """1/√(Var + 1e-5), V of (D)."""
        return self._rows_and_scales[1]

    @cached_property
    def _rows_and_scales(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        rows, inverse_deviations = zip(*map(self._standardise, self.views), strict=True)
        return rows, inverse_deviations

    def _standardise(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """By BatchNorm's own kernel over this rank's rows, which are then brought to the statistics of all ranks."""
        x_nD, own_mean_D, own_inverse_D = torch.native_batch_norm(
            view.to(self.dtype), None, None, None, None, True, 0.0, STANDARD_EPSILON
        )
        if self.group.world_size == 1:
            return x_nD, own_inverse_D
        shift_D = own_mean_D - self._mean_over_ranks(own_mean_D)
        # Every rank has as many rows: Var + ε is the mean of the ranks' own, and of their means' squared distances.
        inverse_D = self._mean_over_ranks(own_inverse_D.pow(-2) + shift_D.square()).rsqrt_()
        return torch.addcmul(shift_D * inverse_D, x_nD, inverse_D / own_inverse_D, out=x_nD), inverse_D

    def _mean_over_ranks(self, numbers: Tensor) -> Tensor:
        return self.group.all_reduce_(numbers.clone()).div_(self.group.world_size)

    @cached_property
    def gathered(self) -> tuple[Tensor, ...]:
        """The rows of all ranks, V of (N, D), in the type of matrix products; of one process in their own."""
        if self.group.world_size == 1:
            return self.standardised
        return tuple(self.group.all_gather(view.to(self.matmul_dtype)) for view in self.standardised)

    def columns(self, view: int, cols: slice) -> Tensor:
        return self.gathered[view][:, cols]


@dataclass(frozen=True)
class UnitColumns(Batch):
    """Views with columns of length 1 over the batch: x_:d/‖x_:d‖, not centred; columns of zeros stay."""

    @cached_property
    def lengths(self) -> Tensor:
        """‖x_:d‖, (V, D)."""
        square_VD = torch.zeros((len(self.views), self.width), dtype=self.dtype, device=self.views[0].device)
        for view in self.indices:
            for rows in row_blocks(self.views[0]):
                square_VD[view] += self.views[view][rows].to(self.dtype).square().sum(0)
        return self.group.all_reduce_(square_VD).sqrt_()

    @cached_property
    def inverse_lengths(self) -> Tensor:
        return self.lengths.clamp_min(SMALLEST_LENGTH).reciprocal_()

    def rows(self, view: int, rows: slice) -> Tensor:
        x_RD = self.views[view][rows]
        return torch.mul(x_RD, self.inverse_lengths[view], out=self._block(x_RD))

    def columns(self, view: int, cols: slice) -> Tensor:
        x_NC = self.gathered[view][:, cols]
        return torch.mul(x_NC, self.inverse_lengths[view, cols], out=self._block(x_NC))
