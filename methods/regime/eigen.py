"""The eigenproblems of the closed forms: the largest pairs, dense or by Lanczos, and the order among equal ones.

Eigenpairs are returned in decreasing order, only those above a floor, and at most ``count`` of them (None: all).
"""

from contextlib import suppress

import numpy as np
import scipy.sparse as sp
from scipy.linalg import blas, cholesky, eigh, eigh_tridiagonal, lapack, solve_triangular
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from .graphs import components
from .lanczos import Pairs, lanczos, tolerance

DENSE_SIZE = 3000  # up to this size a dense eigensolver may take a second matrix, beyond it the time for less memory
TIE = 1e-9  # eigenvalues closer than this, relative to the largest, count as equal
POSITIVE = 1e-10  # eigenvalues of a target below this, relative to its largest, are zeros
SHIFT = 1.1  # σ over the bound on μ: spreads the top of the spectrum, and leaves C well-conditioned


def largest_eigenvalue(M_PP: np.ndarray | LinearOperator) -> float:
    """Return λ_max of a symmetric matrix."""
    size = M_PP.shape[0]
    if size > 200:
        tol = tolerance(M_PP.dtype)
        with suppress(ArpackNoConvergence):
            return float(eigsh(M_PP, k=1, which="LA", v0=start_vector(size), tol=tol, return_eigenvectors=False)[0])
    top = (size - 1, size - 1)
    return float(eigh(_dense(M_PP), eigvals_only=True, subset_by_index=top, check_finite=False)[0])


def symmetric_pairs(H_PP: np.ndarray | LinearOperator, floor: float, count: int | None) -> Pairs:
    """Return the eigenpairs of a symmetric matrix that lie above ``floor`` and above rounding; may overwrite it."""
    size = H_PP.shape[0]
    floor = max(floor, size * float(np.finfo(H_PP.dtype).eps) * largest_eigenvalue(H_PP))
    pairs = lanczos(lambda X_PB: H_PP @ X_PB, size, count, tolerance(H_PP.dtype))
    return cut(*pairs, floor, count) if pairs else largest_pairs(_dense(H_PP).T, floor, count)


def _dense(M_PP: np.ndarray | LinearOperator) -> np.ndarray:
    return M_PP if isinstance(M_PP, np.ndarray) else np.asarray(M_PP @ np.eye(M_PP.shape[0], dtype=M_PP.dtype))


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
    return cut(values, vectors, floor, count)


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


def start_vector(size: int) -> np.ndarray:
    """A fixed start vector: the same data give the same bits."""
    return np.random.default_rng(0).standard_normal(size)


def cut(values: np.ndarray, vectors: np.ndarray, floor: float, count: int | None) -> Pairs:
    """Return the pairs above ``floor``, decreasing, at most ``count`` of them."""
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


