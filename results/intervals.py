"""95 % intervals of means over seeds."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit  # scipy.stats says the same and takes a second longer to import

CONFIDENCE = 0.95


def half_width(sd: np.ndarray | float, n: np.ndarray | int) -> np.ndarray:
    """Half the width of the t-interval, t_{n-1, 0.975} · sd / √n; ``nan`` where n < 2.

    ``sd`` is the sample standard deviation (divisor n - 1), in the unit of the values; both may be arrays.
    """
    several = np.where(np.asarray(n) < 2, np.nan, n)
    return np.asarray(stdtrit(several - 1, (1 + CONFIDENCE) / 2) * sd / np.sqrt(several))
