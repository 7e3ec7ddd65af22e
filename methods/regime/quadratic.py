"""The losses quadratic in zzᵀ, which need only sufficient statistics of the features: closed forms, and streaming.

For Φ (N x p) and a sparse symmetric B (N x N) these are N, Φᵀ1, ΦᵀB1, 1ᵀB1, ‖B‖²_F, ‖B‖_∞ and the matrices ΦᵀΦ and
ΦᵀBΦ. Rows of different batches are unrelated, so B is block-diagonal over batches and the statistics of the whole are
sums: one pass, O(N p²) time and O(p²) memory whatever N. On cliques of m views ΦᵀBΦ comes from the sums of an image's
features, ΦᵀLΦ = mS − Σ sᵢsᵢᵀ; a sparse B does the same in O(nnz·p).
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from numbers import Real
from operator import add
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from scipy.linalg import get_blas_funcs, solve_triangular
from scipy.sparse.linalg import LinearOperator
from sklearn.utils import check_scalar, gen_batches
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .base import ROWS, KernelSSL, Solution, extend
from .dual import centre_both_sides, dual_pairs
from .eigen import break_ties, fix_signs, generalised_pairs, largest_eigenvalue, symmetric_pairs, target_eigenpairs
from .features import Features, exact_features, kernel_matrix
from .flow import integrate, logistic
from .graphs import (
    adjacency,
    check_symmetric_graph,
    component_chunks,
    degrees,
    laplacian,
    normalised_adjacency,
    smallest_clique,
)
from .kernels import resolve_kernel
from .lanczos import Pairs, suits_lanczos

PANEL = 512
SINGLE_RIDGE = 1e-4  # the least ridge that features in float32 leave above their rounding
ILL_CONDITIONED = 1e12  # of the kernel matrix: from here an extension without ridge has few digits left


@dataclass(frozen=True)
class Sums:
    """The small statistics; ``norm_bound`` = max row sum of |B| ≥ the largest eigenvalue of B."""

    count: int
    feature_sum: np.ndarray
    target_sum: np.ndarray
    target_total: float
    target_square: float
    norm_bound: float

    @classmethod
    def of(cls, phi_NP: np.ndarray, B_NN: sp.csr_array) -> Self:
        """Return those of one batch."""
        row_sums_N = degrees(B_NN)
        return cls(
            count=len(phi_NP),
            feature_sum=phi_NP.sum(axis=0, dtype=np.float64),
            target_sum=(phi_NP.T @ row_sums_N.astype(phi_NP.dtype)).astype(np.float64, copy=False),
            target_total=float(row_sums_N.sum()),
            target_square=float((B_NN.data**2).sum()),
            norm_bound=float(degrees(abs(B_NN)).max(initial=0.0)),
        )

    def __add__(self, other: Self) -> Self:
        total = {name: value + vars(other)[name] for name, value in vars(self).items()}
        return type(self)(**total | {"norm_bound": max(self.norm_bound, other.norm_bound)})

    @property
    def mean(self) -> np.ndarray:
        """φ̄, the mean feature."""
        return self.feature_sum / self.count


@dataclass(frozen=True)
class Statistics(Sums):
    """All of them, float64: with ΦᵀΦ and ΦᵀBΦ."""

    gram: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, phi_NP: np.ndarray, B_NN: sp.csr_array) -> Self:
        sums = vars(Sums.of(phi_NP, B_NN))
        gram_PP = (phi_NP.T @ phi_NP).astype(np.float64, copy=False)
        return cls(**sums, gram=gram_PP, target=quadratic_form(phi_NP, B_NN))

    def centre(self) -> None:
        """Turn ΦᵀΦ into ΦᵀCnΦ and ΦᵀBΦ into ΦᵀCnBCnΦ, Cn = I − 11ᵀ/N, in their own memory."""
        mean_P = self.mean
        add_outer(self.gram, self.feature_sum, -mean_P)
        add_outer(self.target, mean_P, self.target_total * mean_P - self.target_sum)
        add_outer(self.target, self.target_sum, -mean_P)


def add_outer(A_PP: np.ndarray, a_P: np.ndarray, b_P: np.ndarray) -> None:
    """A += abᵀ in A's own memory."""
    for panel in gen_batches(len(A_PP), PANEL):
        A_PP[panel] += np.outer(a_P[panel], b_P)


