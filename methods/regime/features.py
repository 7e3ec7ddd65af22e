"""Finite-dimensional features φ(x) in R^p with φ(x)ᵀφ(y) = k(x, y), exactly or approximately.

The closed forms hold for any Φ (N x p) with ΦΦᵀ = K:
- landmarks x_1..x_p with Cholesky K_pp = F Fᵀ give φ(x) = F⁻¹ k(landmarks, x): Nyström, and exact where every row is a
  landmark, for then Φ = F itself. No kernel matrix is ever inverted;
- random Fourier features (Rahimi and Recht, NeurIPS 2007) give K only in expectation.
Φ is of float64 or float32, of kernel values that were computed in float64.

A linear map W of the features is evaluated at new rows as ``source.raw(X) @ readout(W)``, so that a landmark basis pays
for p kernel values and one thin product a row, not for a triangular solve.

Landmarks by RPCholesky: Chen, Epperly, Tropp, Webber, *Randomly pivoted Cholesky*, 2022 (arXiv 2207.06503), in blocks
by rejection: Epperly, Tropp, Webber, *Embrace rejection*, 2024 (arXiv 2410.03969).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.linalg import cholesky, get_lapack_funcs, solve_triangular
from sklearn.cluster import kmeans_plusplus
from sklearn.utils import check_array

from .kernels import RBF, KernelLike, Laplacian, centre, gram, kernel_diag

SAMPLERS = ("uniform", "k-means++", "rpcholesky")
SINGLY, BLOCK = 512, 64  # landmarks by RPCholesky: up to so many one at a time, more of them by blocks of proposals
CANDIDATES = 20_000  # rows k-means++ and RPCholesky choose among: a uniform sample of this many where there are more


@dataclass(frozen=True)
class Landmarks:
    """Rows x_1..x_p and the kernel to them; ``numbers_P`` are their numbers among the rows fitted on.

    With a precomputed kernel the numbers are all there is: the columns to take.
    """

    kernel: KernelLike
    numbers: np.ndarray
    rows: np.ndarray | None

    @classmethod
    def of(cls, kernel: KernelLike, X_ND: np.ndarray, numbers_P: np.ndarray) -> Self:
        return cls(kernel, numbers_P, None if kernel == "precomputed" else X_ND[numbers_P])

    def raw(self, X_ND: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
        """Return k(X, landmarks), (N, p)."""
        if self.rows is None:
            return X_ND[:, self.numbers].astype(dtype, copy=False)
        return gram(self.kernel, X_ND, self.rows, dtype)


@dataclass(frozen=True)
class LandmarkFeatures:
    """φ(x) = F⁻¹ k(landmarks, x), F the lower Cholesky factor of the landmarks' kernel matrix."""

    source: Landmarks
    factor: np.ndarray

    def transform(self, X_ND: np.ndarray) -> np.ndarray:
        """Return Φ (N, p)."""
        raw_NP = self.source.raw(X_ND, self.factor.dtype)
        return solve_triangular(self.factor, raw_NP.T, lower=True, overwrite_b=True, check_finite=False).T

    def readout(self, W_dP: np.ndarray) -> np.ndarray:
        """Return the dual coefficients F⁻ᵀ Wᵀ: z(x) = k(x, landmarks) F⁻ᵀ Wᵀ."""
        right_Pd = W_dP.T.astype(self.factor.dtype, copy=False)  # lest a large factor is copied to float64
        return solve_triangular(self.factor, right_Pd, lower=True, trans="T", check_finite=False).astype(float)


@dataclass(frozen=True)
class FourierFeatures:
    """φ(x) = √(2/p) (cos ω_jᵀx, sin ω_jᵀx), j = 1..p/2, ω drawn from the kernel's spectral measure."""

    frequencies: np.ndarray
    dtype: Any = np.float64

    @property
    def source(self) -> Self:
        return self

    def raw(self, X_ND: np.ndarray) -> np.ndarray:
        phase_NJ = X_ND @ self.frequencies
        return np.hstack([np.cos(phase_NJ), np.sin(phase_NJ)]) / np.sqrt(self.frequencies.shape[1])

    def transform(self, X_ND: np.ndarray) -> np.ndarray:
        return self.raw(X_ND).astype(self.dtype, copy=False)

    def readout(self, W_dP: np.ndarray) -> np.ndarray:
        return W_dP.T


Features = LandmarkFeatures | FourierFeatures


