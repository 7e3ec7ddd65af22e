"""The largest eigenpairs of a symmetric operator, dense or by Lanczos, and the order among equal ones.

Eigenpairs are returned in decreasing order, only those above a floor, and at most ``count`` of them (None: all).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from scipy.linalg import eigh, eigh_tridiagonal, lapack
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

DENSE_SIZE = 3000  # up to this size a dense eigensolver takes seconds; beyond it Lanczos is tried first
TIE = 1e-9  # eigenvalues closer than this, relative to the largest, count as equal

Pairs = tuple[np.ndarray, np.ndarray]


def largest_eigenvalue(M_PP: np.ndarray) -> float:
    """Return λ_max of a symmetric matrix."""
    size = len(M_PP)
    if size > 200:
        with suppress(ArpackNoConvergence):
            return float(eigsh(M_PP, k=1, which="LA", v0=start_vector(size), tol=1e-10, return_eigenvectors=False)[0])
    return float(eigh(M_PP, eigvals_only=True, subset_by_index=(size - 1, size - 1), check_finite=False)[0])


def symmetric_pairs(H_PP: np.ndarray, floor: float, count: int | None) -> Pairs:
    """Return the eigenpairs of a symmetric matrix that lie above ``floor`` and above rounding; may overwrite it."""
    floor = max(floor, len(H_PP) * np.finfo(float).eps * largest_eigenvalue(H_PP))
    return lanczos_pairs(lambda v: H_PP @ v, len(H_PP), floor, count) or largest_pairs(H_PP.T, floor, count)


def largest_pairs(H_PP: np.ndarray, floor: float, count: int | None = None) -> Pairs:
    """Return the eigenpairs above ``floor`` of a dense symmetric matrix, of which it reads the lower triangle.

    The matrix is overwritten. Beyond DENSE_SIZE only the vectors that are returned are computed.
    """
    size = len(H_PP)
    if count is not None and 4 * count <= size:
        span = (size - count, size - 1)
        values, vectors = eigh(H_PP, subset_by_index=span, overwrite_a=True, check_finite=False)
    elif size <= DENSE_SIZE:
        values, vectors = eigh(H_PP, driver="evd", overwrite_a=True, check_finite=False)
    else:
        values, vectors = _pairs_above(H_PP, floor)
    return _cut(values, vectors, floor, count)


def _pairs_above(H_PP: np.ndarray, floor: float) -> Pairs:
    """The same by way of H = Q T Qᵀ, T tridiagonal, in H's own memory: LAPACK's driver would take a second matrix."""
    size = len(H_PP)
    H_PP, diagonal, beside, tau, _ = lapack.dsytrd(
        np.asfortranarray(H_PP), lower=1, lwork=int(lapack.dsytrd_lwork(size, lower=1)[0]), overwrite_a=1
    )
    top = np.abs(diagonal).max() + 2 * np.abs(beside).max()
    values, V_Pk = eigh_tridiagonal(diagonal, beside, select="v", select_range=(floor, max(top, floor) + 1.0))
    if len(values):
        # H[1:, :-1] in column order holds the reflectors that make up Q: moved together within H's memory.
        flat = H_PP.ravel(order="K")
        for column in range(size - 1):
            flat[column * (size - 1) : (column + 1) * (size - 1)] = flat[column * size + 1 : (column + 1) * size]
        reflectors = flat[: (size - 1) ** 2].reshape(size - 1, size - 1, order="F")
        work = int(lapack.dormqr("L", "N", reflectors, tau, V_Pk[1:], -1)[1][0])
        V_Pk[1:] = lapack.dormqr("L", "N", reflectors, tau, V_Pk[1:], work)[0]
    return values, V_Pk


def lanczos_pairs(
    apply: Callable[[np.ndarray], np.ndarray], size: int, floor: float, count: int | None
) -> Pairs | None:
    """Return the same of an operator x ↦ apply(x), or None where a dense solver is the better choice.

    That is for a small operator, for a number of pairs that is unknown or not small, and where Lanczos, which wants
    eigenvalues apart, does not converge.
    """
    if size <= DENSE_SIZE or count is None or count > size // 8:
        return None
    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    try:
        values, vectors = eigsh(operator, k=count, which="LA", v0=start_vector(size), maxiter=50)
    except ArpackNoConvergence:
        return None
    return _cut(values, vectors, floor, count)


def start_vector(size: int) -> np.ndarray:
    """A fixed start vector: the same data give the same bits."""
    return np.random.default_rng(0).standard_normal(size)


def _cut(values: np.ndarray, vectors: np.ndarray, floor: float, count: int | None) -> Pairs:
    order = np.argsort(values)[::-1][:count]
    order = order[values[order] > floor]
    return values[order], vectors[:, order]


def break_ties(values: np.ndarray, U_Pk: np.ndarray, count: int | None) -> Pairs:
    """Keep ``count`` directions; among those equal to the last one kept, the ones of smallest RKHS norm.

    Every column u of ``U_Pk`` has uᵀSu = 1, so its function has norm ‖u‖. Within the eigenspace of the cut eigenvalue
    the rotation that minimises the norms is given by the smallest eigenvectors of U_tᵀU_t: for the contrastive loss on
    cliques these are the d smallest eigenvectors of YᵀK⁻¹Y.
    """
    if count is None or count >= len(values):
        return values, U_Pk
    tied = np.abs(values - values[count - 1]) <= TIE * np.abs(values).max()
    above = np.flatnonzero((values > values[count - 1]) & ~tied)
    open_places = count - len(above)
    norms_tt = U_Pk[:, tied].T @ U_Pk[:, tied]
    rotation = eigh(norms_tt, subset_by_index=(0, open_places - 1), check_finite=False)[1]
    kept = np.hstack([U_Pk[:, above], U_Pk[:, tied] @ rotation])
    return np.concatenate([values[above], np.full(open_places, values[count - 1])]), kept


def fix_signs(U_Pk: np.ndarray) -> np.ndarray:
    """Make the largest entry of every column positive, so that a solution is deterministic."""
    signs_k = np.sign(U_Pk[np.abs(U_Pk).argmax(axis=0), np.arange(U_Pk.shape[1])])
    return U_Pk * np.where(signs_k == 0, 1.0, signs_k)
