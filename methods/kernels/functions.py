"""Zonal functions φ(t), of which rotation-invariant kernels are made: value, derivative and Legendre coefficients.

Every coefficient follows from one formula (Rodrigues; integrate by parts l times):

    b_l = dim(l, D) · 2^(−l) Γ(D/2)/Γ(l + D/2) · E_{D+2l}[φ^(l)(t)]

where E_D averages over t = u·v for u uniform on S^(D−1).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .legendre import legendre_series, log_gamma_ratio, log_harmonic_dimensions, series_to_monomials

HORNER_DEGREE = 6  # above it the monomials of a Legendre series cancel too much in low dimension: use the recurrence
HEAT_DEGREES = 2000  # the longest heat series that is summed
LARGEST_LOG = 700.0  # of a coefficient in double precision


class ZonalFunction:
    """What a kernel asks of φ."""

    def value_and_derivative(self, t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """φ(t) and φ'(t), elementwise, in new tensors."""
        raise NotImplementedError

    def coefficients(self, max_degree: int, dim: int) -> np.ndarray:
        """b_0..b_{max_degree}."""
        raise NotImplementedError

    def at_one(self, dim: int) -> float:
        """φ(1)."""
        raise NotImplementedError

    def monomials(self, dim: int) -> tuple[float, ...] | None:
        """a_0..a_K with φ(t) = Σ a_k t^k, where φ is a polynomial of low degree; None otherwise."""
        return None


