"""V views on the unit sphere, and how a loss of their pairwise inner products gets its gradient in closed form.

With x the embeddings, r = 1/‖x‖ and z = r x, every sphere loss of this package is an outer function of few numbers,

    loss = outer(δ, S),   δ_ab,i = ‖z_i^a − z_i^b‖²  (V, V, N),   S = sums of φ(z_i·z_j)

and δ carries the alignment, S the regulariser; of δ only the pairs of views that the loss looks at are computed. The
outer function is differentiated by autograd on those few numbers; what is left is linear in the rows and is done here
in one pass over them, normalisation included:

    dL/dx_i^a = r_i^a (1 − z zᵀ)[ g_i^a + Σ_b 2 k_ab,i (z_i^a − z_i^b) ],   k = ∂L/∂δ_ab + ∂L/∂δ_ba

with g_i = Σ_j ∂L/∂(z_i·z_j) z_j, the gradient by the point, summed by whatever computed S (`pairs`, `moments`).
A row of zeros has no direction: it stays 0 in inner products, and is a unit vector where ‖z‖ = 1 has been made use of.
No normalised copy of x is made in full precision: inner products are rescaled instead, which is N² work and not N·D.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from ..pairing import Pair
from .matmul import working_dtype
from .ranks import Group, ShardedViews
from .tiles import row_blocks

SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize


@dataclass(frozen=True)
class Points(ShardedViews):
    """Views x as points on the sphere: z = r x, and z = ρ u for the operands u of matrix products."""

    inverse_norms: Tensor  # r, in the working type
    local_operands: tuple[Tensor, ...]  # u, V of (n, D), in the type of matrix products
    local_scales: Tensor  # ρ

    @staticmethod
    def of(views: Sequence[Tensor], matmul_dtype: torch.dtype, group: Group) -> Points:
        """Full precision takes u = x as it is; half precision needs u = z rounded, whose products cannot overflow."""
        inverse_Vn = torch.stack([_inverse_norms(view) for view in views])
        if matmul_dtype == inverse_Vn.dtype:
            return Points(tuple(views), group, inverse_Vn, tuple(views), inverse_Vn)
        pairs = zip(views, inverse_Vn, strict=True)
        operands = tuple((view * inverse[:, None]).to(matmul_dtype) for view, inverse in pairs)
        scales_Vn = torch.stack([_inverse_norms(operand) for operand in operands])
        return Points(tuple(views), group, inverse_Vn, operands, scales_Vn)

    @cached_property
    def operands(self) -> tuple[Tensor, ...]:
        """u for the rows of all ranks, V of (N, D)."""
        return tuple(self.group.all_gather(operand) for operand in self.local_operands)

    @cached_property
    def scales(self) -> Tensor:
        """ρ for the rows of all ranks."""
        return self.group.all_gather_last(self.local_scales)

    def rows(self, view: int, rows: slice) -> Tensor:
        """z for some of this rank's rows, in the working type."""
        return self.local_operands[view][rows] * self.local_scales[view, rows, None]

    @property
    def matmul_dtype(self) -> torch.dtype:
        """The type of matrix products."""
        return self.local_operands[0].dtype

    def squared_distances(self, pairs: Collection[Pair]) -> Tensor:
        """δ_VVN for the images of all ranks, float64; 0 but for these pairs of views, a < b, and the same b, a.

        From differences of rows: exact where views nearly agree.
        """
        count = len(self.views)
        delta_VVn = self.views[0].new_zeros((count, count, len(self.views[0])), dtype=self.dtype)
        for rows in row_blocks(self.views[0]):
            for a, b in pairs:
                r_a, r_b = self.inverse_norms[a, rows, None], self.inverse_norms[b, rows, None]
                difference_RD = self.views[a][rows] * r_a
                difference_RD.addcmul_(self.views[b][rows].to(self.dtype), r_b, value=-1)
                square_R = torch.linalg.vecdot(difference_RD, difference_RD)
                delta_VVn[a, b, rows] = delta_VVn[b, a, rows] = square_R
        return self.group.all_gather_last(delta_VVn).double()


@dataclass
class PointGradient:
    """g of this rank's rows, up to a factor a view: g_i^a = factor_a · unscaled_i^a / ρ_i^a."""

    unscaled: list[Tensor]  # V of (n, D), in the working type; they become the gradients by x
    radial: Tensor  # z_i·(unscaled_i / ρ_i), what the tangent projection takes away
    factors: Tensor

    @staticmethod
    def zeros(points: Points) -> PointGradient:
        unscaled = [torch.zeros_like(view, dtype=points.dtype) for view in points.views]
        radial = torch.zeros_like(points.inverse_norms)
        return PointGradient(unscaled, radial, torch.ones_like(radial[:, 0]))

    def set_radial_(self, points: Points, views: Iterable[int]) -> None:
        """Of these views, whose g is whole."""
        for view in views:
            for rows in row_blocks(points.views[0]):
                operand_RD = points.local_operands[view][rows].to(points.dtype)
                self.radial[view, rows] = torch.linalg.vecdot(self.unscaled[view][rows], operand_RD)

    def by_views_(
        self, points: Points, pairs: Collection[Pair], delta_VVN: Tensor, by_delta_VVN: Tensor
    ) -> list[Tensor]:
        """dL/dx of this rank's rows, written over g; by_delta = ∂L/∂δ of these pairs. Times W, as DDP averages."""
        world, own, r_Vn = points.group.world_size, points.own, points.inverse_norms
        factors_V1 = (self.factors * world).to(points.dtype)[:, None]
        k_VVn = 2 * world * (by_delta_VVN + by_delta_VVN.transpose(0, 1))[..., own]
        for a, b in combinations(range(len(points.views)), 2):
            if (a, b) not in pairs:  # δ_ab is the constant 0
                k_VVn[a, b] = k_VVn[b, a] = 0
        # What multiplies x_i^b: the tangent part of z − z' is (1 − δ/2) z − z', as z·(z − z') = δ/2.
        along_Vn = (k_VVn * (1 - delta_VVN[..., own] / 2)).sum(1) - factors_V1 * self.radial
        of_views_VVn = ((torch.diag_embed(along_Vn.T).movedim(0, -1) - k_VVn) * r_Vn[:, None] * r_Vn).to(points.dtype)
        of_g_Vn = r_Vn / points.local_scales * factors_V1
        for rows in row_blocks(points.views[0]):
            for a, unscaled in enumerate(self.unscaled):
                gradient_RD = unscaled[rows].mul_(of_g_Vn[a, rows, None])
                for b, view in enumerate(points.views):
                    if a != b and (min(a, b), max(a, b)) not in pairs:
                        continue
                    gradient_RD.addcmul_(view[rows].to(points.dtype), of_views_VVn[a, b, rows, None])
        return self.unscaled


# The sums of φ over pairs, and how g follows from ∂L/∂sums (where a gradient was asked for).
Measured = tuple[Tensor, Callable[[Tensor], PointGradient]]
Measure = Callable[[Points, bool], Measured]


def _inverse_norms(view: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(view, dim=1, dtype=working_dtype(view))
    return norms.clamp_min_(SMALLEST_NORM).reciprocal_()
