"""Choosing the p rows on which a Nyström basis stands: uniform, k-means++ and RPCholesky.

RPCholesky: Chen, Epperly, Tropp, Webber, *Randomly pivoted Cholesky*, 2022 (arXiv 2207.06503).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.cluster import kmeans_plusplus

from .kernels import KernelLike, gram, kernel_diag

CANDIDATES = 20_000  # rows k-means++ and RPCholesky choose among: a uniform sample of this many where there are more


def uniform(kernel: KernelLike, X_ND: np.ndarray, size: int, rng: np.random.RandomState) -> np.ndarray:
    """Return ``size`` row numbers drawn without replacement."""
    return np.sort(rng.permutation(len(X_ND))[:size])


def kmeans_pp(kernel: KernelLike, X_ND: np.ndarray, size: int, rng: np.random.RandomState) -> np.ndarray:
    """Return ``size`` row numbers drawn in proportion to the squared distance to those drawn before, in input space."""
    if kernel == "precomputed":
        raise ValueError("basis='k-means++' needs rows, not a precomputed kernel: use 'uniform' or 'rpcholesky'")
    _, chosen_P = kmeans_plusplus(X_ND, size, random_state=rng)
    return np.unique(chosen_P)


def rpcholesky(kernel: KernelLike, X_ND: np.ndarray, size: int, rng: np.random.RandomState) -> np.ndarray:
    """Return up to ``size`` row numbers, each drawn in proportion to what the earlier ones leave of k(x, x).

    Stops early where nothing is left (the kernel matrix has lower rank). O(N·size²) time, O(N·size) memory.
    """
    left_N = (np.diag(X_ND) if kernel == "precomputed" else kernel_diag(kernel, X_ND)).astype(float)
    enough = left_N.sum() * np.finfo(float).eps * len(left_N)
    factor_PN = np.empty((size, len(left_N)))
    pivots: list[int] = []
    while len(pivots) < size and left_N.sum() > enough:
        pivot = int(rng.choice(len(left_N), p=left_N / left_N.sum()))
        column_N = X_ND[:, pivot] if kernel == "precomputed" else gram(kernel, X_ND[[pivot]], X_ND)[0]
        column_N = column_N - factor_PN[: len(pivots), pivot] @ factor_PN[: len(pivots)]
        factor_PN[len(pivots)] = column_N / np.sqrt(column_N[pivot])
        left_N = np.maximum(left_N - factor_PN[len(pivots)] ** 2, 0.0)
        left_N[pivot] = 0.0
        pivots.append(pivot)
    return np.sort(pivots)


SAMPLERS: dict[str, Callable[[KernelLike, np.ndarray, int, np.random.RandomState], np.ndarray]] = {
    "uniform": uniform,
    "k-means++": kmeans_pp,
    "rpcholesky": rpcholesky,
}


def choose_landmarks(
    name: str, kernel: KernelLike, X_ND: np.ndarray, size: int, rng: np.random.RandomState
) -> np.ndarray:
    """Return the row numbers of at most ``size`` landmarks chosen by the sampler called ``name``."""
    pool = np.arange(len(X_ND))
    if name != "uniform" and len(X_ND) > CANDIDATES:
        pool = np.sort(rng.permutation(len(X_ND))[:CANDIDATES])
    rows_ND = X_ND[np.ix_(pool, pool)] if kernel == "precomputed" else X_ND[pool]
    return pool[SAMPLERS[name](kernel, rows_ND, min(size, len(pool)), rng)]
