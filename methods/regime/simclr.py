"""SimCLR with a fixed kernel: a convex program."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state, check_scalar

from .base import KernelSSL, Solution, extend
from .eigen import fix_signs, largest_eigenvalue
from .features import Features
from .infonce import InfoNCE, Minimum, minimise_convex, minimise_low_rank
from .relations import with_self_pairs


class KernelSimCLR(KernelSSL):
    """InfoNCE over all rows: min Σ_ij w_ij (log Σ_k exp zᵢᵀz_k − zᵢᵀz_j) + λ‖W‖²_F, w = A/ΣA; see ``infonce``.

    There is no closed form. With n_components None the program is convex in H = WᵀW and is solved to a certified
    relative gap ``tol`` in at most ``max_iter`` iterations of FISTA. With n_components it is not convex: L-BFGS over W
    finds local minima to about ``tol``, of which the best of ``n_init`` is kept. ``ridge`` must be positive: without it
    the scale of z grows without end. O(N²) memory and time a step; a row without relations is its own positive.
    ``eigenvalues_``: those of H.
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        base_kernel: Any = "rbf",
        basis: Any = "exact",
        basis_size: int = 500,
        ridge: float = 1e-2,
        extension_ridge: float = 0.0,
        center: bool = False,
        tol: float = 1e-6,
        max_iter: int = 200,
        n_init: int = 4,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            n_components,
            base_kernel=base_kernel,
            basis=basis,
            basis_size=basis_size,
            ridge=ridge,
            extension_ridge=extension_ridge,
            center=center,
            random_state=random_state,
        )
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_scalar(self.ridge, "ridge", Real, min_val=0.0, max_val=1.0, include_boundaries="neither")
        check_scalar(self.tol, "tol", Real, min_val=0.0)
        check_scalar(self.max_iter, "max_iter", Integral, min_val=1)
        check_scalar(self.n_init, "n_init", Integral, min_val=1)

    def _target(self, A_NN: sp.csr_array) -> sp.csr_array:
        return with_self_pairs(A_NN)

    def _solve_basis(self, features: Features, X_ND: np.ndarray, target_NN: sp.csr_array) -> Solution:
        return self._solve_exact(features.transform(X_ND), target_NN)

    def _solve_exact(self, phi_NP: np.ndarray, target_NN: sp.csr_array) -> Solution:
        offset_P = phi_NP.mean(axis=0) if self.center else np.zeros(phi_NP.shape[1])
        loss = InfoNCE.of(phi_NP - offset_P, target_NN)
        critical = largest_eigenvalue(loss.ascent_at_zero())
        if critical <= 10 * np.finfo(float).eps * np.vdot(phi_NP, phi_NP):
            raise self._nothing_to_embed()
        ridge = self.ridge * critical
        found = self._minimise(loss, ridge)
        self.n_iter_ = found.n_iter
        self._check_rank(len(found.W))
        W_dP = fix_signs(found.W.T).T
        if self.extension_ridge > 0:
            W_dP = extend(W_dP, loss.phi.T @ loss.phi, self.extension_ridge)
        return Solution((found.W**2).sum(axis=1), W_dP, offset_P, found.objective, ridge)

    def _minimise(self, loss: InfoNCE, ridge: float) -> Minimum:
        if self.n_components is None:
            return minimise_convex(loss, ridge, self.tol, self.max_iter)
        rng = check_random_state(self.random_state)
        return minimise_low_rank(loss, ridge, self.n_components, self.tol, self.n_init, rng)