@dataclass(frozen=True)
class Series(ZonalFunction):
    """φ(t) = Σ_l b_l P_l(D; t), a finite sum of Legendre polynomials [Z, definition 2]."""

    weights: tuple[float, ...]  # b_0..b_L

    def value_and_derivative(self, t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        powers = self.monomials(dim)
        return legendre_series(self.weights, dim, t) if powers is None else horner(powers, t)

    def coefficients(self, max_degree: int, dim: int) -> np.ndarray:
        kept = self.weights[: max_degree + 1]
        return np.pad(np.array(kept), (0, max_degree + 1 - len(kept)))

    def at_one(self, dim: int) -> float:
        return math.fsum(self.weights)

    def monomials(self, dim: int) -> tuple[float, ...] | None:
        return _monomials(self.weights, dim) if len(self.weights) <= HORNER_DEGREE + 1 else None


@dataclass(frozen=True)
class Polynomial(ZonalFunction):
    """φ(t) = Σ_k a_k t^k."""

    powers: tuple[float, ...]  # a_0..a_K

    def value_and_derivative(self, t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        return horner(self.powers, t)

    def coefficients(self, max_degree: int, dim: int) -> np.ndarray:
        """t^k has b_l = dim(l, D) 2^(−l) Γ(D/2)/Γ(l+D/2) · k!/(k−l)! · E_{D+2l}[t^(k−l)], for l of k's parity."""
        total = np.zeros(max(max_degree + 1, len(self.powers)))
        for power, factor in enumerate(self.powers):
            leading = np.exp(_log_leading(power, dim))
            for degree in range(power % 2, power + 1, 2):
                left = power - degree
                moment = math.prod(
                    (2 * m + 1) / (dim + 2 * degree + 2 * m) for m in range(left // 2)
                )  # E_{D+2l}[t^left]
                total[degree] += factor * (leading[degree] * math.perm(power, degree) * moment)
        return total[: max_degree + 1]

    def at_one(self, dim: int) -> float:
        return math.fsum(self.powers)

    def monomials(self, dim: int) -> tuple[float, ...] | None:
        return self.powers


@dataclass(frozen=True)
class Exponential(ZonalFunction):
    """φ(t) = exp(κ t − shift): exp(t/τ) with κ = 1/τ, shift = 0; RBF exp(−s‖u−v‖²) with κ = shift = 2s."""

    rate: float  # κ
    shift: float = 0.0

    def value_and_derivative(self, t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        value = t.mul(self.rate).sub_(self.shift).exp_()
        return value, value * self.rate

    def coefficients(self, max_degree: int, dim: int) -> np.ndarray:
        """b_l = dim(l, D) · Γ(D/2)/Γ(l+D/2) · (κ/2)^l · ₀F₁(; l+D/2; κ²/4) · e^(−shift), summed in logarithms."""
        degrees = np.arange(max_degree + 1)
        series = np.array([_log_hyp0f1(degree + dim / 2, self.rate**2 / 4) for degree in degrees])
        return np.exp(_log_leading(max_degree, dim) + degrees * math.log(self.rate) + series - self.shift)

    def at_one(self, dim: int) -> float:
        return math.exp(self.rate - self.shift)


@dataclass(frozen=True)
class Distance(ZonalFunction):
    """φ(t) = c − ‖u−v‖^p = c − (2 − 2t)^(p/2), 0 < p < 2: the generalised energy distance."""

    power: float  # p
    ceiling: float  # c

    def value_and_derivative(self, t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """φ' grows without bound as t → 1; it is evaluated no closer to 1 than the type's resolution."""
        square = t.mul(-2).add_(2).clamp_(min=torch.finfo(t.dtype).eps)  # ‖u−v‖²
        derivative = square.pow(self.power / 2 - 1).mul_(self.power)
        return square.pow_(self.power / 2).neg_().add_(self.ceiling), derivative

    def coefficients(self, max_degree: int, dim: int) -> np.ndarray:
        """b_0 = c − E‖u−v‖^p and b_l/b_{l−1} = dim ratio · (l−1−p/2)/(l+D−2+p/2), from the mean of (1−t)^a in D+2l."""
        half = self.power / 2
        total = np.empty(max_degree + 1)
        term = -mean_distance(self.power, dim)
        total[0] = self.ceiling + term
        log_sizes = log_harmonic_dimensions(max_degree, dim)
        for degree in range(1, max_degree + 1):
            term *= (degree - 1 - half) / (degree + dim - 2 + half)
            total[degree] = term * math.exp(log_sizes[degree])
        return total

    def at_one(self, dim: int) -> float:
        return self.ceiling


@dataclass(frozen=True)
class Heat(ZonalFunction):
    """φ(t) = Σ_l e^(−τ l (l+D−2)) dim(l, D) P_l(D; t): the heat kernel of the sphere at time τ, b_0 = 1."""

    time: float  # τ

    def value_and_derivative(self, t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        return legendre_series(_heat_series(self.time, dim), dim, t)

    def log_coefficients(self, max_degree: int, dim: int) -> np.ndarray:
        """log b_l, which does not overflow."""
        degrees = np.arange(max_degree + 1, dtype=float)
        return log_harmonic_dimensions(max_degree, dim) - self.time * degrees * (degrees + dim - 2)

    def coefficients(self, max_degree: int, dim: int) -> np.ndarray:
        return np.exp(self.log_coefficients(max_degree, dim))

    def at_one(self, dim: int) -> float:
        return math.fsum(_heat_series(self.time, dim))


def horner(powers: tuple[float, ...], t: Tensor) -> tuple[Tensor, Tensor]:
    """Σ a_k t^k and its derivative, two fused multiply-adds in place per degree."""
    value, derivative = torch.full_like(t, powers[-1]), torch.zeros_like(t)
    for factor in reversed(powers[:-1]):
        derivative.mul_(t).add_(value)
        value.mul_(t).add_(factor)
    return value, derivative


def mean_distance(power: float, dim: int) -> float:
    """E‖u−v‖^p for independent uniform u, v on S^(D−1):  2^p Γ((D−1+p)/2) Γ(D−1) / (Γ((D−1)/2) Γ(D−1+p/2))."""
    half = power / 2
    log_mean = log_gamma_ratio((dim - 1) / 2, half) - log_gamma_ratio(dim - 1, half)
    return math.exp(power * math.log(2) + log_mean)


@lru_cache(maxsize=64)
def _monomials(weights: tuple[float, ...], dim: int) -> tuple[float, ...]:
    return tuple(series_to_monomials(weights, dim).tolist())


def _log_leading(max_degree: int, dim: int) -> np.ndarray:
    """log(dim(l, D) · 2^(−l) Γ(D/2)/Γ(l+D/2)) for l = 0..max_degree."""
    steps = np.log(dim + 2.0 * np.arange(max_degree))  # 2 (k + D/2)
    return log_harmonic_dimensions(max_degree, dim) - np.concatenate([[0.0], np.cumsum(steps)])


def _log_hyp0f1(order: float, x: float) -> float:
    """log ₀F₁(; ν; x) for ν, x > 0: all terms x^k / (k! (ν)_k) are positive, so the sum in logarithms is sound."""
    peak = (math.sqrt((order - 1) ** 2 + 4 * x) - (order - 1)) / 2  # where the ratio of neighbours passes 1
    k = np.arange(1, int(peak + 12 * math.sqrt(peak + 1)) + 40)
    logs = np.concatenate([[0.0], np.cumsum(np.log(x / (k * (order + k - 1))))])
    return float(np.logaddexp.reduce(logs))


@lru_cache(maxsize=64)
def _heat_series(time: float, dim: int) -> tuple[float, ...]:
    """The heat kernel's weights up to the degree where they stop mattering in double precision."""
    logs = Heat(time).log_coefficients(HEAT_DEGREES, dim)
    kept = np.flatnonzero(logs > np.logaddexp.reduce(logs) + math.log(1e-18))
    if logs.max() > LARGEST_LOG or kept[-1] == HEAT_DEGREES:
        raise ValueError(f"tau = {time!r} is too small for the heat kernel to be summed in dimension {dim}")
    return tuple(np.exp(logs[: kept[-1] + 1]).tolist())
