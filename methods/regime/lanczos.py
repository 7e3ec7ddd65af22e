"""Block Lanczos: the largest eigenpairs of a symmetric operator that applies to several vectors at once.

Golub and Underwood, *The block Lanczos method for computing eigenvalues* (1977), every block made orthogonal to all
earlier ones and without restarts. ARPACK goes vector by vector and so reads a matrix, or a triangular factor, once a
vector: at some thousand rows this takes half of its time. Eigenvalues of up to ``BLOCK`` equal ones are all found.
"""

from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh, qr

BLOCK = 8
SMALL = 500  # up to this size a dense eigensolver is as fast

Pairs = tuple[np.ndarray, np.ndarray]


def suits_lanczos(size: int, count: int | None) -> bool:
    """Whether Lanczos is faster than a dense solver: for few pairs of a matrix that is not small."""
    return size > SMALL and count is not None and count <= size // 8


def tolerance(dtype: np.dtype) -> float:
    """The residual, relative to the largest eigenvalue, that products in this precision allow."""
    return max(1e-10, 10 * float(np.finfo(dtype).eps))


def lanczos(apply: Callable[[np.ndarray], np.ndarray], size: int, count: int | None, tol: float) -> Pairs | None:
    """Return the ``count`` largest eigenpairs of X ↦ apply(X) on (size, b), decreasing; None where it does not suit.

    That is too where they do not stand out in a Krylov space of eight times as many dimensions and some more.
    """
    if count is None or not suits_lanczos(size, count):
        return None
    most = min(size - BLOCK, 8 * count + 32 * BLOCK)
    rng = np.random.default_rng(0)  # a fixed start: the same data give the same bits
    Q_NM, T_MM = np.empty((size, 5 * count + 8 * BLOCK), order="F"), np.zeros((most, most))
    Q_NM[:, :BLOCK] = qr(rng.standard_normal((size, BLOCK)), mode="economic")[0]
    found, check = BLOCK, 4 * count + 8 * BLOCK
    while True:
        known_NM = Q_NM[:, :found]
        new_NB = apply(known_NM[:, -BLOCK:])
        T_MM[:found, found - BLOCK : found] = _orthogonalise(new_NB, known_NM)
        next_NB, R_BB = qr(new_NB, mode="economic", check_finite=False)
        last = found + BLOCK > most
        if found >= check or last:
            span = (found - count, found - 1)
            values, S_Mk = eigh(T_MM[:found, :found], lower=False, subset_by_index=span, check_finite=False)
            if np.linalg.norm(R_BB @ S_Mk[-BLOCK:], axis=0).max() <= tol * np.abs(values).max():
                return values[::-1], known_NM @ S_Mk[:, ::-1]
            check = found + found // 8
        if last:
            return None
        lost = np.abs(R_BB.diagonal()) <= np.finfo(float).eps * np.abs(T_MM).max() * size
        if lost.any():  # the Krylov space ends here: go on in another
            next_NB[:, lost] = rng.standard_normal((size, lost.sum()))
            _orthogonalise(next_NB, known_NM)
            next_NB = qr(next_NB, mode="economic")[0]
        if found + BLOCK > Q_NM.shape[1]:
            Q_NM = np.concatenate([Q_NM, np.empty((size, most - Q_NM.shape[1]), order="F")], axis=1)
        Q_NM[:, found : found + BLOCK] = next_NB
        found += BLOCK


def _orthogonalise(new_NB: np.ndarray, known_NM: np.ndarray) -> np.ndarray:
    """Take from ``new`` what lies in the span of ``known``, twice, in its own memory; return the coefficients."""
    coefficients_MB = np.zeros((known_NM.shape[1], new_NB.shape[1]))
    for _ in range(2):
        own_MB = known_NM.T @ new_NB
        new_NB -= known_NM @ own_MB
        coefficients_MB += own_MB
    return coefficients_MB
