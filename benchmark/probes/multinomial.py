"""Multinomial logistic regression for many ridges: each fit begun where the last ones lead, with what they learnt.

Along the features' principal axes the loss's curvature is nearly diagonal, and the diagonal is known: L-BFGS begins
with it. Its steps and the changes of the slope over them hold at every ridge, which adds λ times the step to a change:
so they go from fit to fit, which no library's solver lets them. Rows stay where they are: blocks of them are scaled,
in the precision of the fit, whenever they are looked at; only weights and slopes are turned to the axes. Of fewer rows
than features, which span fewer axes, the rows are turned once.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from benchmark.probes.subject import Features
from benchmark.runtime.process import Process

# Rows that are scaled, or whose scores are held, at once: so many, of no more numbers than these.
_ROWS, _NUMBERS = 8192, 2**21
# A fit ends where its next step promises to lower the objective, or its last one lowered it, by less than this part.
_TOLERANCE = 1e-6
_MAX_ITERATIONS, _MAX_TRIALS = 200, 10
# Steps that L-BFGS remembers; of what a step promises, the part that it must keep.
_MEMORY, _KEPT = 20, 1e-4
# Rows of more numbers are worked on in float32, which takes half the time.
_DOUBLE = 2**24
# Axes along which fewer rows than features vary less than this, of the largest deviation, are rounding.
_RANK_TOLERANCE = 1e-6
# Of so many rows in one class the curvature is not known: no more than one of them is uncertain.
_LEAST_CURVATURE = 1e-3
# A step of all variables (V,), and by how much it changed the slope of the loss without its ridge.
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Scaling:
    """x ↦ (x − mean) / scale, by which the mean square of features is 1: a ridge means the same for every network."""

    mean: Tensor  # (F,)
    scale: float

    @classmethod
    def of(cls, x_NF: Tensor) -> Self:
        """Constant features are only centred."""
        mean_F = x_NF.mean(dim=0, dtype=torch.float64)
        parts = x_NF.split(_rows_of(x_NF))
        squares = sum(float((part_nF.double() - mean_F).square().sum()) for part_nF in parts)
        return cls(mean_F, (squares / x_NF.numel()) ** 0.5 or 1.0)

    def __call__(self, x_NF: Tensor) -> Tensor:
        """In float64."""
        return (x_NF.double() - self.mean) / self.scale


@dataclass(frozen=True, eq=False)
class Fitted:
    """A classifier of scaled features, float64, the curvature of its loss, and L-BFGS's memory of the same rows."""

    weight: Tensor  # (C, F)
    bias: Tensor  # (C,)
    curvature: Tensor  # (C,): Σ_i p_ic (1 − p_ic) over the rows that it was fitted to
    pairs: Sequence[Pair] = ()

    @classmethod
    def nothing(cls, classes: int, features: int, rows: int, device: torch.device) -> Self:
        """All classes as likely for every row."""
        weight_CF = torch.zeros(classes, features, dtype=torch.float64, device=device)
        bias_C = weight_CF.new_zeros(classes)
        return cls(weight_CF, bias_C, torch.full_like(bias_C, rows * (1 - 1 / classes) / classes))

    def beyond(self, before: Self) -> Self:
        """Where a path of ridges leads next, ridges by the same factor apart: as far again as from ``before``."""
        return replace(self, weight=2 * self.weight - before.weight, bias=2 * self.bias - before.bias)

    def predict(self, x_NF: Tensor, scaling: Scaling) -> Tensor:
        """The class with the largest score of each row."""
        weight_FC = (self.weight / scaling.scale).T
        bias_C = self.bias - scaling.mean @ weight_FC
        parts = (part_nF.double() @ weight_FC + bias_C for part_nF in x_NF.split(_rows_of(x_NF)))
        return torch.cat([scores_nC.argmax(dim=1) for scores_nC in parts])


