"""The logarithm of a zonal function, log φ(t)/φ(1), as a polynomial: for kernels that fall further than sums can tell.

The heat kernel at time 2/D falls by e^2526 from t = 1 to −1 at D = 8192, and what is small of it is the difference of
Legendre terms of the order of φ(1): no floating-point type sums it. Its logarithm is smooth, 29 Chebyshev coefficients
at any D. They are interpolated once a kernel, at points where the series is summed in integers of as many bits as φ
falls by; that takes 0.1 s at D = 1024, half a second at 8192 and some seconds at the limit of bits.
"""

from __future__ import annotations

import decimal
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor

MOST_BITS = 8192  # of the integers: room for a fall by e^5600 from t = 1 to −1
MOST_WEIGHTS = 8192  # not 0 in so many bits
LARGEST_DEGREE = 128  # of the polynomial: enough at any time t/D from t = 1 on
GUARD = 64  # bits that are right of the smallest sum
FIT_PRECISION = 1e-13  # of the polynomial, as a share of its largest coefficient
NODE_BITS = 53


@dataclass(frozen=True)
class Logarithm:
    """log φ(t)/φ(1) = Σ_k a_k T_k(t), T_k the Chebyshev polynomials."""

    chebyshev: tuple[float, ...]  # a_0..a_K, K ≥ 1
    log_range: float  # log φ(1)/b_0

    def value_and_derivative(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Both by Clenshaw's recurrence, B_k = a_k + 2t B_{k+1} − B_{k+2} and its derivative, in new tensors."""
        first, *others = self.chebyshev
        value, value_after, derivative, derivative_after = (t.new_zeros(t.shape) for _ in range(4))
        for factor in reversed(others):
            derivative_after.neg_().addcmul_(t, derivative, value=2).add_(value, alpha=2)
            value_after.neg_().addcmul_(t, value, value=2).add_(factor)
            value, value_after, derivative, derivative_after = value_after, value, derivative_after, derivative
        derivative_after.neg_().addcmul_(t, derivative).add_(value)
        return value_after.neg_().addcmul_(t, value).add_(first), derivative_after


@lru_cache(maxsize=64)
def fit_heat(time: float, dim: int) -> tuple[float, ...] | None:
    """a_0..a_K of log φ(t)/φ(1), φ the heat kernel at this time; None where that is no polynomial of low degree."""
    weights = _integer_weights(time, dim)
    if weights is None:
        return None
    at_one = sum(weights)
    fall = at_one.bit_length() - _at_minus_one(weights).bit_length()
    known: dict[float, float] = {}
    degree = 16
    while degree <= LARGEST_DEGREE:
        nodes = np.cos(np.pi * np.arange(degree + 1) / degree)  # those of the degree before are among them
        for node in nodes.tolist():
            if node not in known:
                spared = int(fall * (1 + node) / 2)  # bits: as log φ is concave, φ(t) lies above its chord
                known[node] = math.log(_sum(weights, spared, node, dim) << spared) - math.log(at_one)
        values = np.array([known[node] for node in nodes.tolist()])
        series = np.linalg.solve(np.polynomial.chebyshev.chebvander(nodes, degree), values)
        small = FIT_PRECISION * np.abs(series).max()
        if np.abs(series[-3:]).max() < small:
            return tuple(series[: max(2, int(np.flatnonzero(np.abs(series) >= small)[-1]) + 1)].tolist())
        degree *= 2
    return None


def _integer_weights(time: float, dim: int) -> list[int] | None:
    """2^B b_l, rounded down, until they are 0; B so that φ(−1) keeps its guard bits. None where these are too many."""
    bits = 128
    while bits <= MOST_BITS:
        weights = _weights_in_bits(time, dim, bits)
        if weights[-1]:
            return None
        noise = len(weights) * sum(weights) >> bits  # a weight is right to l units in 2^B of itself
        if _at_minus_one(weights) >> GUARD > noise:
            return weights
        bits *= 2
    return None


def _weights_in_bits(time: float, dim: int, bits: int) -> list[int]:
    """2^B b_l with b_l = dim(l, D) e^(−τ l (l+D−2)), by the ratio of neighbours."""
    with decimal.localcontext() as context:
        context.prec = int(bits * math.log10(2)) + 10
        tau, one = decimal.Decimal(time), 1 << bits
        step, squeeze = int((-tau * (dim - 1)).exp() * one), int((-2 * tau).exp() * one)  # e^(−τ(2l + D − 1)), l = 0
    weights = [one]
    while weights[-1] and len(weights) < MOST_WEIGHTS:
        degree = len(weights)
        above = (2 * degree + dim - 2) * (degree + dim - 3) if degree > 1 else dim
        below = (2 * degree + dim - 4) * degree if degree > 1 else 1
        weights.append((weights[-1] * step >> bits) * above // below)
        step = step * squeeze >> bits
    return weights


def _at_minus_one(weights: list[int]) -> int:
    return sum(weights[::2]) - sum(weights[1::2])


def _sum(weights: list[int], spared: int, t: float, dim: int) -> int:
    """Σ_l b_l P_l(D; t) in integers of fewer bits, by Clenshaw's recurrence on that of the P_l."""
    t_int, now, after = int(t * 2**NODE_BITS), 0, 0
    for degree in range(len(weights) - 1, 0, -1):
        weight = weights[degree] >> spared
        if weight or now:
            rising = (now * ((2 * degree + dim - 2) * t_int) >> NODE_BITS) // (degree + dim - 2)
            now, after = weight + rising - (degree + 1) * after // (degree + dim - 1), now
    return (weights[0] >> spared) + (now * t_int >> NODE_BITS) - after // (dim - 1)