def quadratic_form(phi_NP: np.ndarray, B_NN: sp.csr_array) -> np.ndarray:
    """Return ΦᵀBΦ, by panels of columns: O(N·panel) extra memory, and half the arithmetic for B = Bᵀ."""
    size, B_NN = phi_NP.shape[1], B_NN.astype(phi_NP.dtype)
    M_PP = np.empty((size, size))
    for panel in gen_batches(size, PANEL):
        M_PP[: panel.stop, panel] = phi_NP[:, : panel.stop].T @ (B_NN @ phi_NP[:, panel])
        M_PP[panel, : panel.stop] = M_PP[: panel.stop, panel].T
    return M_PP


def quadratic_operator(phi_NP: np.ndarray, B_NN: sp.csr_array, *, centred: bool) -> LinearOperator:
    """Return u ↦ ΦᵀBΦu, or ΦᵀCnBCnΦu, for vectors and blocks: the matrix is not formed. Φ is lower trapezoidal."""
    size, (trmv, trmm) = phi_NP.shape[1], get_blas_funcs(("trmv", "trmm"), (phi_NP,))

    def multiply(x: np.ndarray, trans: int) -> np.ndarray:
        """Φx or Φᵀx, of a square Φ without reading its zeros."""
        if len(phi_NP) > size:
            return (phi_NP.T if trans else phi_NP) @ x.astype(phi_NP.dtype, copy=False)
        if x.ndim == 1:
            return trmv(phi_NP, x, lower=1, trans=trans)
        return trmm(1.0, phi_NP, x, lower=1, trans_a=trans)

    def apply(u_P: np.ndarray) -> np.ndarray:
        v_N = multiply(u_P, trans=0)
        v_N = B_NN @ (v_N - v_N.mean(axis=0) if centred else v_N)
        return multiply(v_N - v_N.mean(axis=0) if centred else v_N, trans=1)

    return LinearOperator((size, size), matvec=apply, matmat=apply, dtype=phi_NP.dtype)


@dataclass(frozen=True, eq=False)
class Products(Sums):
    """Of the exact basis: ΦᵀBΦ as an operator, centred where z is; and Φ, its rows in ``order`` of those of B."""

    target: LinearOperator
    phi: np.ndarray
    order: np.ndarray
    relation: sp.csr_array
    centred: bool

    @classmethod
    def by(cls, phi_NP: np.ndarray, order_N: np.ndarray, B_NN: sp.csr_array, centred: bool) -> Self:
        ordered_NN = B_NN[order_N][:, order_N]
        sums = vars(Sums.of(phi_NP, ordered_NN))
        operator = quadratic_operator(phi_NP, ordered_NN, centred=centred)
        return cls(**sums, target=operator, phi=phi_NP, order=order_N, relation=B_NN, centred=centred)

    def dual_pairs(self, K_NN: np.ndarray, ridge: float, bound: float, count: int | None) -> Pairs | None:
        """Return what ``generalised_pairs`` does, or None: see :mod:`methods.regime.dual`. ``K_NN`` is overwritten."""
        if self.centred:
            centre_both_sides(K_NN)
        found = dual_pairs(K_NN, self.relation, ridge, bound, count)
        if found is None:
            return None
        mu_k, A_Nk = found
        A_Nk = A_Nk - A_Nk.mean(axis=0) if self.centred else A_Nk
        return mu_k, (self.phi.T @ A_Nk[self.order].astype(self.phi.dtype)).astype(float, copy=False)


