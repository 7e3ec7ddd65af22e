"""Barlow Twins with a fixed kernel, in closed form."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from .eigen import Pairs, largest_eigenvalue, symmetric_pairs
from .moments import Moments, Sums
from .quadratic import QuadraticSSL
from .relations import with_self_pairs


class KernelBarlowTwins(QuadraticSSL):
    """Barlow Twins without its normalisation: min ‖WΓWᵀ − I‖²_F + λ‖W‖²_F, Γ = ΦᵀCnACnΦ/ΣA [K].

    Γ is the cross-covariance of related rows; a row without relations is its own. The rows of W are √((1 − λ/2μ)/μ) u
    for the eigenpairs μ > λ/2 of Γ. ``eigenvalues_``: μ.
    """

    def _target(self, A_NN: sp.csr_array) -> sp.csr_array:
        return with_self_pairs(A_NN)

    @property
    def _centred(self) -> bool:
        return True

    def _critical_ridge(self, moments: Moments) -> float:
        return 2 * largest_eigenvalue(moments.target) / moments.sums.target_total

    def _directions(self, moments: Moments, ridge: float) -> Pairs:
        total = moments.sums.target_total
        mu_d, U_Pd = symmetric_pairs(moments.target, ridge / 2 * total, self.n_components)
        return mu_d / total, U_Pd

    def _row_norms(self, mu_d: np.ndarray, ridge: float) -> np.ndarray:
        return np.sqrt((1 - ridge / (2 * mu_d)) / mu_d)

    def _objective(self, mu_d: np.ndarray, ridge: float, sums: Sums) -> float:
        missing = (self.n_components or len(mu_d)) - len(mu_d)
        return missing + float((ridge / mu_d - (ridge / mu_d) ** 2 / 4).sum())