def generalised_pairs(S_PP: np.ndarray, M_PP: np.ndarray, ridge: float, bound: float, count: int | None) -> Pairs:
    """Solve (M − (λ/2) I) u = μ S u, uᵀSu = 1: return (μ, U) with U (p, k), k ≤ count, μ decreasing and positive.

    Rows √μ u of W minimise ‖Φ WᵀW Φᵀ − T‖²_F + λ‖W‖²_F where S = ΦᵀΦ, M = ΦᵀTΦ (spectral contrastive; HaoChen et al.
    2021). The VICReg variant ‖ZᵀCnZ − I‖² + β tr ZᵀLZ + λ‖W‖² [K] is the same problem with S = ΦᵀCnΦ and
    T = Cn − (β/2)L: its ν of (βΦᵀLΦ + λI) u = ν S u is 2(1 − μ).

    S may be singular, M indefinite. With σ above every μ the matrix C = σS − M + (λ/2) I is positive definite, and the
    reversed problem S u = κ C u has κ = 1/(σ − μ): the wanted end is the large, well-conditioned one.

    ``ridge`` is λ, ``bound`` any bound on μ; both matrices are overwritten. Without ridge the problem is solved on the
    numerical range of C, where the smallest u is taken, and ties at the cut are broken by norm.
    """
    sigma = SHIFT * bound
    floor = (1 + 1e-10) / sigma  # κ at μ = 0, a little above so that a μ of zero in exact arithmetic is not positive
    C_PP = M_PP
    for row, s_P in zip(C_PP, S_PP, strict=True):
        np.negative(row, out=row)
        row += sigma * s_P
    C_PP.flat[:: len(C_PP) + 1] += ridge / 2
    if ridge == 0:  # on the range of C = QΛQᵀ, where Λ is above rounding
        values, Q_PP = eigh(C_PP, driver="evd", check_finite=False)
        kept = values > len(values) * np.finfo(float).eps * values[-1]
        root_PR = Q_PP[:, kept] / np.sqrt(values[kept])
        kappa, W_Rk = largest_pairs(root_PR.T @ S_PP @ root_PR, floor)
        U_Pk = root_PR @ W_Rk
    else:
        R_PP = cholesky(C_PP.T, lower=True, overwrite_a=True, check_finite=False)

        def apply(W_PB: np.ndarray) -> np.ndarray:
            """R⁻¹ S R⁻ᵀ W."""
            U_PB = blas.dtrsm(1.0, R_PP, W_PB, lower=1, trans_a=1)
            return blas.dtrsm(1.0, R_PP, S_PP @ U_PB, lower=1)

        if pairs := lanczos(apply, len(S_PP), count, tolerance(S_PP.dtype)):
            kappa, W_Pk = cut(*pairs, floor, count)
        else:  # R⁻¹ S R⁻ᵀ, its lower triangle, in S's own memory
            kappa, W_Pk = largest_pairs(lapack.dsygst(S_PP.T, R_PP, lower=1, overwrite_a=1)[0], floor, count)
        U_Pk = solve_triangular(R_PP, W_Pk, lower=True, trans="T", check_finite=False)
    mu_k, U_Pk = sigma - 1 / kappa, U_Pk / np.sqrt(kappa)  # uᵀCu = 1 becomes uᵀSu = 1
    return break_ties(mu_k, U_Pk, count) if ridge == 0 else (mu_k, U_Pk)


def target_eigenpairs(T_NN: sp.csr_array, count: int | None, *, drop_constant: bool) -> Pairs:
    """Return the positive eigenpairs (μ, V) of T, decreasing: the ``count`` largest with all that tie with the last.

    Without ridge and with a kernel matrix of full rank the optimal Gram matrix of the training rows is T₊, whatever the
    kernel [K]: T = I + A (or any target) for the spectral contrastive loss, Cn − (β/2)L for the VICReg variant. So T's
    eigenvectors are taken from T itself, one connected component at a time: on cliques of m views this costs n problems
    of size m, and what remains is one triangular solve.

    ``drop_constant``: T is I − (β/2)L, of which 1 is an eigenvector that Cn removes.
    """
    wanted = None if count is None else count + drop_constant
    parts = components(T_NN)
    pairs = [_block_pairs(T_NN[rows][:, rows], wanted) for rows in parts]
    values = np.concatenate([values for values, _ in pairs])
    places = np.argsort(np.concatenate(parts))
    V_Nk = sp.csc_array(sp.csr_array(sp.block_diag([vectors for _, vectors in pairs]))[places])
    order = np.argsort(values)[::-1]
    order = order[values[order] > POSITIVE * np.abs(values).max()]
    if wanted is not None and wanted < len(order):
        order = order[values[order] >= values[order[wanted - 1]] - TIE * values.max()]
    values, V_Nk = values[order], V_Nk[:, order].toarray()
    if not drop_constant:
        return values, V_Nk
    # Rotate the eigenspace of μ = 1 (the components' indicators) so that one vector is constant, and drop that one.
    tied = np.flatnonzero(np.abs(values - 1.0) <= TIE)
    h_t = V_Nk[:, tied].sum(axis=0)
    h_t /= np.linalg.norm(h_t)
    h_t[0] += np.copysign(1.0, h_t[0])  # Householder: I − 2hhᵀ/hᵀh sends the constant's coordinates to the first axis
    V_Nk[:, tied] -= np.outer(V_Nk[:, tied] @ h_t, h_t * (2 / (h_t @ h_t)))
    keep = np.delete(np.arange(len(values)), tied[0])
    return values[keep], V_Nk[:, keep]


def _block_pairs(block: sp.csr_array, wanted: int | None) -> Pairs:
    size = block.shape[0]
    if wanted is None or size <= DENSE_SIZE or wanted >= size:
        return eigh(block.toarray(), driver="evd", check_finite=False)
    bound = 1.001 * abs(block).sum(axis=1).max()
    return eigsh(sp.csc_array(block), k=wanted, sigma=bound, which="LM", v0=start_vector(size))