def pivoted_cholesky(K_NN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (L, order) with K[order][:, order] = L Lᵀ, L (N, r) lower trapezoidal, r the numerical rank.

    Diagonal pivoting stops where no pivot is above N·eps times the largest. ``K_NN`` is overwritten.
    Raises ValueError where the kernel shows itself not positive definite by a negative diagonal of what is left.
    """
    diagonal_N = K_NN.diagonal().copy()
    (pstrf,) = get_lapack_funcs(("pstrf",), (K_NN,))
    L_NN, pivots_N, rank, _ = pstrf(K_NN.T, lower=1, overwrite_a=1)
    L_Nr, order_N = L_NN[:, :rank], pivots_N - 1
    for column in range(1, rank):
        L_Nr[:column, column] = 0.0
    explained_N = np.einsum("nr,nr->n", L_Nr[rank:], L_Nr[rank:], dtype=np.float64)
    lowest = (diagonal_N[order_N[rank:]] - explained_N).min(initial=0.0)
    if rank == 0 or lowest < -1e-5 * diagonal_N.max():  # a matrix computed in single precision passes
        raise ValueError(f"the base kernel is not positive definite: its matrix leaves {lowest:g} on a diagonal")
    return L_Nr, order_N


def kernel_matrix(kernel: KernelLike, X_ND: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
    """Return K (N, N) of the rows, or a copy of the one that was given."""
    return X_ND.astype(dtype) if kernel == "precomputed" else gram(kernel, X_ND, X_ND, dtype)


def exact_features(
    kernel: KernelLike, X_ND: np.ndarray, K_NN: np.ndarray | None = None
) -> tuple[LandmarkFeatures, np.ndarray, np.ndarray]:
    """Return (features, Φ, order): every row a landmark, Φ (N, r) the features of the rows taken in ``order``.

    O(N³/3) time and one N x N matrix, ``K_NN`` where it is at hand, which is overwritten. Landmarks beyond the
    numerical rank r of the kernel matrix are dropped.
    """
    phi_NP, order_N = pivoted_cholesky(kernel_matrix(kernel, X_ND) if K_NN is None else K_NN)
    rank = phi_NP.shape[1]
    return LandmarkFeatures(Landmarks.of(kernel, X_ND, order_N[:rank]), phi_NP[:rank]), phi_NP, order_N


def features_behind(source: Landmarks | FourierFeatures, readout_Pd: np.ndarray) -> tuple[Features, np.ndarray]:
    """Return (features, W (d, p)) of a map z(x) = source.raw(x) readout = Wφ(x), up to landmarks that are redundant.

    Raises ValueError of a precomputed kernel, whose landmarks have no rows to take the kernel between.
    """
    if isinstance(source, FourierFeatures):
        return source, readout_Pd.T
    if source.rows is None:
        raise ValueError("the features of a precomputed kernel are not kept: fit on rows with a kernel")
    features, phi_PR, order_P = exact_features(source.kernel, source.rows)
    return features, readout_Pd[order_P].T @ phi_PR


def make_features(
    basis: str | np.ndarray,
    kernel: KernelLike,
    X_ND: np.ndarray,
    size: int,
    rng: np.random.RandomState,
    dtype: Any = np.float64,
) -> Features:
    """Return the features that ``basis`` names: a sampler of landmarks, "fourier", or landmarks given as an array."""
    if not isinstance(basis, str):
        given_PD = check_array(basis, dtype=np.float64, input_name="basis")
        if kernel == "precomputed" or given_PD.shape[1] != X_ND.shape[1]:
            raise ValueError(f"basis: landmarks of shape {given_PD.shape} do not fit rows of {X_ND.shape[1]} columns")
        return exact_features(kernel, given_PD, kernel_matrix(kernel, given_PD, dtype))[0]
    if basis == "fourier":
        return FourierFeatures(fourier_frequencies(kernel, X_ND.shape[1], size, rng), dtype)
    numbers_P = choose_landmarks(basis, kernel, X_ND, size, rng)
    rows_PD = X_ND[numbers_P][:, numbers_P] if kernel == "precomputed" else X_ND[numbers_P]
    among_themselves, _, _ = exact_features(kernel, rows_PD, kernel_matrix(kernel, rows_PD, dtype))
    kept_P = numbers_P[among_themselves.source.numbers]  # without those that are redundant to rounding
    return LandmarkFeatures(Landmarks.of(kernel, X_ND, kept_P), among_themselves.factor)


def fourier_frequencies(kernel: KernelLike, n_columns: int, size: int, rng: np.random.RandomState) -> np.ndarray:
    """Return ω (D, size/2) of an RBF (normal, variance 2γ) or Laplacian (Cauchy, scale γ) kernel."""
    if size % 2:
        raise ValueError(f"basis_size={size} must be even for basis='fourier': features come as cosine and sine")
    shape = (n_columns, size // 2)
    if isinstance(kernel, RBF):
        return np.sqrt(2 * kernel.bound_gamma()) * rng.standard_normal(shape)
    if isinstance(kernel, Laplacian):
        return kernel.bound_gamma() * rng.standard_cauchy(shape)
    raise ValueError(f"basis='fourier' knows the spectrum of rbf and laplacian, not of {kernel!r}: use landmarks")


def choose_landmarks(
    name: str, kernel: KernelLike, X_ND: np.ndarray, size: int, rng: np.random.RandomState
) -> np.ndarray:
    """Return the row numbers of at most ``size`` landmarks, chosen as ``name`` of ``SAMPLERS`` says.

    "uniform" draws without replacement, "k-means++" in proportion to the squared distance to those drawn before, in
    input space, "rpcholesky" to what those leave of k(x, x).
    """
    pool = np.arange(len(X_ND))
    if name == "uniform":
        return np.sort(rng.permutation(pool)[:size])
    if len(pool) > CANDIDATES:
        pool = np.sort(rng.permutation(pool)[:CANDIDATES])
    rows_ND = X_ND[np.ix_(pool, pool)] if kernel == "precomputed" else X_ND[pool]
    size = min(size, len(pool))
    if name == "rpcholesky":
        return pool[rpcholesky(kernel, rows_ND, size, rng)]
    if kernel == "precomputed":
        raise ValueError("basis='k-means++' needs rows, not a precomputed kernel: use 'uniform' or 'rpcholesky'")
    return pool[np.unique(kmeans_plusplus(rows_ND - centre(rows_ND), size, random_state=rng)[1])]


def rpcholesky(kernel: KernelLike, X_ND: np.ndarray, size: int, rng: np.random.RandomState) -> np.ndarray:
    """Return up to ``size`` row numbers, each drawn in proportion to what the earlier ones leave of k(x, x).

    Many are proposed by the block and each kept as likely as what is left of it by then, which leaves their law as it
    is and makes products of matrices of what were products with vectors (Epperly, Tropp & Webber 2024). Stops early
    where nothing is left (the kernel matrix has lower rank). O(N·size²) time, O(N·size) memory.
    """

    def values(rows: np.ndarray, columns: np.ndarray | slice) -> np.ndarray:
        some_ND = X_ND[rows]
        return some_ND[:, columns] if kernel == "precomputed" else gram(kernel, some_ND, X_ND[columns])

    left_N = (np.diag(X_ND) if kernel == "precomputed" else kernel_diag(kernel, X_ND)).astype(float)
    rounding = len(left_N) * np.finfo(float).eps
    enough, floor = left_N.sum() * rounding, left_N.max() * rounding if size > SINGLY else 0.0
    factor_PN, found = np.empty((size, len(left_N))), np.empty(0, dtype=int)
    while len(found) < size and left_N.sum() > enough:
        block = 1 if size <= SINGLY else min(BLOCK, size - len(found))
        drawn_B, known_PN = rng.choice(len(left_N), size=block, p=left_N / left_N.sum()), factor_PN[: len(found)]
        own_BB = values(drawn_B, drawn_B) - known_PN[:, drawn_B].T @ known_PN[:, drawn_B]
        kept_K = drawn_B[_kept(own_BB, left_N[drawn_B], floor, rng)]
        if not len(kept_K):
            left_N[drawn_B] = 0.0  # what is left of them is rounding
            continue
        rows_KN = values(kept_K, slice(None)) - known_PN[:, kept_K].T @ known_PN
        root_KK = cholesky(rows_KN[:, kept_K], lower=True)
        new_KN = solve_triangular(root_KK, rows_KN, lower=True, overwrite_b=True, check_finite=False)
        factor_PN[len(found) : len(found) + len(kept_K)] = new_KN
        left_N = np.maximum(left_N - np.einsum("kn,kn->n", new_KN, new_KN), 0.0)
        left_N[kept_K] = 0.0
        found = np.concatenate([found, kept_K])
    return np.sort(found)


def _kept(own_BB: np.ndarray, left_B: np.ndarray, floor: float, rng: np.random.RandomState) -> list[int]:
    """Which of a block's rows are kept, one after the other: the first, then by what is left of them; overwrites."""
    kept: list[int] = []
    for row in range(len(own_BB)):
        if own_BB[row, row] <= (rng.random_sample() * left_B[row] if kept else 0.0) or own_BB[row, row] <= floor:
            continue
        kept.append(row)
        column_B = own_BB[row:, row] / np.sqrt(own_BB[row, row])
        own_BB[row:, row:] -= np.outer(column_B, column_B)
    return kept
