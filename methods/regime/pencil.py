"""The one eigenproblem behind the quadratic losses: (M − (λ/2) I) u = μ S u, uᵀSu = 1, the largest μ > 0.

Rows √μ u of W minimise ‖Φ WᵀW Φᵀ − T‖²_F + λ‖W‖²_F where S = ΦᵀΦ, M = ΦᵀTΦ (spectral contrastive; HaoChen et al.
2021). The VICReg variant ‖ZᵀCnZ − I‖² + β tr ZᵀLZ + λ‖W‖² [K] is the same problem with S = ΦᵀCnΦ and T = Cn − (β/2)L:
its ν of (βΦᵀLΦ + λI) u = ν S u is 2(1 − μ).

S may be singular, M indefinite. With σ above every μ the matrix C = σS − M + (λ/2) I is positive definite, and the
reversed pencil S u = κ C u has κ = 1/(σ − μ): the wanted end is the large, well-conditioned one.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas, cholesky, eigh, lapack, solve_triangular

from .eigen import Pairs, break_ties, lanczos_pairs, largest_pairs

SHIFT = 1.1
"""σ over the bound on μ: near enough to spread the top of the spectrum, far enough for C to stay well-conditioned."""


def solve_pencil(S_PP: np.ndarray, M_PP: np.ndarray, ridge: float, bound: float, count: int | None) -> Pairs:
    """Return (μ, U) with U (p, k), k ≤ count, μ decreasing and positive.

    ``ridge`` is λ, ``bound`` any bound on μ; both matrices are overwritten. Without ridge the problem is solved on the
    numerical range of C, where the smallest u is taken, and ties at the cut are broken by norm.
    """
    sigma = SHIFT * bound
    C_PP = _shifted(S_PP, M_PP, sigma, ridge)
    if ridge == 0:
        return break_ties(*_solve_on_range(S_PP, C_PP, sigma), count)
    R_PP = cholesky(C_PP.T, lower=True, overwrite_a=True, check_finite=False)
    pairs = lanczos_pairs(lambda w_P: _apply(S_PP, R_PP, w_P), len(S_PP), _floor(sigma), count)
    kappa, W_Pk = pairs or largest_pairs(_reduced(S_PP, R_PP), _floor(sigma), count)
    U_Pk = solve_triangular(R_PP, W_Pk, lower=True, trans="T", check_finite=False)
    return _unshift(kappa, U_Pk, sigma)


def _shifted(S_PP: np.ndarray, M_PP: np.ndarray, sigma: float, ridge: float) -> np.ndarray:
    """Turn M into C = σS − M + (λ/2) I in its own memory."""
    for row, s_P in zip(M_PP, S_PP, strict=True):
        np.negative(row, out=row)
        row += sigma * s_P
    M_PP.flat[:: len(M_PP) + 1] += ridge / 2
    return M_PP


def _floor(sigma: float) -> float:
    """κ at μ = 0, a little above so that a μ of zero in exact arithmetic is not taken for positive."""
    return (1 + 1e-10) / sigma


def _unshift(kappa: np.ndarray, U_Pk: np.ndarray, sigma: float) -> Pairs:
    """μ = σ − 1/κ; uᵀCu = 1 becomes uᵀSu = 1."""
    return sigma - 1 / kappa, U_Pk / np.sqrt(kappa)


def _reduced(S_PP: np.ndarray, R_PP: np.ndarray) -> np.ndarray:
    """R⁻¹ S R⁻ᵀ, its lower triangle, in S's own memory."""
    return lapack.dsygst(S_PP.T, R_PP, lower=1, overwrite_a=1)[0]


def _apply(S_PP: np.ndarray, R_PP: np.ndarray, w_P: np.ndarray) -> np.ndarray:
    u_P = blas.dtrsv(R_PP, w_P, lower=1, trans=1)
    return blas.dtrsv(R_PP, S_PP @ u_P, lower=1)


def _solve_on_range(S_PP: np.ndarray, C_PP: np.ndarray, sigma: float) -> Pairs:
    """Solve with C = QΛQᵀ restricted to Λ above rounding."""
    values, Q_PP = eigh(C_PP, driver="evd", check_finite=False)
    kept = values > len(values) * np.finfo(float).eps * values[-1]
    root_PR = Q_PP[:, kept] / np.sqrt(values[kept])
    kappa, W_Rk = largest_pairs(root_PR.T @ S_PP @ root_PR, _floor(sigma))
    return _unshift(kappa, root_PR @ W_Rk, sigma)
