"""Rows over ranks: each process owns N/W rows of every view and gathers the rest once, without gradient."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from .matmul import working_dtype


@dataclass(frozen=True)
class Group:
    """The process group that shares a batch. Without one: this process alone."""

    group: dist.ProcessGroup | None
    world_size: int  # W
    rank: int

    @staticmethod
    def of(group: dist.ProcessGroup | None) -> Group:
        if group is None:
            return Group(None, 1, 0)
        return Group(group, dist.get_world_size(group), dist.get_rank(group))

    def check_rows(self, view: Tensor) -> None:
        """Every rank holds the same number of rows, two in all at least. Raises ValueError on every rank otherwise.

        Costs one small collective, between CPUs where the group has a backend for them, so that nobody waits for a GPU.
        The "fake" backend, which moves nothing, is for planning and is not asked.
        """
        if self.world_size * view.shape[0] < 2:
            raise ValueError(f"a batch needs at least 2 rows, not {self.world_size * view.shape[0]}")
        if self.world_size == 1 or dist.get_backend(self.group) == "fake":
            return
        device = "cpu" if "cpu:" in dist.get_backend_config(self.group) else view.device
        rows = self.all_gather(torch.tensor([view.shape[0]], device=device)).tolist()
        if len(set(rows)) > 1:
            raise ValueError(f"every rank must hold the same number of rows, not {rows}: drop the uneven last batch")

    def all_gather(self, local: Tensor) -> Tensor:
        """All ranks' rows (first axis), in the order of ranks; the tensor itself where there is one process."""
        if self.world_size == 1:
            return local
        whole = local.new_empty((self.world_size * local.shape[0], *local.shape[1:]))
        dist.all_gather_into_tensor(whole, local.contiguous(), group=self.group)
        return whole

    def all_gather_last(self, local: Tensor) -> Tensor:
        """As `all_gather`, along the last axis: for a few numbers an image."""
        if self.world_size == 1:
            return local
        return self.all_gather(local.movedim(-1, 0)).movedim(0, -1).contiguous()

    def swap_to_lines(self, local_Mn: Tensor) -> tuple[Tensor, slice]:
        """From all M lines of this rank's columns to this rank's share of the lines, whole (L, N); and which."""
        lines, width = self._lines(len(local_Mn)), local_Mn.shape[1]
        own = lines[self.rank]
        if self.world_size == 1:
            return local_Mn, own
        received = local_Mn.new_empty((self.world_size, own.stop - own.start, width))
        sizes = [(line.stop - line.start) * width for line in lines]
        dist.all_to_all_single(
            received.view(-1), local_Mn.reshape(-1), [received[0].numel()] * self.world_size, sizes, group=self.group
        )
        return received.transpose(0, 1).flatten(1), own

    def swap_back_(self, local_Mn: Tensor, whole_LN: Tensor) -> None:
        """The other way, into what `swap_to_lines` was given (contiguous)."""
        if self.world_size == 1:
            return
        sizes = [(line.stop - line.start) * local_Mn.shape[1] for line in self._lines(len(local_Mn))]
        sent = whole_LN.unflatten(1, (self.world_size, -1)).transpose(0, 1).flatten()
        dist.all_to_all_single(
            local_Mn.view(-1), sent, sizes, [sent.numel() // self.world_size] * self.world_size, group=self.group
        )

    def _lines(self, count: int) -> list[slice]:
        """Which of so many lines each rank has: as equal shares as there are."""
        bounds = [count * rank // self.world_size for rank in range(self.world_size + 1)]
        return [slice(*pair) for pair in pairwise(bounds)]

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor, group=self.group)
        return tensor


@dataclass(frozen=True)
class ShardedViews:
    """V views of (n, D) on this rank, of N rows on all."""

    views: tuple[Tensor, ...]
    group: Group

    @property
    def count(self) -> int:
        """N."""
        return self.group.world_size * self.views[0].shape[0]

    @property
    def own(self) -> slice:
        """This rank's rows among the N."""
        rows = self.views[0].shape[0]
        return slice(self.group.rank * rows, (self.group.rank + 1) * rows)

    @property
    def dtype(self) -> torch.dtype:
        """The type of everything but matrix products."""
        return working_dtype(self.views[0])
