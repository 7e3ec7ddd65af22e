"""Legendre polynomials of the sphere in any dimension, and the closed forms of the averages they need.

P_l(D; t) is the Legendre polynomial of degree l in dimension D (the Gegenbauer polynomial scaled to P_l(D; 1) = 1):

    P_0 = 1,  P_1 = t,  (l + D − 2) P_{l+1} = (2l + D − 2) t P_l − l P_{l−1}                          [Z, section 3]

[Z] Zheng et al., *Self-supervised learning with rotation-invariant kernels*, ICLR 2023, arXiv 2208.00789.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor


def check_dimension(dim: int) -> int:
    """The dimension D of the ambient space, as an int; the sphere S^(D−1) needs D ≥ 2. Raises ValueError."""
    if int(dim) != dim or dim < 2:
        raise ValueError(f"the embedding dimension must be a whole number of at least 2, not {dim!r}")
    return int(dim)


def harmonic_dimensions(max_degree: int, dim: int) -> np.ndarray:
    """Number of independent spherical harmonics of degree 0..max_degree in dimension D.

    dim(l, D) = (2l + D − 2)/l · binom(l + D − 3, l − 1), by the ratio of neighbours (exact to rounding, no overflow
    before the value itself overflows).
    """
    sizes = np.ones(max_degree + 1)
    for degree in range(1, max_degree + 1):
        sizes[degree] = sizes[degree - 1] * _harmonic_ratio(degree, dim)
    return sizes


def log_harmonic_dimensions(max_degree: int, dim: int) -> np.ndarray:
    """log dim(l, D) for l = 0..max_degree, for degrees whose dimension itself would overflow."""
    ratios = [_harmonic_ratio(degree, dim) for degree in range(1, max_degree + 1)]
    return np.concatenate([[0.0], np.cumsum(np.log(ratios))])


def _harmonic_ratio(degree: int, dim: int) -> float:
    """dim(l, D) / dim(l − 1, D)."""
    if degree == 1:
        return float(dim)
    return (2 * degree + dim - 2) / (2 * degree + dim - 4) * (degree + dim - 3) / degree


def recurrence(degree: int, dim: int) -> tuple[float, float]:
    """(α, β) of P_{l+1} = α t P_l − β P_{l−1} for l = degree ≥ 1."""
    return (2 * degree + dim - 2) / (degree + dim - 2), degree / (degree + dim - 2)


def legendre(degree: int, dim: int, t: Tensor) -> Tensor:
    """P_l(D; t), elementwise, by the recurrence."""
    *_, (value, _) = _polynomials(degree, dim, t)
    return value


def legendre_derivative(degree: int, dim: int, t: Tensor) -> Tensor:
    """d/dt P_l(D; t), elementwise: the derivative of the recurrence."""
    *_, (_, derivative) = _polynomials(degree, dim, t)
    return derivative


def legendre_series(weights: Sequence[float], dim: int, t: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_l b_l P_l(D; t) and its derivative, elementwise; weights are b_0..b_L. Sound at any degree and dimension."""
    value, derivative = torch.zeros_like(t), torch.zeros_like(t)
    for weight, (term, slope) in zip(weights, _polynomials(len(weights) - 1, dim, t), strict=True):
        value.add_(term, alpha=weight)
        derivative.add_(slope, alpha=weight)
    return value, derivative


def _polynomials(max_degree: int, dim: int, t: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(P_l, P_l') for l = 0..max_degree."""
    before, slope_before = torch.ones_like(t), torch.zeros_like(t)
    yield before, slope_before
    if max_degree == 0:
        return
    now, slope_now = t, torch.ones_like(t)
    yield now, slope_now
    for degree in range(1, max_degree):
        alpha, beta = recurrence(degree, dim)
        following = alpha * t * now - beta * before
        slope_following = alpha * (now + t * slope_now) - beta * slope_before
        before, slope_before, now, slope_now = now, slope_now, following, slope_following
        yield now, slope_now


def series_to_monomials(weights: Sequence[float], dim: int) -> np.ndarray:
    """a_0..a_L with Σ_l b_l P_l(D; t) = Σ_k a_k t^k. For low degrees: the a_k alternate in sign and grow with L."""
    size = len(weights)
    before, now = np.zeros(size + 1), np.zeros(size + 1)
    before[0], now[1] = 1.0, 1.0
    total = weights[0] * before
    for degree in range(1, size):
        total = total + weights[degree] * now
        alpha, beta = recurrence(degree, dim)
        before, now = now, alpha * np.concatenate([[0.0], now[:-1]]) - beta * before
    return total[:size]


def log_gamma_ratio(x: float, shift: float) -> float:
    """log Γ(x + shift) − log Γ(x) for x > 0, x + shift > 0, without the cancellation of two large log-gammas.

    Steps up to x ≥ 30 by Γ(x + 1) = x Γ(x), then takes the difference of Stirling's series term by term.
    """
    steps = max(0, math.ceil(30 - min(x, x + shift)))
    low = sum(math.log1p(shift / (x + k)) for k in range(steps))
    x += steps
    main = (x + shift - 0.5) * math.log1p(shift / x) + shift * (math.log(x) - 1)
    return main + _stirling_tail(x + shift) - _stirling_tail(x) - low


def _stirling_tail(x: float) -> float:
    """log Γ(x) − ((x − ½) log x − x + ½ log 2π), to 1e-17 for x ≥ 30."""
    square = x * x
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * square)) / square) / square) / x
