"""The closed forms' eigenproblem on the N rows instead of the p features: on the exact basis, one matrix beside Φ.

With B = σI − T as in :func:`eigen.generalised_pairs`, C = ΦᵀBΦ + (λ/2) I and K = ΦΦᵀ, Woodbury's identity says

    Φ C⁻¹ Φᵀ = B⁻¹ − (λ/2) B⁻¹ G⁻¹ B⁻¹,   G = K + (λ/2) B⁻¹,

an operator with the eigenvalues κ = 1/(σ − μ) and the eigenvectors v = Φu. Neither ΦᵀΦ nor ΦᵀTΦ is formed, B⁻¹ is as
sparse as the components of T are small, and what is left is one Cholesky factor, of a G that the ridge keeps well
conditioned. Where μ is wanted, κ ≥ 1/σ, and B⁻¹ ≤ SHIFT/(SHIFT − 1)/σ: the difference loses a digit, no more.
"""

import numpy as np
import scipy.sparse as sp
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from .eigen import SHIFT, cut
from .graphs import components
from .lanczos import Pairs, lanczos, tolerance


def dual_pairs(K_NN: np.ndarray, T_NN: sp.csr_array, ridge: float, bound: float, count: int | None) -> Pairs | None:
    """Return (μ, A) with U = ΦᵀA (p, k) what ``generalised_pairs`` returns for S = ΦᵀΦ, M = ΦᵀTΦ and ``ridge`` λ > 0.

    ``K_NN``, of float64 or float32, is overwritten. None where Lanczos does not suit.
    """
    sigma, tol = SHIFT * bound, tolerance(K_NN.dtype)
    inverse_NN = inverse(sp.csr_array(sigma * sp.eye_array(len(K_NN)) - T_NN))
    root_NN = _cholesky_of_sum(K_NN, ridge / 2, inverse_NN)
    (solve,) = get_blas_funcs(("trsm",), (root_NN,))

    def dual(V_NB: np.ndarray) -> np.ndarray:
        """G⁻¹B⁻¹ V."""
        half_NB = solve(1.0, root_NN, np.asfortranarray(inverse_NN @ V_NB), lower=1, overwrite_b=1)
        return solve(1.0, root_NN, half_NB, lower=1, trans_a=1, overwrite_b=1)

    def apply(V_NB: np.ndarray) -> np.ndarray:
        return inverse_NN @ (V_NB - ridge / 2 * dual(V_NB))

    pairs = lanczos(apply, len(K_NN), count, tol)
    if pairs is None:
        return None
    kappa, V_Nk = cut(*pairs, (1 + tol) / sigma, count)
    return sigma - 1 / kappa, dual(V_Nk) / kappa


def centre_both_sides(K_NN: np.ndarray) -> None:
    """Turn K into CnKCn, Cn = I − 11ᵀ/N, in its own memory."""
    mean_N = K_NN.mean(axis=0, dtype=np.float64)
    mean_N -= mean_N.mean() / 2
    for row_N, mean in zip(K_NN, mean_N, strict=True):
        row_N -= mean_N + mean


def inverse(B_NN: sp.csr_array) -> sp.csr_array | np.ndarray:
    """Return B⁻¹ of a positive definite B, one connected component at a time; dense where these are large."""
    parts = components(B_NN)
    sizes = np.array([len(part) for part in parts])
    if 4 * (sizes**2).sum() > B_NN.shape[0] ** 2:
        potrf, potri = get_lapack_funcs(("potrf", "potri"), dtype=np.float64)
        B_NN = potri(potrf(B_NN.toarray().T, lower=1, overwrite_a=1)[0], lower=1, overwrite_c=1)[0]
        for column in range(1, len(B_NN)):
            B_NN[:column, column] = B_NN[column, :column]
        return B_NN
    place_N, part_N = np.empty((2, B_NN.shape[0]), dtype=int)
    entries, found = B_NN.tocoo(), []
    for size in np.unique(sizes):
        rows_Cs = np.stack([parts[part] for part in np.flatnonzero(sizes == size)])
        part_N[:] = -1
        part_N[rows_Cs], place_N[rows_Cs] = np.arange(len(rows_Cs))[:, None], np.arange(size)
        own = part_N[entries.row] >= 0
        row, column = entries.row[own], entries.col[own]
        blocks_Css = np.zeros((len(rows_Cs), size, size))
        blocks_Css[part_N[row], place_N[row], place_N[column]] = entries.data[own]
        shape = blocks_Css.shape
        places = np.broadcast_to(rows_Cs[:, :, None], shape), np.broadcast_to(rows_Cs[:, None, :], shape)
        found.append((np.linalg.inv(blocks_Css).ravel(), *(place.ravel() for place in places)))
    values, rows, columns = (np.concatenate(pieces) for pieces in zip(*found, strict=True))
    return sp.csr_array((values, (rows, columns)), shape=B_NN.shape)


def _cholesky_of_sum(K_NN: np.ndarray, factor: float, other_NN: sp.csr_array | np.ndarray) -> np.ndarray:
    """The lower Cholesky factor of K + factor·other, in K's own memory, its upper triangle left as it was."""
    if isinstance(other_NN, np.ndarray):
        for row_N, other_N in zip(K_NN, other_NN, strict=True):
            row_N += factor * other_N
    else:
        entries = other_NN.tocoo()
        K_NN[entries.row, entries.col] += (factor * entries.data).astype(K_NN.dtype)
    (potrf,) = get_lapack_funcs(("potrf",), (K_NN,))
    root_NN, failed = potrf(K_NN.T, lower=1, overwrite_a=1, clean=0)
    if failed:
        raise ValueError("the base kernel is not positive definite, or ridge is lost in rounding: use a larger one")
    return root_NN
