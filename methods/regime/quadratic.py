"""The losses quadratic in zzᵀ, which need only sufficient statistics of the features: closed forms, and streaming."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial, reduce
from operator import add
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from scipy.linalg import solve_triangular
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from .base import ROWS, KernelSSL, Solution, extend
from .eigen import Pairs, break_ties, fix_signs, generalised_pairs, largest_eigenvalue, target_eigenpairs
from .features import Features
from .graphs import component_chunks
from .kernels import resolve_kernel
from .statistics import Statistics, Sums, add_outer

ILL_CONDITIONED = 1e12  # of the kernel matrix: from here an extension without ridge has few digits left


def _can_stream(estimator: QuadraticSSL) -> bool:
    if estimator._is_exact() or estimator._is_precomputed():
        raise AttributeError(
            f"partial_fit needs a basis that does not grow with the rows: basis={estimator.basis!r} with "
            f"base_kernel={estimator.base_kernel!r} does; use landmarks of a kernel on rows, or basis='fourier'"
        )
    return True


class QuadraticSSL(KernelSSL):
    """Base of the closed forms. A subclass says what its loss makes of the graph and which eigenproblem follows."""

    @available_if(_can_stream)
    def partial_fit(self, X: Any, y: Any = None, groups: Any = None, graph: Any = None) -> Self:
        """Add the rows of ``X`` and the relations among them to all that was fitted before; O(p²) memory whatever N.

        Relations live within a call: all views of an image belong in one batch. The first call chooses landmarks
        and bandwidth from its rows. The eigenproblem is solved when ``transform`` or a fitted attribute first asks
        for it. The parameters are those of ``fit``.
        """
        self._check_parameters()
        first = not hasattr(self, "_features")
        X_ND = validate_data(self, X, dtype=np.float64, reset=first)
        target_NN = self._target(self._graph(len(X_ND), groups, graph))
        if first:
            self.base_kernel_ = resolve_kernel(self.base_kernel, X_ND)
            self._features = self._make_features(X_ND)
            if isinstance(self.basis, str) and self.basis != "fourier" and len(X_ND) < self.basis_size:
                warnings.warn(
                    f"the first batch has {len(X_ND)} rows, so the basis has at most as many landmarks, "
                    f"not basis_size={self.basis_size}",
                    stacklevel=2,
                )
        batch = self._accumulate(self._features, X_ND, target_NN)
        self._statistics: Statistics = batch if first else self._statistics + batch
        self._source, self._solved = self._features.source, None
        return self

    @property
    def _centred(self) -> bool:
        """Whether the loss sees z less its mean over the training rows."""
        return True

    def _critical_ridge(self, statistics: Statistics) -> float:
        """Return the smallest λ at which z = 0 is optimal."""
        return 2 * largest_eigenvalue(statistics.target)

    def _directions(self, statistics: Statistics, ridge: float) -> Pairs:
        """Return (μ, U) of the loss's eigenproblem at ridge λ, μ decreasing; may overwrite the statistics' matrices."""
        bound = self._bound(statistics.sums)
        return generalised_pairs(statistics.gram, statistics.target, ridge, bound, self.n_components)

    def _bound(self, sums: Sums) -> float:
        """Return a bound on the eigenvalues of the target."""
        return sums.norm_bound

    def _row_norms(self, mu_d: np.ndarray, ridge: float) -> np.ndarray:
        """Return the factors by which the directions U become the rows of W."""
        return np.sqrt(mu_d)

    def _objective(self, mu_d: np.ndarray, ridge: float, sums: Sums) -> float:
        """Return the loss with its ridge term at the solution."""
        raise NotImplementedError

    @property
    def _kernel_free(self) -> bool:
        """Whether the in-sample solution without ridge does not depend on a kernel of full rank."""
        return False

    def _accumulate(self, features: Features, X_ND: np.ndarray, target_NN: sp.csr_array) -> Statistics:
        chunks = component_chunks(target_NN, ROWS)
        return reduce(add, (Statistics.of(features.transform(X_ND[rows]), target_NN[rows][:, rows]) for rows in chunks))

    def _solve_basis(self, features: Features, X_ND: np.ndarray, target_NN: sp.csr_array) -> Solution:
        self._features = features
        self._statistics = self._accumulate(features, X_ND, target_NN)
        return self._solve_streamed()

    def _solution(self) -> Solution:
        check_is_fitted(self)
        if self._solved is None:  # rows were added since
            self._keep(self._features, self._solve_streamed())
        return super()._solution()

    def _solve_streamed(self) -> Solution:
        return self._solve(self._statistics.copy(), lambda: self._statistics.gram.copy())

    def _solve_exact(self, phi_NP: np.ndarray, target_NN: sp.csr_array) -> Solution:
        gram = partial(np.matmul, phi_NP.T, phi_NP)
        if self.ridge == 0:
            n_rows, rank = phi_NP.shape
            condition = (phi_NP[0, 0] / phi_NP[rank - 1, rank - 1]) ** 2
            if rank < n_rows or condition > ILL_CONDITIONED:
                warnings.warn(
                    f"the kernel matrix of {n_rows} rows is ill-conditioned (numerical rank {rank}, condition number "
                    f"at least {condition:.0e}): without ridge the embedding of new rows is mostly rounding; use "
                    "ridge > 0",
                    stacklevel=3,
                )
            if self._kernel_free and rank == n_rows:
                sums = Sums.of(phi_NP, target_NN)
                return self._assemble(*self._in_sample_directions(phi_NP, target_NN), 0.0, sums, gram)
        return self._solve(Statistics.of(phi_NP, target_NN), gram)

    def _in_sample_directions(self, phi_NN: np.ndarray, target_NN: sp.csr_array) -> Pairs:
        """Eigenvectors V of the target itself, interpolated: U = Φ⁻¹V by one triangular solve.

        Where z is centred afterwards, a constant added to V is free, and the one of smallest norm is taken.
        """
        mu_k, V_Nk = target_eigenpairs(target_NN, self.n_components, drop_constant=self._centred)
        U_Nk = solve_triangular(phi_NN, V_Nk, lower=True, overwrite_b=True, check_finite=False)
        if self.center:
            constant_N = solve_triangular(phi_NN, np.ones(len(phi_NN)), lower=True, check_finite=False)
            U_Nk -= np.outer(constant_N, constant_N @ U_Nk / (constant_N @ constant_N))
        return break_ties(mu_k, U_Nk, self.n_components)

    def _solve(self, statistics: Statistics, gram: Callable[[], np.ndarray]) -> Solution:
        """Solve from statistics, whose matrices are spent; ``gram`` makes ΦᵀΦ anew where it is needed again."""
        rounding = np.finfo(float).eps * float(np.trace(statistics.gram)) * statistics.sums.norm_bound
        if self._centred:
            statistics.centre()
        critical = self._critical_ridge(statistics)
        if critical <= 10 * rounding:
            raise self._nothing_to_embed()
        ridge = self.ridge * critical
        return self._assemble(*self._directions(statistics, ridge), ridge, statistics.sums, gram)

    def _assemble(
        self, mu_d: np.ndarray, U_Pd: np.ndarray, ridge: float, sums: Sums, gram: Callable[[], np.ndarray]
    ) -> Solution:
        self._check_rank(len(mu_d))
        W_dP = (fix_signs(U_Pd) * self._row_norms(mu_d, ridge)).T
        offset_P = sums.mean if self.center else np.zeros_like(sums.mean)
        if self.extension_ridge > 0:
            S_PP = gram()
            add_outer(S_PP, sums.count * offset_P, -offset_P)
            W_dP = extend(W_dP, S_PP, self.extension_ridge)
        return Solution(mu_d, W_dP, offset_P, self._objective(mu_d, ridge, sums), ridge)