def _can_stream(estimator: QuadraticSSL) -> bool:
    if estimator._is_exact() or estimator._is_precomputed():
        raise AttributeError(
            f"partial_fit needs a basis that does not grow with the rows: basis={estimator.basis!r} with "
            f"base_kernel={estimator.base_kernel!r} does; use landmarks of a kernel on rows, or basis='fourier'"
        )
    return True


@dataclass(eq=False, repr=False, kw_only=True)
class QuadraticSSL(KernelSSL):
    """Base of the closed forms. A subclass says what its loss makes of the graph and which eigenproblem follows."""

    time: float | None = None
    init_scale: float = 1e-3
    dtype: str = "float64"

    # Whether the loss sees the mean of z over the training rows, and whether its in-sample solution without ridge is
    # that of ``target_eigenpairs``, the same for every kernel of full rank.
    _sees_mean: ClassVar[bool] = False
    _kernel_free: ClassVar[bool] = True
    _target_bound: ClassVar[float | None] = None  # on the target's eigenvalues, where one is known before the data

    @available_if(_can_stream)
    def partial_fit(self, X: Any, y: Any = None, groups: Any = None, graph: Any = None) -> Self:
        """Add the rows of ``X`` and the relations among them to all that was fitted before; O(p²) memory whatever N.

        Relations live within a call: all views of an image belong in one batch. The first call chooses landmarks
        and bandwidth from its rows. The eigenproblem is solved when ``transform`` or a fitted attribute first asks
        for it. The parameters are those of ``fit``.
        """
        first = not hasattr(self, "_features")
        X_ND, target_NN = self._checked(X, groups, graph, reset=first)
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
        return self.center or not self._sees_mean

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(self.dtype)

    def _critical_ridge(self, statistics: Statistics | Products) -> float:
        """Return the smallest λ at which z = 0 is optimal."""
        return 2 * largest_eigenvalue(statistics.target)

    def _checked_critical(self, statistics: Statistics | Products, trace: float) -> float:
        """The same, of features with this trace of ΦᵀΦ. Raises ValueError where it is rounding."""
        critical = self._critical_ridge(statistics)
        if critical <= 10 * np.finfo(float).eps * trace * statistics.norm_bound:
            self._check_rank(0)
        return critical

    def _directions(self, statistics: Statistics, ridge: float) -> Pairs:
        """Return (μ, U) of the loss's eigenproblem at ridge λ, μ decreasing; may overwrite the statistics' matrices."""
        return generalised_pairs(statistics.gram, statistics.target, ridge, self._bound(statistics), self.n_components)

    def _directions_by_products(self, products: Products, K_NN: np.ndarray | None, ridge: float) -> Pairs | None:
        """Return the same of the exact basis, or None where Lanczos does not converge; overwrites K."""
        assert K_NN is not None
        return products.dual_pairs(K_NN, ridge, self._bound(products), self.n_components)

    def _bound(self, sums: Sums) -> float:
        return self._target_bound or sums.norm_bound

    def _row_norms(self, mu_d: np.ndarray, ridge: float) -> np.ndarray:
        """Return the factors by which the directions U become the rows of W."""
        return np.sqrt(mu_d)

    def _objective(self, mu_d: np.ndarray, ridge: float, sums: Sums) -> float:
        """Return the loss with its ridge term at the minimum."""
        return self._constant(len(mu_d), sums) - float(mu_d @ mu_d)

    def _constant(self, rank: int, sums: Sums) -> float:
        """Return the loss at z = 0, of ``rank`` directions where the loss asks for no number of them."""
        return float(self.n_components or rank)

    def _flow_matrices(self, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
        """Return (S, M) of :mod:`methods.regime.flow`; the same array twice where they are equal."""
        return statistics.gram, statistics.target

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.time is not None:
            check_scalar(self.time, "time", Real, min_val=0.0, include_boundaries="neither")
        check_scalar(self.init_scale, "init_scale", Real, min_val=0.0, max_val=1.0, include_boundaries="neither")
        if self.dtype not in ("float64", "float32"):
            raise ValueError(f"dtype={self.dtype!r} is unknown: give float64 or float32, of the features")
        if self.dtype == "float32" and self.ridge < SINGLE_RIDGE:
            raise ValueError(f"ridge == {self.ridge:g}, must be at least {SINGLE_RIDGE:g} with dtype='float32'")

    def _accumulate(self, features: Features, X_ND: np.ndarray, target_NN: sp.csr_array) -> Statistics:
        chunks = component_chunks(target_NN, ROWS)
        return reduce(add, (Statistics.of(features.transform(X_ND[rows]), target_NN[rows][:, rows]) for rows in chunks))

    def _solve_basis(self, features: Features, X_ND: np.ndarray, target_NN: sp.csr_array) -> Solution:
        self._features = features
        self._statistics = self._accumulate(features, X_ND, target_NN)
        return self._solve(deepcopy(self._statistics))

    def _solution(self) -> Solution:
        check_is_fitted(self)
        if self._solved is None:  # rows were added since
            self._keep(self._features, self._solve(deepcopy(self._statistics)))
        return super()._solution()

    def _solve_exact(self, X_ND: np.ndarray, target_NN: sp.csr_array) -> tuple[Features, Solution]:
        """By products with Φ and K where Lanczos suits; else, or where it does not converge, by p x p matrices."""
        if self.ridge == 0 or self.time is not None or not suits_lanczos(len(X_ND), self.n_components):
            return super()._solve_exact(X_ND, target_NN)
        K_NN = kernel_matrix(self.base_kernel_, X_ND, self._dtype)
        kept_NN = K_NN.copy() if self._kernel_free else None  # Φ overwrites the other
        features, phi_NP, order_N = exact_features(self.base_kernel_, X_ND, K_NN)
        products = Products.by(phi_NP, order_N, target_NN, self._centred)
        trace = float(np.einsum("np,np->", phi_NP, phi_NP, dtype=np.float64))
        ridge = self.ridge * self._checked_critical(products, trace)
        pairs = self._directions_by_products(products, kept_NN, ridge)
        if pairs is None:
            return features, self._solve_features(phi_NP, target_NN[order_N][:, order_N])
        gram_PP = (phi_NP.T @ phi_NP).astype(float, copy=False) if self.extension_ridge > 0 else None
        return features, self._minimum(*pairs, ridge, products, gram_PP)

    def _solve_features(self, phi_NP: np.ndarray, target_NN: sp.csr_array) -> Solution:
        if self.ridge == 0 and self.time is None:
            n_rows, rank = phi_NP.shape
            condition = (phi_NP[0, 0] / phi_NP[rank - 1, rank - 1]) ** 2
            if rank < n_rows or condition > ILL_CONDITIONED:
                warnings.warn(
                    f"the kernel matrix of {n_rows} rows is ill-conditioned (numerical rank {rank}, condition number "
                    f"at least {condition:.0e}): without ridge the embedding of new rows is mostly rounding; use "
                    "ridge > 0",
                    stacklevel=3,
                )
            if self._kernel_free and not (self._sees_mean and self.center) and rank == n_rows:
                gram_PP = phi_NP.T @ phi_NP if self.extension_ridge > 0 else None
                directions = self._in_sample_directions(phi_NP, target_NN)
                return self._minimum(*directions, 0.0, Sums.of(phi_NP, target_NN), gram_PP)
        return self._solve(Statistics.of(phi_NP, target_NN))

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

    def _solve(self, statistics: Statistics) -> Solution:
        """Solve from statistics, whose matrices are spent."""
        gram_PP = statistics.gram.copy() if self.extension_ridge > 0 else None
        trace = float(np.trace(statistics.gram))
        if self._centred:
            statistics.centre()
        critical = self._checked_critical(statistics, trace)
        ridge = self.ridge * critical
        if self.time is not None:
            return self._stopped(statistics, ridge, critical, gram_PP)
        return self._minimum(*self._directions(statistics, ridge), ridge, statistics, gram_PP)

    def _minimum(
        self, mu_d: np.ndarray, U_Pd: np.ndarray, ridge: float, sums: Sums, gram_PP: np.ndarray | None
    ) -> Solution:
        W_dP = (fix_signs(U_Pd) * self._row_norms(mu_d, ridge)).T
        return self._assemble(mu_d, W_dP, self._objective(mu_d, ridge, sums), ridge, sums, gram_PP)

    def _stopped(self, statistics: Statistics, ridge: float, critical: float, gram_PP: np.ndarray | None) -> Solution:
        """The gradient flow at ``time``, from W(0) = s₀Uᵀ, U the leading eigenvectors of M among those that grow.

        With m and u the first of them s₀² is ``init_scale`` of its limit m/(uᵀSu)², which it would pass half of at
        t₁ = −ln(init_scale)/(8m): the unit of ``time``.
        """
        assert self.time is not None
        S_PP, M_PP = self._flow_matrices(statistics)
        m_d, U_Pd = symmetric_pairs(M_PP.copy(), ridge / 2, self.n_components)
        self._check_rank(len(m_d))
        U_Pd = fix_signs(U_Pd)
        start = self.init_scale * m_d[0] / (U_Pd[:, 0] @ S_PP @ U_Pd[:, 0]) ** 2
        t = self.time * -np.log(self.init_scale) / (4 * critical)
        if S_PP is M_PP:
            mu_d, W_dP = m_d, (U_Pd * np.sqrt(logistic(m_d, start, ridge, t))).T
        else:
            W_dP = integrate(S_PP, M_PP, np.sqrt(start) * U_Pd.T, ridge, t)
            mu_d, R_dd = symmetric_pairs(W_dP @ S_PP @ W_dP.T, 0.0, None)
            W_dP = fix_signs(W_dP.T @ R_dd).T  # the turn in which the Gram matrix of the columns of z is diagonal
        gram_dd, pull = W_dP @ S_PP @ W_dP.T, np.vdot(W_dP, W_dP @ M_PP)
        loss = self._constant(len(mu_d), statistics) + (gram_dd**2).sum() - 2 * pull + ridge * np.vdot(W_dP, W_dP)
        return self._assemble(mu_d, W_dP, float(loss), ridge, statistics, gram_PP)

    def _assemble(
        self, mu_d: np.ndarray, W_dP: np.ndarray, loss: float, ridge: float, sums: Sums, gram_PP: np.ndarray | None
    ) -> Solution:
        self._check_rank(len(mu_d))
        offset_P = sums.mean if self.center else np.zeros_like(sums.mean)
        if gram_PP is not None:
            add_outer(gram_PP, sums.count * offset_P, -offset_P)
            W_dP = extend(W_dP, gram_PP, self.extension_ridge)
        return Solution(mu_d, W_dP, offset_P, loss, ridge)


@dataclass(eq=False, repr=False, kw_only=True)
class KernelSpectral(QuadraticSSL):
    """Spectral contrastive loss (HaoChen et al., NeurIPS 2021; [K]): min ‖ZZᵀ − T‖²_F + λ‖W‖²_F.

    ``target``: T = I + A ("adjacency"), D^−½(I + A)D^−½ with D the degrees of I + A ("normalised"), or the graph given
    to ``fit`` itself ("graph": symmetric, of any sign, with any diagonal).
    Without ridge and on the exact basis the induced kernel is k*(x, x') = k_x K⁻¹ T₊ K⁻¹ k_x'ᵀ, and on cliques
    z(x) = k_x K⁻¹ Y with Y the image identity. ``eigenvalues_``: μ, the eigenvalues of the in-sample ZZᵀ.
    """

    target: str = "adjacency"
    _sees_mean = True

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.target not in ("adjacency", "normalised", "graph"):
            raise ValueError(f"target={self.target!r} is unknown: give adjacency, normalised or graph")

    def _target(self, n_rows: int, groups: Any, graph: Any) -> sp.csr_array:
        if self.target == "graph":
            if graph is None or groups is not None:
                raise ValueError("target='graph' takes the target matrix from fit's graph, and no groups")
            return check_symmetric_graph(graph, n_rows)
        T_NN = sp.csr_array(sp.eye_array(n_rows) + adjacency(n_rows, groups, graph))
        return T_NN if self.target == "adjacency" else normalised_adjacency(T_NN)

    def _constant(self, rank: int, sums: Sums) -> float:
        return sums.target_square


@dataclass(eq=False, repr=False, kw_only=True)
class KernelVICReg(QuadraticSSL):
    """The VICReg variant of [K]: min ‖ZᵀCnZ − I‖²_F + β tr ZᵀLZ + λ‖W‖²_F, Cn = I − 11ᵀ/N, L = D_A − A.

    Without ridge and on the exact basis the induced kernel is k*(x, x') = k_x K⁻¹ (Cn − (β/2)L)₊ K⁻¹ k_x'ᵀ. On cliques
    of m views and β ≥ 2/m that is the contrastive kernel divided by m, centred: a warning says so. The loss does not
    see a constant added to z: this z is centred on the training rows, while among all with the same loss the one of
    smallest norm, found with ``center`` and in the limit of a small ridge, is not before its mean is taken off.
    ``eigenvalues_``: μ = 1 − ν/2, those of the in-sample CnZZᵀCn.
    """

    beta: float = 0.1
    _target_bound = 1.0

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_scalar(self.beta, "beta", Real, min_val=0.0)

    def _target(self, n_rows: int, groups: Any, graph: Any) -> sp.csr_array:
        """I − (β/2)L, which centring turns into Cn − (β/2)L."""
        A_NN = adjacency(n_rows, groups, graph)
        clique = smallest_clique(A_NN)
        if clique is not None and self.beta >= 2 / clique:
            warnings.warn(
                f"beta={self.beta:g} is at least 2/m on cliques of m={clique} views, where the VICReg variant and the "
                "spectral contrastive loss coincide (exactly so without ridge on the exact basis): use beta < 2/m",
                stacklevel=4,
            )
        return sp.csr_array(sp.eye_array(n_rows) - (self.beta / 2) * laplacian(A_NN))


class KernelBarlowTwins(QuadraticSSL):
    """Barlow Twins without its normalisation: min ‖WΓWᵀ − I‖²_F + λ‖W‖²_F, Γ = ΦᵀCnACnΦ/ΣA [K].

    Γ is the cross-covariance of related rows; a row without relations is its own. The rows of W are √((1 − λ/2μ)/μ) u
    for the eigenpairs μ > λ/2 of Γ. ``eigenvalues_``: μ.
    """

    _kernel_free = False

    def _critical_ridge(self, statistics: Statistics | Products) -> float:
        return 2 * largest_eigenvalue(statistics.target) / statistics.target_total

    def _directions(self, statistics: Statistics | Products, ridge: float) -> Pairs:
        total = statistics.target_total
        mu_d, U_Pd = symmetric_pairs(statistics.target, ridge / 2 * total, self.n_components)
        return mu_d / total, U_Pd

    def _directions_by_products(self, products: Products, K_NN: np.ndarray | None, ridge: float) -> Pairs:
        return self._directions(products, ridge)

    def _row_norms(self, mu_d: np.ndarray, ridge: float) -> np.ndarray:
        return np.sqrt((1 - ridge / (2 * mu_d)) / mu_d)

    def _flow_matrices(self, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
        gamma_PP = statistics.target / statistics.target_total
        return gamma_PP, gamma_PP

    def _objective(self, mu_d: np.ndarray, ridge: float, sums: Sums) -> float:
        missing = (self.n_components or len(mu_d)) - len(mu_d)
        return missing + float((ridge / mu_d - (ridge / mu_d) ** 2 / 4).sum())
