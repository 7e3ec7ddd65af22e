"""Zonal functions φ(t), of which rotation-invariant kernels are made: value, derivative and Legendre coefficients.

Every coefficient follows from one formula (Rodrigues; integrate by parts l times):

    b_l = dim(l, D) · 2^(−l) Γ(D/2)/Γ(l + D/2) · E_{D+2l}[φ^(l)(t)]

where E_D averages over t = u·v for u uniform on S^(D−1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .legendre import legendre_series, log_gamma_ratio, log_harmonic_dimensions, series_to_monomials
from .logarithm import Logarithm, fit_heat

HORNER_DEGREE = 6  # above it the monomials of a Legendre series cancel too much in low dimension: use the recurrence
HEAT_DEGREES = 2000  # the longest heat series that is summed
LARGEST_LOG = 700.0  # of a coefficient in double precision
INDUCED_DEGREE = 24  # of the induced kernel's power series: a_k is at most 1/k!
INDUCED_PRECISION = 1e-20  # powers below this share of the first are left out


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

    def logarithm(self, dim: int) -> Logarithm | None:
        """log φ(t)/φ(1), where it is known better than by the logarithm of φ(t); None otherwise."""
        return None

    def scaled(self, factor: float) -> tuple[float, ZonalFunction]:
        """(c, φ') with c φ' = factor · φ: c = 1 where the factor costs nothing inside."""
        return factor, self

    def stein(self, dim: int) -> ZonalFunction:
        """Σ_l b_l λ_l/2 P_l(D; t) with λ_l = l (l + D − 2), which is ½((t² − 1) φ'' + (D − 1) t φ').

        Raises ValueError where that is infinite at t = 1.
        """
        raise ValueError(f"{type(self).__name__} has no Stein transform: the sum of b_l l (l + D − 2) is infinite")


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

    def scaled(self, factor: float) -> tuple[float, Series]:
        return 1.0, Series(tuple(factor * weight for weight in self.weights))

    def stein(self, dim: int) -> Series:
        return Series(tuple(weight * degree * (degree + dim - 2) / 2 for degree, weight in enumerate(self.weights)))


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

    def scaled(self, factor: float) -> tuple[float, Polynomial]:
        return 1.0, Polynomial(tuple(factor * power for power in self.powers))

    def stein(self, dim: int) -> Polynomial:
        """t^k becomes ½ k (k + D − 2) t^k − ½ k (k − 1) t^(k−2)."""
        powers = [power * k * (k + dim - 2) / 2 for k, power in enumerate(self.powers)]
        for k in range(2, len(powers)):
            powers[k - 2] -= self.powers[k] * k * (k - 1) / 2
        return Polynomial(tuple(powers))


@dataclass(frozen=True)
class Induced(ZonalFunction):
    """φ(t) = ∫ exp(−(1 − t) a²) ρ_D(a) da = ₁F₁(½; D/2; −(1 − t)), ρ_D the law of a coordinate of the sphere.

    That is the kernel which sliced tests of uniformity (SUSReg, arXiv 2605.26900) estimate from random slices. It is
    evaluated as the series φ(t) = Σ_k a_k t^k with a_k = E[a^(2k) e^(−a²)]/k!, all positive and at most 1/k!.
    """

    def value_and_derivative(self, t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        return horner(self.monomials(dim), t)

    def coefficients(self, max_degree: int, dim: int) -> np.ndarray:
        more = 24  # powers beyond the last degree, which add to its coefficient: less than 1/24! of it
        return Polynomial(_induced_powers(max_degree + more, dim)).coefficients(max_degree, dim)

    def at_one(self, dim: int) -> float:
        return 1.0

    def monomials(self, dim: int) -> tuple[float, ...]:
        powers = _induced_powers(INDUCED_DEGREE, dim)
        return tuple(power for power in powers if power > INDUCED_PRECISION * powers[0])

    def stein(self, dim: int) -> Polynomial:
        return Polynomial(_induced_powers(INDUCED_DEGREE, dim)).stein(dim)


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

    def logarithm(self, dim: int) -> Logarithm:
        """κ (t − 1)."""
        return Logarithm((-self.rate, self.rate), self.rate - _log_hyp0f1(dim / 2, self.rate**2 / 4))

    def scaled(self, factor: float) -> tuple[float, ZonalFunction]:
        return (1.0, Exponential(self.rate, self.shift - math.log(factor))) if factor > 0 else (factor, self)

    def stein(self, dim: int) -> ZonalFunction:
        return ExponentialStein(self)


@dataclass(frozen=True)
class ExponentialStein(ZonalFunction):
    """The Stein transform of φ(t) = exp(κ t − shift): ½ φ(t) (κ² (t² − 1) + (D − 1) κ t)."""

    exponential: Exponential

    def value_and_derivative(self, t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        rate = self.exponential.rate
        half, _ = self.exponential.value_and_derivative(t, dim)
        half.mul_(0.5)
        factor = t.mul(rate).add_(dim - 1).mul_(t).sub_(rate).mul_(rate)
        derivative = t.mul(2 * rate).add_(dim - 1).add_(factor).mul_(rate).mul_(half)
        return half.mul_(factor), derivative

    def coefficients(self, max_degree: int, dim: int) -> np.ndarray:
        degrees = np.arange(max_degree + 1.0)
        return self.exponential.coefficients(max_degree, dim) * degrees * (degrees + dim - 2) / 2

    def at_one(self, dim: int) -> float:
        return (dim - 1) / 2 * self.exponential.rate * self.exponential.at_one(dim)


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

    def stein(self, dim: int) -> Series:
        return Series(_heat_series(self.time, dim)).stein(dim)

    def logarithm(self, dim: int) -> Logarithm | None:
        """Raises ValueError where there is none of a short time: φ itself is rounding but for the nearest points."""
        chebyshev = fit_heat(self.time, dim)
        if chebyshev is None:
            if self.time * dim < 1:
                told = f"tau = {self.time!r} is too small for the logarithm of a heat kernel in dimension {dim}"
                raise ValueError(told)
            return None
        return Logarithm(chebyshev, float(np.logaddexp.reduce(self.log_coefficients(HEAT_DEGREES, dim))))

    def normalised(self, dim: int) -> NormalisedHeat:
        """φ/φ(1), whose coefficients are in range where φ(1) is not: the number of degrees grows as D e^(−τD)."""
        logs = self.log_coefficients(HEAT_DEGREES, dim)
        shares = np.exp(logs - np.logaddexp.reduce(logs))
        return NormalisedHeat(tuple(shares[: _heat_degrees(logs, self.time, dim)].tolist()), self.time)


@dataclass(frozen=True)
class NormalisedHeat(Series):
    """The heat kernel over its value at 1."""

    time: float  # τ

    def logarithm(self, dim: int) -> Logarithm | None:
        return Heat(self.time).logarithm(dim)


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
    if logs.max() > LARGEST_LOG:
        raise _too_small(time, dim)
    return tuple(np.exp(logs[: _heat_degrees(logs, time, dim)]).tolist())


def _heat_degrees(logs: np.ndarray, time: float, dim: int) -> int:
    """How many of these log b_l matter in double precision."""
    kept = np.flatnonzero(logs > np.logaddexp.reduce(logs) + math.log(1e-18))
    if kept[-1] == HEAT_DEGREES:
        raise _too_small(time, dim)
    return int(kept[-1]) + 1


def _too_small(time: float, dim: int) -> ValueError:
    return ValueError(f"tau = {time!r} is too small for the heat kernel to be summed in dimension {dim}")


@lru_cache(maxsize=64)
def _induced_powers(degree: int, dim: int) -> tuple[float, ...]:
    """a_k = E[a^(2k) e^(−a²)]/k! = (½)_k/((D/2)_k k!) · e^(−1) ₁F₁((D − 1)/2; D/2 + k; 1), a sum of positive terms."""
    powers, leading = [], math.exp(-1)
    for k in range(degree + 1):
        terms, term = [1.0], 1.0
        while term > 1e-18:
            m = len(terms) - 1
            term *= ((dim - 1) / 2 + m) / ((dim / 2 + k + m) * (m + 1))
            terms.append(term)
        powers.append(leading * math.fsum(terms))
        leading *= (k + 0.5) / ((dim / 2 + k) * (k + 1))
    return tuple(powers)
