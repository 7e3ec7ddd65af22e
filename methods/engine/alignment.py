"""The alignment of views as they come, star by star (see `pairing`), with its gradient: in blocks of rows, O(V N D).

On the sphere `sphere` does it, for there the same distances serve other terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from ..pairing import Pairing
from .matmul import inner, working_dtype
from .ranks import Group
from .tiles import row_blocks


def add_alignment_(
    gradients: Sequence[Tensor] | None,
    views: Sequence[Tensor],
    pairing: Pairing,
    group: Group,
    weight: float,
    scales_VD: Tensor | None = None,
) -> Tensor:
    """weight · Σ_stars star.weight · mean_i Σ_{v in spokes} ‖x_i^v − middle_i‖², float64, over the rows of all ranks.

    The middle is the mean of the hub. Its gradient by this rank's rows is added to `gradients`, times W. With scales
    x is a view times its own, and the gradient is by x.
    """
    dtype, count = working_dtype(views[0]), group.world_size * len(views[0])
    total = torch.zeros((), dtype=torch.float64, device=views[0].device)
    for rows in row_blocks(views[0]):
        blocks = [view[rows].to(dtype) for view in views]
        if scales_VD is not None:
            blocks = [block * scale_D for block, scale_D in zip(blocks, scales_VD, strict=True)]
        for star in pairing.stars:
            middle = blocks[star.hub[0]] if len(star.hub) == 1 else torch.stack([blocks[v] for v in star.hub]).mean(0)
            share = float(star.weight)
            scale = 2 * share * weight / count * group.world_size
            deviations = [blocks[view] - middle for view in star.spokes]
            for view, deviation in zip(star.spokes, deviations, strict=True):
                total.add_(inner(deviation, deviation), alpha=share)
                if gradients is not None:
                    gradients[view][rows].add_(deviation, alpha=scale)
            # On the hub's views all spokes pull; where they are the hub itself, that sums to nothing.
            if gradients is not None and set(star.hub) != set(star.spokes):
                pull = reduce(torch.add, deviations)
                for view in star.hub:
                    gradients[view][rows].sub_(pull, alpha=scale / len(star.hub))
    return group.all_reduce_(total) * (weight / count)
