"""The generalised eigenproblem behind the quadratic losses: (M − (λ/2) I) u = μ S u, uᵀSu = 1, the largest μ > 0.

Rows √μ u of W minimise ‖Φ WᵀW Φᵀ − T‖²_F + λ‖W‖²_F where S = ΦᵀΦ, M = ΦᵀTΦ (spectral contrastive; HaoChen et al.
2021). The VICReg variant ‖ZᵀCnZ − I‖² + β tr ZᵀLZ + λ‖W‖² [K] is the same problem with S = ΦᵀCnΦ and T = Cn − (β/2)L:
its ν of (βΦᵀLΦ + λI) u = ν S u is 2(1 − μ).

S may be singular, M indefinite. With σ above every μ the matrix C = σS − M + (λ/2) I is positive definite, and the
reversed problem S u = κ C u has κ = 1/(σ − μ): the wanted end is the large, well-conditioned one.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas, cholesky, eigh, lapack, solve_triangular

from .eigen import Pairs, break_ties, lanczos_pairs, largest_pairs

SHIFT = 1.1  # σ over the bound on μ: spreads the top of the spectrum, and leaves C well-conditioned


def generalised_pairs(S_PP: np.ndarray, M_PP: np.ndarray, ridge: float, bound: float, count: int | None) -> Pairs:
    """Return (μ, U) with U (p, k), k ≤ count, μ decreasing and positive.

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

        def apply(w_P: np.ndarray) -> np.ndarray:
            """R⁻¹ S R⁻ᵀ w."""
            u_P = blas.dtrsv(R_PP, w_P, lower=1, trans=1)
            return blas.dtrsv(R_PP, S_PP @ u_P, lower=1)

        pairs = lanczos_pairs(apply, len(S_PP), floor, count)
        if pairs is None:  # R⁻¹ S R⁻ᵀ, its lower triangle, in S's own memory
            pairs = largest_pairs(lapack.dsygst(S_PP.T, R_PP, lower=1, overwrite_a=1)[0], floor, count)
        kappa, W_Pk = pairs
        U_Pk = solve_triangular(R_PP, W_Pk, lower=True, trans="T", check_finite=False)
    mu_k, U_Pk = sigma - 1 / kappa, U_Pk / np.sqrt(kappa)  # uᵀCu = 1 becomes uᵀSu = 1
    return break_ties(mu_k, U_Pk, count) if ridge == 0 else (mu_k, U_Pk)
