"""Means and 95 % intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit  # scipy.stats says the same and takes a second longer to import

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean over ``n`` values with its interval; without an interval (``nan``) where ``n`` is 1."""

    mean: float
    low: float
    high: float
    n: int


def half_width(sd: np.ndarray | float, n: np.ndarray | int) -> np.ndarray:
    """Half the width of the t-interval, t_{n-1, 0.975} · sd / √n; ``nan`` where n < 2.

    ``sd`` is the sample standard deviation (divisor n - 1), in the unit of the values; both may be arrays.
    """
    n_, sd_ = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(sd, dtype=float))
    width = np.full(n_.shape, np.nan)
    several = n_ >= 2
    quantile = stdtrit(n_[several] - 1, (1 + CONFIDENCE) / 2)
    width[several] = quantile * sd_[several] / np.sqrt(n_[several])
    return width


def mean_interval(values: Iterable[float]) -> Interval:
    """Mean and 95 % t-interval of independent values. Raises ``ValueError`` where there are none."""
    sample = np.asarray(list(values), dtype=float)
    if sample.size == 0:
        raise ValueError("no values to take an interval of")
    mean = float(sample.mean())
    sd = float(sample.std(ddof=1)) if sample.size > 1 else float("nan")
    half = float(half_width(sd, sample.size))
    return Interval(mean, mean - half, mean + half, sample.size)
