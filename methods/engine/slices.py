"""Sliced tests: embeddings projected on unit directions a, p_ia = x_i·a, and a statistic of each direction's N numbers.

Directions come in blocks of A, and all of a block is done before the next is drawn: the projections of this rank's
rows, a product of n x D by D x A; the statistic, and its derivative by them, written where they lay; and the share of
the gradient, Σ_a ∂/∂p_ia a, a product again: 4 N D flop a direction. Nothing of the size N x (all directions) is kept,
let alone times knots.

Statistics: how far the empirical characteristic function is from a given one (`CharacteristicDistance`), and the
sorted numbers from the quantiles of the normal distribution (`QuantileDistance`).

Sharded: each rank projects its own rows; no embedding is gathered. The first statistic sums about 2 K numbers a
direction over the ranks, K its knots. The second sorts: each rank a share of the directions, whose projections the
ranks swap and swap back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .matmul import add_product_, gram_, working_dtype
from .ranks import Group
from .tiles import kind_of, slices

DRAWN = 64  # directions that are drawn at once, whatever the size of a block: a draw depends on the seed alone
LEAST_DIRECTIONS, MOST_DIRECTIONS = 64, 256  # of a block, multiples of DRAWN; one in sixteen of D between
LEAST_PROJECTIONS = 2**19  # of a view in a block on a GPU
# Projections on which a statistic works at once: what it makes of them stays in a cache, and threads have enough to do.
ENTRIES = {"cpu": 2**16, "cuda": 2**20}
LEAST_ENTRIES = {"cpu": 2**12, "cuda": 2**18}  # where a quarter of all is less
MOST_ROWS = 4096  # of these


@dataclass(frozen=True)
class Directions:
    """Unit directions in R^D: drawn uniformly by a seed, the same on all ranks; or `given`, (D, count), made unit."""

    count: int
    seed: int
    given: Tensor | None = None

    def blocks(self, view: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
        """All of them, (A, D) at a time, for embeddings like this view (n, D): at its device, in this type."""
        count, dim = view.shape
        generator = torch.Generator(view.device).manual_seed(self.seed) if self.given is None else None
        size = min(MOST_DIRECTIONS, max(LEAST_DIRECTIONS, dim // 16 // DRAWN * DRAWN))
        if kind_of(view.device) == "cuda":  # small blocks cost the launches of their kernels, and save little
            size = max(size, LEAST_PROJECTIONS // max(1, count) // DRAWN * DRAWN)
        for block in slices(self.count, size):
            if self.given is None:  # in float32 for every type of embeddings, so that all see the same
                a_AD = torch.empty((block.stop - block.start, dim), device=view.device)
                for part in a_AD.split(DRAWN):
                    part.normal_(generator=generator)
                a_AD = a_AD.to(dtype)
            else:
                a_AD = self.given[:, block].T.to(view.device, dtype, copy=True)
            yield a_AD.div_(torch.linalg.vector_norm(a_AD, dim=1, keepdim=True))
            del a_AD

    def whole(self, view: Tensor) -> Tensor:
        """All of them at once, (D, count), in the view's type: for textbook forms."""
        return torch.cat(list(self.blocks(view, working_dtype(view)))).T.to(view.dtype)


# Of the projections of some views (V, A, n): a number for each view, summed over directions, float64. Where a gradient
# is wanted they are overwritten by the number's derivative by them.
Statistic = Callable[[Tensor, bool], Tensor]


def slice_sums(
    operand: Callable[[int, slice], Tensor],
    views: Sequence[Tensor],
    tiles: Iterable[slice],
    directions: Directions,
    statistic: Statistic,
    gradients: Sequence[Tensor] | None,
) -> Tensor:
    """The statistic of each view summed over all directions, (V,), float64.

    operand: (index of a view, tile) -> what is projected, these rows (R, D) of this rank, in the type of products.
    gradients: V of (n, D) in the working type, to which the derivative by what is projected is added.
    """
    tiles, sums_V = list(tiles), torch.zeros(len(views), dtype=torch.float64, device=views[0].device)
    for a_AD in directions.blocks(views[0], working_dtype(views[0])):
        p_VAn = a_AD.new_empty((len(views), len(a_AD), len(views[0])))
        a_AD = a_AD.to(operand(0, slice(0, 0)).dtype)
        for index, p_An in enumerate(p_VAn):
            for rows in tiles:
                gram_(p_An[:, rows], a_AD, operand(index, rows))
        sums_V += statistic(p_VAn, gradients is not None)
        if gradients is not None:
            for gradient_nD, p_An in zip(gradients, p_VAn, strict=True):
                for rows in tiles:
                    add_product_(gradient_nD[rows], p_An[:, rows].T, a_AD)
        del a_AD
    return sums_V


