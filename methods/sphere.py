"""V views on the unit sphere, and a loss of their pairwise inner products with its gradient in closed form.

With x the embeddings, r = 1/‖x‖ and z = r x, every sphere loss of this package is an outer function of few numbers,

    loss = outer(δ, S),   δ_ab,i = ‖z_i^a − z_i^b‖²  (V, V, N),   S = sums of φ(z_i·z_j)

and δ carries the alignment, S the regulariser. The outer function is differentiated by autograd on those few numbers;
what is left is linear in the rows and is done here in one pass over them, normalisation included:

    dL/dx_i^a = r_i^a (1 − z zᵀ)[ p_i^a + Σ_b 2 k_ab,i (z_i^a − z_i^b) ],   k = ∂L/∂δ_ab + ∂L/∂δ_ba

with p the pull of the other rows, p_i = Σ_j ∂L/∂(z_i·z_j) z_j, summed by whatever computed S (`pairwise`, `moments`).
No normalised copy of x is made in full precision: inner products are rescaled instead, which is N² work and not N·D.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor

from .loss import Loss, assemble, check_views, closed_form, product_dtype, wants_gradient, working_dtype
from .products import slices
from .sharding import Ranks

SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize


@dataclass(frozen=True)
class Points:
    """Views as points on the sphere: z = r x, and z = ρ u for the operands u of matrix products."""

    views: tuple[Tensor, ...]  # x, V of (n, D), as they came
    inverse_norms: Tensor  # r, in the working type
    local_operands: tuple[Tensor, ...]  # u, V of (n, D), in the type of matrix products
    local_scales: Tensor  # ρ
    ranks: Ranks

    @staticmethod
    def of(views: Sequence[Tensor], products: torch.dtype, ranks: Ranks) -> Points:
        """Full precision takes u = x as it is; half precision needs u = z rounded, whose products cannot overflow."""
        inverse_Vn = torch.stack([_inverse_norms(view) for view in views])
        if products == inverse_Vn.dtype:
            return Points(tuple(views), inverse_Vn, tuple(views), inverse_Vn, ranks)
        pairs = zip(views, inverse_Vn, strict=True)
        operands = tuple((view * inverse[:, None]).to(products) for view, inverse in pairs)
        scales_Vn = torch.stack([_inverse_norms(operand) for operand in operands])
        return Points(tuple(views), inverse_Vn, operands, scales_Vn, ranks)

    @cached_property
    def operands(self) -> tuple[Tensor, ...]:
        """u for the rows of all ranks, V of (N, D)."""
        return tuple(self.ranks.gather(operand) for operand in self.local_operands)

    @cached_property
    def scales(self) -> Tensor:
        """ρ for the rows of all ranks."""
        return self.ranks.gather_last(self.local_scales)

    def rows(self, view: int, rows: slice) -> Tensor:
        """z for some of this rank's rows, in the working type."""
        return self.local_operands[view][rows] * self.local_scales[view, rows, None]

    @property
    def count(self) -> int:
        """N, the rows of all ranks."""
        return self.ranks.world * self.views[0].shape[0]

    @property
    def own(self) -> slice:
        """This rank's rows among the N."""
        return self.ranks.own_rows(self.views[0].shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """The type of everything but matrix products."""
        return self.inverse_norms.dtype

    @property
    def products(self) -> torch.dtype:
        """The type of matrix products."""
        return self.local_operands[0].dtype

    def squared_distances(self) -> Tensor:
        """δ_VVN for the images of all ranks, float64. From differences of rows: exact where views nearly agree."""
        count = len(self.views)
        delta_VVn = self.views[0].new_zeros((count, count, len(self.views[0])), dtype=self.dtype)
        for rows in row_slices(self.views[0]):
            for a in range(count):
                for b in range(a + 1, count):
                    delta_VVn[a, b, rows] = delta_VVn[b, a, rows] = self._distances_of(a, b, rows)
        return self.ranks.gather_last(delta_VVn).double()

    def _distances_of(self, a: int, b: int, rows: slice) -> Tensor:
        r_a, r_b = self.inverse_norms[a, rows, None], self.inverse_norms[b, rows, None]
        difference = (self.views[a][rows] * r_a).addcmul_(self.views[b][rows].to(self.dtype), r_b, value=-1)
        return torch.linalg.vecdot(difference, difference)


@dataclass
class Field:
    """The pull of all rows on this rank's rows, up to a factor a view: p_i^a = factor_a · pulls_i^a / ρ_i^a."""

    pulls: list[Tensor]  # V of (n, D), in the working type; they become the gradients
    radial: Tensor  # z_i·(pulls_i / ρ_i), what the tangent projection takes away
    factors: Tensor

    @staticmethod
    def zeros(points: Points) -> Field:
        pulls = [torch.zeros_like(view, dtype=points.dtype) for view in points.views]
        radial = torch.zeros_like(points.inverse_norms)
        return Field(pulls, radial, torch.ones_like(radial[:, 0]))

    def gradients_(self, points: Points, delta_VVN: Tensor, slope_VVN: Tensor) -> list[Tensor]:
        """dL/dx of this rank's rows, written over the pulls; slope = ∂L/∂δ. Times W, for DDP averages over ranks."""
        own = points.own
        coefficients_VVn = self._coefficients(points, delta_VVN[..., own], slope_VVN[..., own]).to(points.dtype)
        pull_Vn = points.inverse_norms / points.local_scales * self._factors(points)
        for rows in row_slices(points.views[0]):
            for a, pull in enumerate(self.pulls):
                gradient = pull[rows].mul_(pull_Vn[a, rows, None])
                for b, view in enumerate(points.views):
                    gradient.addcmul_(view[rows].to(points.dtype), coefficients_VVn[a, b, rows, None])
        return self.pulls

    def _coefficients(self, points: Points, delta_VVn: Tensor, slope_VVn: Tensor) -> Tensor:
        """What multiplies x_i^b in dL/dx_i^a; the tangent part of z − z' is (1 − δ/2) z − z', as z·(z − z') = δ/2."""
        r_Vn = points.inverse_norms
        k_VVn = 2 * points.ranks.world * (slope_VVn + slope_VVn.transpose(0, 1))
        along_Vn = (k_VVn * (1 - delta_VVn / 2)).sum(1) - self._factors(points) * self.radial
        return (torch.diag_embed(along_Vn.T).movedim(0, -1) - k_VVn) * r_Vn[:, None] * r_Vn

    def _factors(self, points: Points) -> Tensor:
        return (self.factors * points.ranks.world).to(points.dtype)[:, None]


# Few numbers in, named terms out: outer(delta_VVN, sums) -> {name: scalar}, float64.
Outer = Callable[[Tensor, Tensor], dict[str, Tensor]]
# The sums of φ over pairs, and how the field follows from ∂L/∂sums (where a gradient was asked for).
Measured = tuple[Tensor, Callable[[Tensor], Field]]
Measure = Callable[[Points, bool], Measured]


def sphere_loss(
    views: Sequence[Tensor], outer: Outer, measure: Measure, form: str, group: dist.ProcessGroup | None
) -> Loss:
    """outer(δ, S) of the views on the sphere, S as `measure` sums them, with its gradient."""
    check_views(views)
    wanted, products = wants_gradient(views), product_dtype(views[0])
    ranks = Ranks.of(group)
    ranks.check_rows(views[0])
    with closed_form(views[0]):
        points = Points.of(views, products, ranks)
        delta_VVN = points.squared_distances()
        sums, field_of = measure(points, wanted)
        terms, slope_VVN, sum_slopes = _differentiated(outer, delta_VVN, sums)
        gradients = field_of(sum_slopes).gradients_(points, delta_VVN, slope_VVN) if wanted else None
    return assemble(views, terms, gradients, form)


def mean_alignment(delta_VVN: Tensor) -> Tensor:
    """mean_i ‖z_i^a − z_i^b‖², averaged over pairs of different views."""
    count = delta_VVN.shape[0]
    return delta_VVN.sum() / (count * (count - 1) * delta_VVN.shape[2])


def _differentiated(outer: Outer, delta: Tensor, sums: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    with torch.enable_grad():
        delta, sums = delta.detach().requires_grad_(), sums.detach().requires_grad_()
        terms = outer(delta, sums)
        total = torch.stack(list(terms.values())).sum()
        slopes = torch.autograd.grad(total, (delta, sums), allow_unused=True, materialize_grads=True)
    return terms, slopes[0], slopes[1]


def _inverse_norms(view: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(view, dim=1, dtype=working_dtype(view))
    return norms.clamp_min_(SMALLEST_NORM).reciprocal_()


def row_slices(view: Tensor) -> Iterator[slice]:
    """Rows in eight blocks or more, so that working copies take little memory; smaller ones where there is a cache."""
    largest = 2**20 if view.device.type == "cpu" else 2**24
    elements = max(2**16, min(largest, view.numel() // 8))
    return slices(view.shape[0], max(1, elements // view.shape[1]))
