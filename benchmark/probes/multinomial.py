"""Multinomial logistic regression for many ridges: coordinates of the features made once, each fit begun at others'.

In the coordinates of the features' principal axes the loss's curvature is nearly diagonal, and the diagonal is known:
with it L-BFGS needs some ten evaluations where the features' own coordinates need hundreds. Nothing is held but one
rotated copy of the rows, each process's part of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.probes.subject import Features
from benchmark.runtime.process import Process

# Rows that are rotated, or whose scores are held, at once.
_ROWS = 8192
# A fit ends where an evaluation lowers the objective by less than this part of it.
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 200
_MEMORY = 20
# Rows of more numbers are held in float32: half the time and the memory of a fit.
_DOUBLE = 2**24
# Axes along which rows vary less than this, of the largest deviation, are rounding.
_RANK_TOLERANCE = 1e-6
# Of so many rows in one class the curvature is not known: no more than one of them is uncertain.
_LEAST_CURVATURE = 1e-3


@dataclass(frozen=True, eq=False)
class Scaling:
    """x ↦ (x − mean) / scale, by which the mean square of features is 1: a ridge means the same for every network."""

    mean: Tensor  # (F,)
    scale: float

    @classmethod
    def of(cls, x_NF: Tensor) -> Self:
        """Constant features are only centred."""
        mean_F = x_NF.mean(dim=0, dtype=torch.float64)
        squares = sum(float((part_nF.double() - mean_F).square().sum()) for part_nF in x_NF.split(_ROWS))
        return cls(mean_F, (squares / x_NF.numel()) ** 0.5 or 1.0)

    def __call__(self, x_NF: Tensor) -> Tensor:
        """In float64."""
        return (x_NF.double() - self.mean) / self.scale


@dataclass(frozen=True, eq=False)
class Fitted:
    """A classifier of scaled features, float64, and the curvature of its loss: where the next fit may begin."""

    weight: Tensor  # (C, F)
    bias: Tensor  # (C,)
    curvature: Tensor  # (C,): Σ_i p_ic (1 − p_ic) over the rows that it was fitted to

    @classmethod
    def nothing(cls, classes: int, features: int, rows: int, device: torch.device) -> Self:
        """All classes as likely for every row."""
        weight_CF = torch.zeros(classes, features, dtype=torch.float64, device=device)
        bias_C = weight_CF.new_zeros(classes)
        return cls(weight_CF, bias_C, torch.full_like(bias_C, rows * (1 - 1 / classes) / classes))

    def beyond(self, before: Self) -> Self:
        """Where a path of ridges leads next, ridges by the same factor apart: as far again as from ``before``.

        From there a fit of 1,167 x 128 features of digits takes 340 evaluations for 45 ridges, and 1,161 from here.
        """
        return replace(self, weight=2 * self.weight - before.weight, bias=2 * self.bias - before.bias)

    def predict(self, x_NF: Tensor, scaling: Scaling) -> Tensor:
        """The class with the largest score of each row."""
        weight_FC = (self.weight / scaling.scale).T
        bias_C = self.bias - scaling.mean @ weight_FC
        parts = (part_nF.double() @ weight_FC + bias_C for part_nF in x_NF.split(_ROWS))
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
        self.rows = sum(map(len, parts))
        check()
        # Found once: the last bits of a decomposition differ between machines.
        self.basis_FR, self.moments_R = process.broadcast(_principal(parts, scaling) if process.is_main else None)
        dtype = torch.float64 if self.rows * self.basis_FR.shape[1] <= _DOUBLE else torch.float32
        share = slice(process.rank, None, process.world_size)
        own = [Features(part.x[share], part.labels[share]) for part in parts]
        self._labels_n = torch.cat([part.labels for part in own])
        self._z_nR = torch.empty(len(self._labels_n), self.basis_FR.shape[1], dtype=dtype, device=self.basis_FR.device)
        for rows, x_nF in _scaled([part.x for part in own], scaling):
            self._z_nR[rows] = (x_nF @ self.basis_FR).to(dtype)

    def fit(self, ridge: float, start: Fitted) -> Fitted:
        """The classifier at a ridge, found from ``start``; the same on all processes.

        The variables are scaled by the square root of the curvature at ``start``: of weight c, r it is about
        (Σ_i p_ic (1 − p_ic) / N) Σ_i z_ir² + λ, if a row's uncertainty has nothing to do with its coordinates.
        """
        from scipy.optimize import minimize

        curvature_C = start.curvature.clamp(min=_LEAST_CURVATURE)
        unit_CR = (curvature_C[:, None] * self.moments_R / self.rows + ridge).rsqrt()
        unit_C = curvature_C.rsqrt()
        shape, last, at = unit_CR.shape, start, np.empty(0)

        def evaluate(u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            nonlocal last, at
            at = u.copy()
            u_all = torch.from_numpy(u).to(unit_C.device)
            weight_CR, bias_C = u_all[: shape.numel()].view(shape) * unit_CR, u_all[shape.numel() :] * unit_C
            loss, slope_CR, slope_C, curvature_C = self._evaluate(weight_CR, bias_C)
            last = Fitted(weight_CR, bias_C, curvature_C)
            slope_CR += ridge * weight_CR
            slope = torch.cat([(slope_CR * unit_CR).flatten(), slope_C * unit_C])
            return loss + ridge / 2 * float(weight_CR.square().sum()), slope.cpu().numpy()

        weight_CR, bias_C = start.weight @ self.basis_FR, start.bias
        begin = torch.cat([(weight_CR / unit_CR).flatten(), bias_C / unit_C]).cpu().numpy()
        options = {"maxiter": _MAX_ITERATIONS, "maxcor": _MEMORY, "ftol": _TOLERANCE, "gtol": 0.0}
        found = minimize(evaluate, begin, jac=True, method="L-BFGS-B", options=options)
        if not np.array_equal(at, found.x):  # where it ends need not be where it looked last
            evaluate(found.x)
        return Fitted(last.weight @ self.basis_FR.T, last.bias, last.curvature)

    def objective(self, ridge: float, fitted: Fitted) -> float:
        """What a fit at this ridge minimises."""
        loss, *_ = self._evaluate(fitted.weight @ self.basis_FR, fitted.bias)
        return loss + ridge / 2 * float(fitted.weight.square().sum())

    def _evaluate(self, weight_CR: Tensor, bias_C: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
        """The loss over all rows, its slopes by weight and bias, and its curvature by class."""
        z_nR, dtype = self._z_nR, self._z_nR.dtype
        weight_RC, bias_low_C = weight_CR.T.to(dtype), bias_C.to(dtype)
        classes, axes = weight_CR.shape
        total = torch.zeros(1 + classes * (axes + 2), dtype=torch.float64, device=z_nR.device)
        slope_CR = total[: classes * axes].view(classes, axes)
        slope_C, curvature_C = total[classes * axes : -1].view(2, classes)
        for part_mR, labels_m in zip(z_nR.split(_ROWS), self._labels_n.split(_ROWS), strict=True):
            logs_mC = torch.addmm(bias_low_C, part_mR, weight_RC).log_softmax(dim=1)
            total[-1] -= logs_mC.gather(1, labels_m[:, None]).sum(dtype=torch.float64)
            p_mC = logs_mC.exp_()
            curvature_C += (p_mC * (1 - p_mC)).sum(dim=0, dtype=torch.float64)
            p_mC[torch.arange(len(labels_m), device=p_mC.device), labels_m] -= 1
            slope_CR += p_mC.T @ part_mR
            slope_C += p_mC.sum(dim=0, dtype=torch.float64)
        self._check()
        self._process.all_reduce_sum(total)
        return float(total[-1]), slope_CR, slope_C, curvature_C


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


def _scaled(parts: Sequence[Tensor], scaling: Scaling) -> Iterator[tuple[slice, Tensor]]:
    """All rows, scaled, a few at a time, and where they stand."""
    start = 0
    for x_NF in parts:
        for x_nF in x_NF.split(_ROWS):
            yield slice(start, start + len(x_nF)), scaling(x_nF)
            start += len(x_nF)


def _principal(parts: Sequence[Features], scaling: Scaling) -> tuple[Tensor, Tensor]:
    """The principal axes (F, R) that the rows span, and Σ_i z_ir² along each (R,); by the smaller Gram matrix."""
    x = [part.x for part in parts]
    rows, features = sum(map(len, x)), x[0].shape[1]
    if rows >= features:
        gram_FF = torch.zeros(features, features, dtype=torch.float64, device=x[0].device)
        for _, x_nF in _scaled(x, scaling):
            gram_FF.addmm_(x_nF.T, x_nF)
        moments_F, axes_FF = torch.linalg.eigh(gram_FF)
        kept = moments_F > moments_F[-1] * _RANK_TOLERANCE**2
        return axes_FF[:, kept].contiguous(), moments_F[kept]
    x_NF = torch.cat([x_nF for _, x_nF in _scaled(x, scaling)])
    moments_N, axes_NN = torch.linalg.eigh(x_NF @ x_NF.T)
    kept = moments_N > moments_N[-1] * _RANK_TOLERANCE**2
    basis_FR = x_NF.T @ (axes_NN[:, kept] / moments_N[kept].sqrt())
    return torch.linalg.qr(basis_FR).Q, moments_N[kept]
