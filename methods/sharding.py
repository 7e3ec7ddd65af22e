"""Rows over ranks: each process owns N/W rows of every view and gathers the rest once, without gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """The processes that share a batch. Without a group: this process alone."""

    group: dist.ProcessGroup | None
    world: int
    rank: int

    @staticmethod
    def of(group: dist.ProcessGroup | None) -> Ranks:
        if group is None:
            return Ranks(None, 1, 0)
        return Ranks(group, dist.get_world_size(group), dist.get_rank(group))

    def check_rows(self, view: Tensor) -> None:
        """Every rank holds the same number of rows, two in all at least. Raises ValueError on every rank otherwise.

        Costs one small collective, between CPUs where the group has a backend for them, so that nobody waits for a GPU.
        The "fake" backend, which moves nothing, is for planning and is not asked.
        """
        if self.world * view.shape[0] < 2:
            raise ValueError(f"a batch needs at least 2 rows, not {self.world * view.shape[0]}")
        if self.world == 1 or dist.get_backend(self.group) == "fake":
            return
        device = "cpu" if "cpu:" in dist.get_backend_config(self.group) else view.device
        own = torch.tensor([view.shape[0]], device=device)
        counts = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(counts, own, group=self.group)
        rows = torch.cat(counts).tolist()
        if len(set(rows)) > 1:
            raise ValueError(f"every rank must hold the same number of rows, not {rows}: drop the uneven last batch")

    def own_rows(self, count: int) -> slice:
        """Where this rank's `count` rows lie among all."""
        return slice(self.rank * count, (self.rank + 1) * count)

    def gather(self, local: Tensor) -> Tensor:
        """All ranks' rows (first axis), in the order of ranks; the tensor itself where there is one process."""
        if self.world == 1:
            return local
        whole = local.new_empty((self.world * local.shape[0], *local.shape[1:]))
        dist.all_gather_into_tensor(whole, local.contiguous(), group=self.group)
        return whole

    def gather_last(self, local: Tensor) -> Tensor:
        """As `gather`, along the last axis: for a few numbers an image."""
        if self.world == 1:
            return local
        return self.gather(local.movedim(-1, 0)).movedim(0, -1).contiguous()

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor, group=self.group)
        return tensor
