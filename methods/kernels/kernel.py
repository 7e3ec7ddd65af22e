"""Rotation-invariant kernels K(u, v) = φ(u·v) on the sphere S^(D−1), as frozen values that add and scale [Z].

    φ(t) = Σ_{l≥0} b_l P_l(D; t),  positive definite if and only if every b_l ≥ 0 (Schoenberg)

so MMD²(Q, uniform) = E_{z,z'~Q} φ(z·z') − b_0.

[Z] Zheng et al., *Self-supervised learning with rotation-invariant kernels*, ICLR 2023, arXiv 2208.00789.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .functions import (
    LARGEST_LOG,
    Distance,
    Exponential,
    Heat,
    Induced,
    Polynomial,
    Series,
    ZonalFunction,
    mean_distance,
)
from .legendre import check_dimension, log_harmonic_dimensions
from .logarithm import Logarithm

LEAST_SPREAD = 1e-9  # of φ(1) − b_0 beside φ(1)
CONSTANT = "this kernel is a constant but for rounding: take a narrower one (heat: a smaller t; rbf: a larger s)"


@dataclass(frozen=True)
class RotationInvariantKernel:
    """K(u, v) = φ(u·v) = Σ_i c_i φ_i(u·v) with c_i ≥ 0, bound to a dimension.

    Make one with `legendre`, `rbf`, `exponential`, `quadratic`, `polynomial`, `distance`, `heat`, `bandlimited`,
    `induced` or `make_kernel`.
    """

    parts: tuple[tuple[float, ZonalFunction], ...]  # (c_i, φ_i)
    dim: int  # D

    def __call__(self, t: Tensor) -> Tensor:
        """φ(t), elementwise, for inner products t in [−1, 1]."""
        return self.value_and_derivative(t)[0]

    def derivative(self, t: Tensor) -> Tensor:
        """φ'(t), elementwise."""
        return self.value_and_derivative(t)[1]

    def value_and_derivative(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """φ(t) and φ'(t) from one evaluation, in new tensors that the caller may overwrite."""
        (factor, function), *others = self.parts
        value, derivative = function.value_and_derivative(t, self.dim)
        if factor != 1:
            value, derivative = value.mul_(factor), derivative.mul_(factor)
        for factor, function in others:
            more_value, more_derivative = function.value_and_derivative(t, self.dim)
            value.add_(more_value, alpha=factor)
            derivative.add_(more_derivative, alpha=factor)
        return value, derivative

    def log_value_and_slope(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """log φ(t)/φ(1) and φ'(t)/φ(t), likewise, of a kernel that is positive everywhere."""
        if self.logarithm is not None:
            return self.logarithm.value_and_derivative(t)
        value, derivative = self.value_and_derivative(t)
        value.clamp_(min=torch.finfo(value.dtype).tiny)  # rounding may leave less, where φ is small
        derivative.div_(value)
        return value.log_().sub_(math.log(self.value_at_one)), derivative

    @cached_property
    def logarithm(self) -> Logarithm | None:
        """log φ(t)/φ(1), where it is known better than by the logarithm of φ(t)."""
        match self.parts:
            case ((_, function),):
                return function.logarithm(self.dim)
        return None

    @property
    def log_range(self) -> float:
        """log φ(1)/b_0, of a kernel that is positive everywhere."""
        if self.logarithm is not None:
            return self.logarithm.log_range
        return math.log(self.value_at_one / self.constant) if self.constant > 0 else math.inf

    def coefficients(self, max_degree: int) -> np.ndarray:
        """b_0..b_{max_degree}, float64."""
        return sum(
            (factor * function.coefficients(max_degree, self.dim) for factor, function in self.parts),
            start=np.zeros(max_degree + 1),
        )

    @property
    def constant(self) -> float:
        """b_0 = E φ(u·v) for independent uniform u, v: what the MMD to the uniform distribution subtracts."""
        return float(self.coefficients(0)[0])

    @property
    def value_at_one(self) -> float:
        """φ(1) = Σ_l b_l = K(u, u)."""
        return math.fsum(factor * function.at_one(self.dim) for factor, function in self.parts)

    @property
    def monomials(self) -> tuple[float, ...] | None:
        """a_0..a_K with φ(t) = Σ a_k t^k where φ is a polynomial of low degree, else None."""
        rows = [(factor, function.monomials(self.dim)) for factor, function in self.parts]
        if any(powers is None for _, powers in rows):
            return None
        total = np.zeros(max(len(powers or ()) for _, powers in rows))
        for factor, powers in rows:
            total[: len(powers or ())] += factor * np.array(powers)
        return tuple(total.tolist())

    def truncate(self, max_degree: int) -> RotationInvariantKernel:
        """The kernel of the same coefficients up to degree L: Σ_{l≤L} b_l P_l."""
        return _single(Series(tuple(self.coefficients(max_degree).tolist())), self.dim)

    def stein(self) -> RotationInvariantKernel:
        """The kernel of coefficients b_l λ_l/2, λ_l = l (l + D − 2) the eigenvalues of −Δ on the sphere.

        Its MMD² to the uniform distribution is the kernel Stein discrepancy of this kernel (arXiv 2606.17603): by the
        Gegenbauer equation E[½((t² − 1) φ''(t) + (D − 1) t φ'(t))] = ½ Σ_l b_l λ_l E P_l(t).
        Raises ValueError where Σ_l b_l λ_l is infinite (`distance`).
        """
        parts = tuple((factor, function.stein(self.dim)) for factor, function in self.parts)
        return RotationInvariantKernel(parts, self.dim)

    def normalised(self) -> RotationInvariantKernel:
        """φ/φ(1). Of a heat kernel also where φ(1) itself overflows."""
        match self.parts:
            case ((_, Heat() as function),):
                return _single(function.normalised(self.dim), self.dim)
        _check(self.value_at_one > 0, CONSTANT)
        return self * (1 / self.value_at_one)

    def unit_mmd(self) -> RotationInvariantKernel:
        """(φ − b_0)/(φ(1) − b_0), whose MMD² to the uniform distribution is 1 for a collapsed batch.

        An MMD sees nothing of b_0, beside which float32 keeps little of a φ that hardly varies: it would lose 0.3 % of
        the induced kernel's at D = 8192. Where φ is no polynomial it is left in. Raises ValueError on a constant φ.
        """
        kernel = self.normalised()
        match kernel.parts:
            case ((_, Series(weights)),):
                kernel = _single(Series((0.0, *weights[1:])), self.dim)
            case _ if kernel.monomials is not None:
                first, *others = kernel.monomials
                kernel = _single(Polynomial((first - kernel.constant, *others)), self.dim)
        spread = kernel.value_at_one - kernel.constant
        _check(spread > LEAST_SPREAD * kernel.value_at_one, CONSTANT)
        return kernel * (1 / spread)

    def __add__(self, other: RotationInvariantKernel) -> RotationInvariantKernel:
        if not isinstance(other, RotationInvariantKernel):
            return NotImplemented
        if other.dim != self.dim:
            raise ValueError(f"kernels of different dimensions do not add: {self.dim} and {other.dim}")
        return RotationInvariantKernel(self.parts + other.parts, self.dim)

    def __mul__(self, factor: float) -> RotationInvariantKernel:
        if not isinstance(factor, (int, float)):
            return NotImplemented
        _check(0 <= factor < math.inf, f"a kernel's factor must be finite and at least 0, not {factor!r}")
        return RotationInvariantKernel(tuple(function.scaled(factor * c) for c, function in self.parts), self.dim)

    __rmul__ = __mul__


def legendre(weights: Sequence[float], dim: int, constant: float = 0.0) -> RotationInvariantKernel:
    """Truncated Legendre kernel φ(t) = b_0 + Σ_{l=1..L} b_l P_l(D; t): SFRIK [Z, section 3.3].

    `weights` are b_1..b_L ≥ 0 (SFRIK: 1, 40, 40); `constant` is b_0. Raises ValueError on none, or on a negative one.
    """
    series = (float(constant), *(float(weight) for weight in weights))
    _check(len(series) > 1, "a truncated Legendre kernel needs at least one weight, b_1")
    nonnegative = all(math.isfinite(b) and b >= 0 for b in series)
    _check(nonnegative, f"the weights of a Legendre kernel must be finite and not negative, not {series}")
    return _single(Series(series), dim)


def rbf(s: float, dim: int) -> RotationInvariantKernel:
    """Gaussian kernel φ(t) = exp(−s‖u−v‖²) = exp(−2s(1−t)), s > 0: uniformity (Wang and Isola 2020) is its log mean."""
    _check_positive("the scale s of an rbf kernel", s)
    return _single(Exponential(2.0 * s, 2.0 * s), dim)


def exponential(tau: float, dim: int) -> RotationInvariantKernel:
    """φ(t) = exp(t/τ), τ > 0: the kernel inside InfoNCE at temperature τ."""
    _check_positive("the temperature tau of an exponential kernel", tau)
    return _single(Exponential(1.0 / tau), dim)


def quadratic(dim: int) -> RotationInvariantKernel:
    """φ(t) = t²: spectral contrastive (HaoChen et al. 2021) and sample-contrastive (Garrido et al. 2023) losses."""
    return _single(Polynomial((0.0, 0.0, 1.0)), dim)


def polynomial(coefficients: Sequence[float], dim: int) -> RotationInvariantKernel:
    """φ(t) = Σ_k a_k t^k; `coefficients` are a_0..a_K. Raises ValueError where the kernel is not positive definite."""
    powers = tuple(float(a) for a in coefficients)
    _check(bool(powers) and all(map(math.isfinite, powers)), "a polynomial kernel needs finite coefficients a_0..a_K")
    kernel = _single(Polynomial(powers), dim)
    weights = kernel.coefficients(len(powers) - 1)
    rounding = 1e-14 * sum(map(abs, powers))
    definite = bool((weights >= -rounding).all())
    _check(definite, f"the polynomial {powers} is not a positive definite kernel: b = {weights.tolist()}")
    return kernel


def distance(p: float, dim: int, ceiling: float | None = None) -> RotationInvariantKernel:
    """φ(t) = c − ‖u−v‖^p, 0 < p < 2: its MMD is the generalised energy distance.

    `ceiling` is c; by default E‖u−v‖^p, the smallest value at which the kernel is positive definite (b_0 = 0).
    """
    _check(0 < p < 2, f"the power p of a distance kernel must lie strictly between 0 and 2, not {p!r}")
    least = mean_distance(p, check_dimension(dim))
    ceiling = least if ceiling is None else float(ceiling)
    _check(ceiling >= least * (1 - 1e-12), f"a distance kernel's ceiling must be at least {least} here, not {ceiling}")
    return _single(Distance(float(p), ceiling), dim)


def heat(tau: float, dim: int) -> RotationInvariantKernel:
    """Heat kernel of the sphere at time τ > 0: b_l = e^(−τ l (l+D−2)) · dim(l, D), b_0 = 1.

    φ(1) = Σ b_l is about exp(D e^(−τD)), so that τ is of the order of log(D)/D: where the sum overflows, evaluating the
    kernel (not its coefficients) raises ValueError.
    """
    _check_positive("the time tau of a heat kernel", tau)
    return _single(Heat(float(tau)), dim)


def bandlimited(degree: int, dim: int) -> RotationInvariantKernel:
    """φ(t) = Σ_{l≤L} dim(l, D) P_l(D; t), every harmonic up to degree L alike; `degree` is L ≥ 1.

    At D = 256 and L = 2 degree 2 carries 99 % of φ(1) − b_0.
    """
    whole = isinstance(degree, int) and not isinstance(degree, bool) and degree >= 1
    _check(whole, f"the degree of a bandlimited kernel must be a whole number of at least 1, not {degree!r}")
    logs = log_harmonic_dimensions(degree, check_dimension(dim))
    _check(logs[-1] < LARGEST_LOG, f"degree {degree} has more harmonics in dimension {dim} than a number can hold")
    return _single(Series(tuple(np.exp(logs).tolist())), dim)


def induced(dim: int) -> RotationInvariantKernel:
    """φ(t) = ₁F₁(½; D/2; −(1 − t)), the kernel induced by slicing; see `functions.Induced`."""
    return _single(Induced(), dim)


Makers = Mapping[str, Callable[..., RotationInvariantKernel]]
MAKERS: Makers = {
    maker.__name__: maker
    for maker in (legendre, rbf, exponential, quadratic, polynomial, distance, heat, bandlimited, induced)
}


def make_kernel(name: str, dim: int, makers: Makers = MAKERS, **params: object) -> RotationInvariantKernel:
    """The kernel of that name. Raises ValueError on an unknown name, or on a wrong, missing or unknown parameter."""
    if name not in makers:
        raise ValueError(f"unknown kernel {name!r}: there is {', '.join(makers)}")
    try:
        inspect.signature(makers[name]).bind(dim=dim, **params)
    except TypeError as error:
        told = ", ".join(kernel_parameters(name, makers)) or "none"
        raise ValueError(f"kernel {name!r}: {error}; its parameters are {told}") from None
    return makers[name](dim=dim, **params)


def kernel_parameters(name: str, makers: Makers = MAKERS) -> tuple[str, ...]:
    """Names of the parameters a maker takes beside the dimension."""
    return tuple(key for key in inspect.signature(makers[name]).parameters if key != "dim")


def _single(function: ZonalFunction, dim: int) -> RotationInvariantKernel:
    return RotationInvariantKernel(((1.0, function),), check_dimension(dim))


def _check_positive(what: str, value: float) -> None:
    _check(value > 0 and math.isfinite(value), f"{what} must be positive and finite, not {value!r}")


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
