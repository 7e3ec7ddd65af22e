"""Legendre polynomials of the sphere in any dimension, and the closed forms of the averages they need.

P_l(D; t) is the Legendre polynomial of degree l in dimension D (the Gegenbauer polynomial scaled to P_l(D; 1) = 1):

    P_0 = 1,  P_1 = t,  (l + D − 2) P_{l+1} = (2l + D − 2) t P_l − l P_{l−1}         [Z, section 3; see `kernel`]
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor


def check_dimension(dim: int) -> int:
    """The dimension D of the ambient space, as an int; the sphere S^(D−1) needs D ≥ 2. Raises ValueError."""
    if int(dim) != dim or dim < 2:
        raise ValueError(f"the embedding dimension must be a whole number of at least 2, not {dim!r}")
    return int(dim)


def log_harmonic_dimensions(max_degree: int, dim: int) -> np.ndarray:
    """log dim(l, D) for l = 0..max_degree: how many independent spherical harmonics of degree l there are.

    dim(l, D) = (2l + D − 2)/l · binom(l + D − 3, l − 1), by the ratio of neighbours: exact to rounding, and for degrees
    whose dimension itself would overflow.
    """
    ratios = [float(dim)] if max_degree else []
    for degree in range(2, max_degree + 1):
        ratios.append((2 * degree + dim - 2) / (2 * degree + dim - 4) * (degree + dim - 3) / degree)
    return np.concatenate([[0.0], np.cumsum(np.log(ratios))])


def recurrence(degree: int, dim: int) -> tuple[float, float]:
    """(α, β) of P_{l+1} = α t P_l − β P_{l−1} for l = degree ≥ 1."""
    return (2 * degree + dim - 2) / (degree + dim - 2), degree / (degree + dim - 2)


def legendre_series(weights: Sequence[float], dim: int, t: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_l b_l P_l(D; t) and its derivative, elementwise; weights are b_0..b_L. Sound at any degree and dimension.

    Both by Clenshaw's recurrence, B_l = b_l + α_l t B_{l+1} − β_{l+1} B_{l+2} and its derivative, in place.
    """
    value, value_after, slope, slope_after = (t.new_zeros(t.shape) for _ in range(4))
    for degree in range(len(weights) - 1, -1, -1):
        alpha, beta = recurrence(degree, dim)[0] if degree else 1.0, recurrence(degree + 1, dim)[1]
        slope_after.mul_(-beta).addcmul_(t, slope, value=alpha).add_(value, alpha=alpha)
        value_after.mul_(-beta).addcmul_(t, value, value=alpha).add_(weights[degree])
        value, value_after, slope, slope_after = value_after, value, slope_after, slope
    return value, slope


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