class Regression:
    """The problem  min_{W, b} Σ_i −log softmax(W x_i + b)_{y_i} + λ/2 ‖W‖²  on some rows, for any ridge λ > 0.

    ``parts``: features and labels, together the rows; every process has all of them, and works on its own share.
    ``check`` is called before every collective. λ is scikit-learn's 1/C.
    """

    def __init__(
        self,
        parts: Sequence[Features],
        scaling: Scaling,
        process: Process,
        check: Callable[[], None],
    ) -> None:
        self._process, self._check = process, check
        self.rows, features = sum(map(len, parts)), parts[0].x.shape[1]
        held = self.rows * min(self.rows, features)
        self._dtype = torch.float64 if held <= _DOUBLE else torch.float32
        check()
        # Found once: the last bits of a decomposition differ between machines.
        found = _principal(parts, scaling, self._dtype) if process.is_main else None
        self.basis_FR, self._moments_R = process.broadcast(found)
        share = slice(process.rank, None, process.world_size)
        self._own = [Features(part.x[share], part.labels[share]) for part in parts]
        self._scaling: Scaling | None = scaling
        if self.rows < features:
            turned = [
                torch.cat([x_nF @ self.basis_FR for x_nF, _ in _scaled([part], scaling, self._dtype)])
                for part in self._own
                if len(part)
            ]
            z_nR = torch.cat([*turned, self.basis_FR.new_empty(0, self.basis_FR.shape[1])])
            self._own, self._scaling = [Features(z_nR, torch.cat([part.labels for part in self._own]))], None

    def fit(self, ridge: float, start: Fitted) -> Fitted:
        """The classifier at a ridge, found from ``start``; the same on all processes.

        L-BFGS in the variables (W along the axes, b), whose curvature is first taken for diagonal: of weight c, r for
        (Σ_i p_ic (1 − p_ic) / N) Σ_i z_ir² + λ, as if a row's uncertainty had nothing to do with its coordinates.
        """
        weight_CR = start.weight.to(self._dtype) @ self.basis_FR
        curvature_C = start.curvature.clamp(min=_LEAST_CURVATURE)
        diagonal_CR = curvature_C[:, None] * self._moments_R / self.rows + ridge
        inverse_V = torch.cat([diagonal_CR.flatten(), curvature_C]).reciprocal().to(self._dtype)
        ridge_V = torch.zeros_like(inverse_V)
        ridge_V[: weight_CR.numel()] = ridge
        memory = deque([_Step.of(*pair, ridge_V) for pair in start.pairs], maxlen=_MEMORY)
        at = self._look(torch.cat([weight_CR.flatten().double(), start.bias]), ridge_V, len(start.bias))
        for _ in range(_MAX_ITERATIONS):
            step_V = -_unbent(at.slope, memory, inverse_V).double()
            promised = -float(step_V @ at.slope)
            # However strong the ridge: a first step, which is what tells classes apart, is taken.
            if memory and promised / 2 <= _TOLERANCE * at.objective:
                break
            found = self._lower(at, step_V, promised, ridge_V, len(start.bias))
            if found is None and not memory:
                break  # rounding
            if found is None:
                memory.clear()
                continue
            step = _Step.of((found.at - at.at).to(self._dtype), (found.own - at.own).to(self._dtype), ridge_V)
            if step.product > 0:
                memory.append(step)
            fell, at = at.objective - found.objective, found
            if fell <= _TOLERANCE * at.objective:
                break
        weight_CR = at.at[: weight_CR.numel()].view_as(weight_CR).to(self._dtype)
        weight_CF = (weight_CR @ self.basis_FR.T).double()
        return Fitted(weight_CF, at.at[weight_CR.numel() :], at.curvature, [step.pair for step in memory])

    def objective(self, ridge: float, fitted: Fitted) -> float:
        """What a fit at this ridge minimises."""
        loss, *_ = self._evaluate(fitted.weight.to(self._dtype) @ self.basis_FR, fitted.bias)
        return loss + ridge / 2 * float(fitted.weight.square().sum())

    def _lower(self, at: "_Place", step_V: Tensor, promised: float, ridge_V: Tensor, classes: int) -> "_Place | None":
        """The whole step or a part of it, by the parabola through what was found; None where no part leads down."""
        length = 1.0
        for _ in range(_MAX_TRIALS):
            found = self._look(at.at + length * step_V, ridge_V, classes)
            rose = found.objective - at.objective
            if rose <= -_KEPT * length * promised:
                return found
            lowest = promised * length**2 / (2 * (rose + promised * length))
            length = min(max(lowest, length / 10), length / 2) if lowest > 0 else length / 10
        return None

    def _look(self, at_V: Tensor, ridge_V: Tensor, classes: int) -> "_Place":
        """The objective at these variables, and what it is made of."""
        weights = len(at_V) - classes
        weight_CR = at_V[:weights].view(classes, -1)
        loss, slope_CR, slope_C, curvature_C = self._evaluate(weight_CR.to(self._dtype), at_V[weights:])
        own_V, pull_V = torch.cat([slope_CR.flatten(), slope_C]), ridge_V * at_V
        return _Place(at_V, loss + float(pull_V @ at_V) / 2, own_V, own_V + pull_V, curvature_C)

    def _evaluate(self, weight_CR: Tensor, bias_C: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
        """The loss over all rows, its slopes by weight and bias, and its curvature by class."""
        dtype, turned = self._dtype, self._scaling is None
        weight_RC, bias_low_C = weight_CR.T if turned else self.basis_FR @ weight_CR.T, bias_C.to(dtype)
        columns, classes = weight_RC.shape
        total = torch.zeros(1 + classes * (columns + 2), dtype=torch.float64, device=weight_RC.device)
        slope_CK = total[: classes * columns].view(classes, columns)
        slope_C, curvature_C = total[classes * columns : -1].view(2, classes)
        for part_mK, labels_m in _scaled(self._own, self._scaling, dtype):
            logs_mC = torch.addmm(bias_low_C, part_mK, weight_RC).log_softmax(dim=1)
            total[-1] -= logs_mC.gather(1, labels_m[:, None]).sum(dtype=torch.float64)
            p_mC = logs_mC.exp_()
            p_C = p_mC.sum(dim=0, dtype=torch.float64)
            curvature_C += p_C - torch.linalg.vector_norm(p_mC, dim=0, dtype=torch.float64).square()
            p_mC[torch.arange(len(labels_m), device=p_mC.device), labels_m] -= 1
            slope_CK += p_mC.T @ part_mK
            slope_C += p_mC.sum(dim=0, dtype=torch.float64)
        self._check()
        self._process.all_reduce_sum(total)
        slope_CR = slope_CK if turned else (slope_CK.to(dtype) @ self.basis_FR).double()
        return float(total[-1]), slope_CR, slope_C, curvature_C


class _Place(NamedTuple):
    """Variables (V,), the objective and its slope there, the loss's own slope and its curvature by class."""

    at: Tensor
    objective: float
    own: Tensor
    slope: Tensor
    curvature: Tensor


class _Step(NamedTuple):
    """A step that L-BFGS remembers, the change of the objective's slope over it, and their product."""

    pair: Pair
    change: Tensor
    product: float

    @classmethod
    def of(cls, step_V: Tensor, own_V: Tensor, ridge_V: Tensor) -> Self:
        change_V = own_V + ridge_V * step_V
        return cls((step_V, own_V), change_V, float(step_V @ change_V))


def _unbent(slope_V: Tensor, memory: Sequence[_Step], inverse_V: Tensor) -> Tensor:
    """The inverse curvature times the slope, by the two loops of L-BFGS (Nocedal & Wright, algorithm 7.4)."""
    found_V, shares = slope_V.to(inverse_V.dtype), []
    for (step_V, _), change_V, product in reversed(memory):
        shares.append(float(step_V @ found_V) / product)
        found_V = found_V - shares[-1] * change_V
    found_V = inverse_V * found_V
    if memory:
        last = memory[-1]
        found_V *= last.product / float(last.change @ (inverse_V * last.change))
    for ((step_V, _), change_V, product), share in zip(memory, reversed(shares), strict=True):
        found_V += (share - float(change_V @ found_V) / product) * step_V
    return found_V


def fits(
    regression: Regression, ridges: Sequence[float], classes: int, last: Sequence[Fitted] = ()
) -> Iterator[Fitted]:
    """A classifier at each of ``ridges``, the same factor apart: each fit begun where the last two lead.

    ``last``: the two, or the one, of an earlier attempt that came before the first of ``ridges``.
    """
    found = [*last]
    for ridge in ridges:
        if not found:
            start = Fitted.nothing(classes, len(regression.basis_FR), regression.rows, regression.basis_FR.device)
        else:
            start = found[-1] if len(found) == 1 else found[-1].beyond(found[0])
        found = [*found[-1:], regression.fit(ridge, start)]
        yield found[-1]


def planned_bytes(rows: int, features: int, classes: int) -> int:
    """The most that fits to so many rows hold beyond the features: as the axes are found, or in the fits themselves."""
    axes = min(rows, features)
    number, variables = 8 if rows * axes <= _DOUBLE else 4, classes * (axes + 1)
    block = min(_ROWS, _NUMBERS // features, rows)
    # The Gram matrix, its eigenvectors and what LAPACK works in; of fewer rows than features all rows, and a factor.
    finding = 8 * 4 * axes**2 + (8 * 3 * rows * features if rows < features else 0)
    turned = rows * axes if rows < features else 0
    fitting = number * (features * axes + turned + (3 * _MEMORY + 3) * variables) + 8 * 10 * variables
    return max(finding, fitting) + 2 * number * block * (features + 2 * classes)


def _rows_of(x_NF: Tensor) -> int:
    """How many of such rows are worked on at once."""
    return max(1, min(_ROWS, _NUMBERS // x_NF.shape[1]))


def _scaled(parts: Sequence[Features], scaling: Scaling | None, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """All rows, a block at a time, scaled unless they are, with their labels."""
    for part in parts:
        rows = _rows_of(part.x)
        for x_nF, labels_n in zip(part.x.split(rows), part.labels.split(rows), strict=True):
            if scaling is None:
                yield x_nF, labels_n
            else:
                yield torch.sub(x_nF.to(dtype), scaling.mean.to(dtype)).div_(scaling.scale), labels_n


def _principal(parts: Sequence[Features], scaling: Scaling, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The rows' principal axes (F, R) and Σ_i z_ir² along each (R,), float64; by the smaller Gram matrix."""
    rows, features = sum(map(len, parts)), parts[0].x.shape[1]
    if rows >= features:
        gram_FF = torch.zeros(features, features, dtype=torch.float64, device=parts[0].x.device)
        for x_nF, _ in _scaled(parts, scaling, dtype):
            gram_FF += x_nF.T @ x_nF
        moments_F, axes_FF = torch.linalg.eigh(gram_FF)
        return axes_FF.to(dtype), moments_F.clamp(min=0.0)
    x_NF = torch.cat([x_nF for x_nF, _ in _scaled(parts, scaling, torch.float64)])
    moments_N, axes_NN = torch.linalg.eigh(x_NF @ x_NF.T)
    kept = moments_N > moments_N[-1] * _RANK_TOLERANCE**2
    basis_FR = x_NF.T @ (axes_NN[:, kept] / moments_N[kept].sqrt())
    return torch.linalg.qr(basis_FR).Q.to(dtype), moments_N[kept]