@dataclass(frozen=True)
class Multiples:
    """sin kθ and cos kθ for k = 0 … highest as products of few: of rθ, r ≤ m, and of qgθ, q ≤ Q, g = 2m + 1.

        sin (qg ± r)θ = sin qgθ cos rθ ± cos qgθ sin rθ,   cos (qg ± r)θ = cos qgθ cos rθ ∓ sin qgθ sin rθ

    Those few, 10 arrays where 17 knots have 32, follow from one sine and one cosine an entry by the same rule, whose
    errors grow with k; those of Chebyshev's recurrence do with k². A sum over rows of sin kθ or cos kθ is one of
    products, and that is a matrix product; so is, for each row, a sum over k with coefficients of its direction.
    """

    highest: int
    small: int  # m
    large: int  # Q

    @staticmethod
    def up_to(highest: int) -> Multiples:
        """With the fewest arrays."""
        options = ((m, max(0, -(-(highest - m) // (2 * m + 1)))) for m in range(1, highest + 1))
        return Multiples(highest, *min(options, key=sum))

    def by_products(self, like: Tensor) -> Tensor:
        """P, (2m+1)(2Q+1) x 2 (highest + 1): products @ P = sin and cos of kθ, one after the other."""
        sizes = (2 * self.small + 1, 2 * self.large + 1)
        unit = torch.eye(sizes[0] * sizes[1], dtype=like.dtype, device=like.device).view(-1, *sizes)
        # A product of sin or cos rθ (r, then which) by sin or cos qgθ, with the sines of 0 again.
        both = F.pad(unit, (1, 0, 1, 0)).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        (ss, sc), (cs, cc) = ([both[:, :, r, :, q] for q in (0, 1)] for r in (0, 1))
        above = torch.stack([cs + sc, cc - ss], -1)  # of qg + r, r = 0 … m
        below = torch.stack([cs - sc, cc + ss], -1)  # of qg − r
        multiples = torch.cat([below.flip(1)[:, :-1], above], 1).transpose(1, 2).flatten(1, 2)  # of −m, −m + 1, …
        return multiples[:, self.small : self.small + self.highest + 1].flatten(1)


class Waves:
    """The arrays of `Multiples` for angles of one shape (A, R), in memory that is filled for one part after the other.

    small: the cosine of 0, then sin and cos of rθ, (A, 2m + 1, R). large: likewise of qgθ, (A, 2Q + 1, R).
    """

    def __init__(self, multiples: Multiples, theta_AR: Tensor) -> None:
        m, shape = multiples.small, theta_AR.shape
        arrays = theta_AR.new_empty((m + multiples.large + 3, 2, *shape))
        small, large = arrays[: m + 1], arrays[m + 1 : -1]
        for zeroth in (small[0], large[0]):
            zeroth[0], zeroth[1] = 0, 1
        # The sine of 0, which is 0, is left out.
        self.small, self.large = (part.flatten(0, 1)[1:].transpose(0, 1) for part in (small, large))
        self._weighted = theta_AR.new_empty((shape[0], 2 * m + 1, shape[1]))
        self._terms = list(zip(self._weighted.unbind(1), self.small.unbind(1), strict=True))[1:]
        steps, giants, middle = _angles(small), _angles(large), _angles(arrays[-1:])[0]
        self._first = steps[1]
        self._sums = [(steps[r], steps[r - 1], steps[1]) for r in range(2, m + 1)]
        if multiples.large:
            self._sums += [(middle, steps[m], steps[1]), (giants[1], middle, steps[m])]
        self._sums += [(giants[q], giants[q - 1], giants[1]) for q in range(2, multiples.large + 1)]

    def fill_(self, theta_AR: Tensor) -> None:
        """Of these angles."""
        torch.sin(theta_AR, out=self._first.sin)
        torch.cos(theta_AR, out=self._first.cos)
        for out, a, b in self._sums:
            torch.mul(a.both, b.cos, out=out.both)
            out.sin.addcmul_(a.cos, b.sin)
            out.cos.addcmul_(a.sin, b.sin, value=-1)

    def products(self) -> Tensor:
        """Of small by large, summed over rows, (A, 2m + 1, 2Q + 1)."""
        return torch.bmm(self.small, self.large.transpose(1, 2))

    def combine_(self, out_AR: Tensor, coefficients: Tensor) -> None:
        """The sum of the products, each with its coefficient in a direction, (A, 2m + 1, 2Q + 1)."""
        torch.bmm(coefficients, self.large, out=self._weighted)
        out_AR.copy_(self._weighted[:, 0])
        for weighted_AR, small_AR in self._terms:
            out_AR.addcmul_(weighted_AR, small_AR)


class _Angle(NamedTuple):
    both: Tensor
    sin: Tensor
    cos: Tensor


def _angles(arrays: Tensor) -> list[_Angle]:
    return [_Angle(both, both[0], both[1]) for both in arrays]


@dataclass(frozen=True)
class CharacteristicDistance:
    """N Σ_k w_k [(mean_i cos t_k p_i − φ_k)² + (mean_i sin t_k p_i)²], t_k = kΔ, N the rows of all ranks.

    The derivative by p_i is 2 Σ_k w_k t_k [mean sin · cos t_k p_i − (mean cos − φ_k) sin t_k p_i]: without N, and the
    same whatever rank a row is on.
    """

    step: float  # Δ
    weights: Tensor  # w_K, float64
    target: Tensor  # φ_K, float64, real: of a symmetric distribution
    group: Group
    scales: Tensor | None = None  # (V, n): what the projections of each row are to be multiplied by, if anything
    factor: float = 1.0  # of the derivative
    _waves: dict[torch.Size, Waves] = field(default_factory=dict)

    def __call__(self, p_VAn: Tensor, wanted: bool) -> Tensor:
        count = self.group.world_size * p_VAn.shape[2]
        theta_Mn = p_VAn.mul_(self.step if self.scales is None else self.step * self.scales[:, None]).flatten(0, 1)
        small, large = 2 * self._multiples.small + 1, 2 * self._multiples.large + 1

        products_Mrq = self.weights.new_zeros((len(theta_Mn), small, large))  # M directions of all views
        for dirs, rows in _parts(theta_Mn):
            products_Mrq[dirs] += self._waves_of(theta_Mn[dirs, rows]).products()
        means_MK2 = self.group.all_reduce_(products_Mrq).flatten(1) @ self._by_products / count
        means_MK2 = means_MK2.unflatten(1, (-1, 2))
        means_MK2[..., 1] -= self.target
        value_M = count * (means_MK2.square().sum(2) @ self.weights)

        if wanted:
            times_K = torch.arange(len(self.weights), dtype=self.weights.dtype, device=self.weights.device) * self.step
            by_sin_MK, by_cos_MK = (means_MK2 * (2 * self.factor * self.weights * times_K)[:, None]).unbind(2)
            coefficients = torch.stack([-by_cos_MK, by_sin_MK], 2).flatten(1) @ self._by_products.T
            coefficients_Mrq = coefficients.view_as(products_Mrq).to(theta_Mn.dtype)
            for dirs, rows in _parts(theta_Mn):
                theta_AR = theta_Mn[dirs, rows]
                self._waves_of(theta_AR).combine_(theta_AR, coefficients_Mrq[dirs])
            if self.scales is not None:
                p_VAn.mul_(self.scales[:, None])
        return value_M.unflatten(0, (len(p_VAn), -1)).sum(1)

    @cached_property
    def _multiples(self) -> Multiples:
        return Multiples.up_to(len(self.weights) - 1)

    @cached_property
    def _by_products(self) -> Tensor:
        return self._multiples.by_products(self.weights)

    def _waves_of(self, theta_AR: Tensor) -> Waves:
        if theta_AR.shape not in self._waves:
            self._waves[theta_AR.shape] = Waves(self._multiples, theta_AR)
        waves = self._waves[theta_AR.shape]
        waves.fill_(theta_AR)
        return waves


@dataclass(frozen=True)
class QuantileDistance:
    """Σ_i (p_(i) − Φ⁻¹(i/(N+1)))², p_(1) ≤ … ≤ p_(N) the projections of the rows of all ranks, sorted.

    The derivative by p_i is 2 (p_i − the quantile of its rank): the sorting's permutation carries it back.
    """

    group: Group
    factor: float = 1.0  # of the derivative

    def __call__(self, p_VAn: Tensor, wanted: bool) -> Tensor:
        count = self.group.world_size * p_VAn.shape[2]
        ranks_N = torch.arange(1, count + 1, dtype=torch.float64, device=p_VAn.device)
        quantiles_N = torch.special.ndtri(ranks_N / (count + 1)).to(p_VAn.dtype)
        p_Mn = p_VAn.flatten(0, 1)  # M directions of all views
        p_LN, own = self.group.swap_to_lines(p_Mn)
        value_M = torch.zeros(len(p_Mn), dtype=torch.float64, device=p_VAn.device)
        own_value_L = value_M[own]
        for dirs in slices(len(p_LN), max(1, ENTRIES[kind_of(p_VAn.device)] // count)):
            sorted_LN, order_LN = p_LN[dirs].sort(dim=1)
            sorted_LN -= quantiles_N
            own_value_L[dirs] = torch.linalg.vecdot(sorted_LN, sorted_LN)
            if wanted:
                p_LN[dirs].scatter_(1, order_LN, sorted_LN.mul_(2 * self.factor))
        if wanted:
            self.group.swap_back_(p_Mn, p_LN)
        return self.group.all_reduce_(value_M).unflatten(0, (len(p_VAn), -1)).sum(1)


def _parts(p_Mn: Tensor) -> Iterator[tuple[slice, slice]]:
    """Directions and rows of parts of the projections, a quarter of them at most where they are many."""
    kind = kind_of(p_Mn.device)
    entries = min(ENTRIES[kind], max(LEAST_ENTRIES[kind], p_Mn.numel() // 4))
    rows_step = min(p_Mn.shape[1], MOST_ROWS)
    for dirs in slices(p_Mn.shape[0], max(1, entries // rows_step)):
        for rows in slices(p_Mn.shape[1], rows_step):
            yield dirs, rows
