"""What the kernel-regime estimators share: input, basis, evaluation at new rows, fitted attributes."""

import warnings
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state, check_scalar, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from .eigen import largest_eigenvalue
from .expectations import SMOOTHING, Agreement, component_invariances, component_norms, label_alignment
from .features import SAMPLERS, Features, Landmarks, exact_features, features_behind, kernel_matrix, make_features
from .graphs import adjacency, with_self_pairs
from .kernels import resolve_kernel

ROWS = 4096  # rows whose features are held at a time
ASYMMETRY = 1e-5  # of a kernel matrix, relative to its largest entry: one computed in single precision passes


class RankWarning(UserWarning):
    """The solution has fewer directions than were asked for."""


@dataclass(frozen=True)
class Solution:
    """z(x) = W(φ(x) − offset): the linear map that was found, and what it reached."""

    eigenvalues: np.ndarray
    components: np.ndarray
    offset: np.ndarray
    loss: float
    ridge: float


def _of_the_solution(name: str, doc: str) -> Any:
    """A fitted attribute, solved for when it is asked for."""
    return property(lambda self: getattr(self._solution(), name), doc=doc)


@dataclass(eq=False, repr=False)  # its fields are the parameters scikit-learn finds, subclasses add theirs
class KernelSSL(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the estimators z(x) = W φ(x) of a fixed kernel; see a subclass for its loss."""

    n_components: int | None = None
    _: KW_ONLY
    base_kernel: Any = "rbf"
    basis: Any = "exact"
    basis_size: int = 500
    ridge: float = 1e-3
    extension_ridge: float = 0.0
    center: bool = False
    random_state: Any = None

    def fit(self, X: Any, y: Any = None, groups: Any = None, graph: Any = None) -> Self:
        """Solve for the embedding of the rows of ``X`` (N, D), or of a precomputed kernel matrix (N, N).

        Parameters
        ----------
        y : ignored.
        groups : N labels, equal for the views of one image.
        graph : sparse symmetric (N, N), the weights with which rows are related; instead of ``groups``.
            With neither, every row is an image with a single view.

        Raises
        ------
        ValueError
            A parameter out of its range, entries that are not finite, labels missing, a graph that is asymmetric or
            negative, a precomputed matrix that is asymmetric by more than 1e-5 of its largest entry, or no direction
            left to embed.
        """
        X_ND, target_NN = self._checked(X, groups, graph, ensure_min_samples=2)
        self.base_kernel_ = resolve_kernel(self.base_kernel, X_ND)
        if self._is_exact():
            self._keep(*self._solve_exact(X_ND, target_NN))
        else:
            features = self._make_features(X_ND)
            self._keep(features, self._solve_basis(features, X_ND, target_NN))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return z (N, rank_) of the rows of ``X`` (or of their kernel values with the training rows)."""
        check_is_fitted(self)
        X_ND = validate_data(self, X, dtype=np.float64, reset=False)
        source, readout_Pd, shift_d = self.linear_map()
        return np.concatenate([source.raw(X_ND[rows]) @ readout_Pd - shift_d for rows in gen_batches(len(X_ND), ROWS)])

    def kernel(self, X: Any, Y: Any = None) -> np.ndarray:
        """Return the induced kernel k*(x, y) = z(x)ᵀz(y) between the rows of ``X`` and of ``Y`` (None: of ``X``)."""
        z_Nd = self.transform(X)
        return z_Nd @ (z_Nd if Y is None else self.transform(Y)).T

    def linear_map(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """Return (source, readout (p, d), shift (d,)) of z(x) = source.raw(x) readout − shift."""
        solution = self._solution()
        return self._source, self._readout_Pd, solution.components @ solution.offset

    eigenvalues_ = _of_the_solution("eigenvalues", "Eigenvalues of the directions kept, decreasing (d,).")
    components_ = _of_the_solution("components", "W (d, p), in the coordinates of the features.")
    loss_ = _of_the_solution("loss", "The objective, ridge term included, on the training rows: before the extension.")
    ridge_ = _of_the_solution("ridge", "λ of the objective: ``ridge`` times the smallest λ at which z = 0 is optimal.")

    @property
    def dual_coef_(self) -> np.ndarray:
        """Coefficients (p, d) of z(x) = k(x, landmarks_) dual_coef_, before the centring; landmark bases only."""
        self._solution()
        self._landmarks("dual_coef_")
        return self._readout_Pd

    @property
    def landmarks_(self) -> np.ndarray:
        """The rows on which the basis stands (p, D), or their numbers with a precomputed kernel."""
        source = self._landmarks("landmarks_")
        return source.numbers if source.rows is None else source.rows

    @property
    def rank_(self) -> int:
        """Number d of directions the solution uses."""
        return len(self.components_)

    _n_features_out = rank_

    # What a fitted estimator says of its augmentation, on the rows that it was fitted on or others, and their images.
    # ``smoothing`` is ρ of ``expectations``, relative to the largest eigenvalue of the features' covariance over these.

    def augmentation_complexity(self, X: Any, groups: Any, smoothing: float = SMOOTHING) -> float:
        """Return κ of the augmentation on the base kernel's features; the loss has no part in it."""
        return float(np.sqrt(self._agreement(X, groups, smoothing)[0].complexity))

    def trace_gap(self, X: Any, groups: Any, smoothing: float = SMOOTHING) -> float:
        """Return τ² of z beside a constant: λ_{d+1} where z is the best of its dimension, more where it is not."""
        agreement, W_dP = self._agreement(X, groups, smoothing)
        return agreement.trace_gap(W_dP)

    def invariances(self, X: Any, groups: Any) -> np.ndarray:
        """Return λ (d,) of each component: its correlation between two views of an image."""
        return component_invariances(self.transform(X), groups)

    def rkhs_norms(self, X: Any) -> np.ndarray:
        """Return ‖θ‖² (d,) of each component, scaled to variance one over the rows."""
        return component_norms(self.transform(X), self.components_)

    def label_alignment(self, X: Any, y: Any) -> float:
        """Return the centred alignment of the induced kernel with the labels."""
        return label_alignment(self.transform(X), y)

    def _agreement(self, X: Any, groups: Any, smoothing: float) -> tuple[Agreement, np.ndarray]:
        """T on the features behind this estimator, and its W there."""
        source, readout_Pd, _ = self.linear_map()
        X_ND = validate_data(self, X, dtype=np.float64, reset=False)
        features, W_dP = features_behind(source, readout_Pd)
        return Agreement.of(features.transform(X_ND), groups, smoothing), W_dP

    def _checked(self, X: Any, groups: Any, graph: Any, **accepted: Any) -> tuple[np.ndarray, sp.csr_array]:
        """Return the rows and the target after checking them and the parameters."""
        self._check_parameters()
        X_ND = validate_data(self, X, dtype=np.float64, **accepted)
        if self._is_precomputed() and X_ND.shape[0] != X_ND.shape[1]:
            raise ValueError(f"base_kernel='precomputed' is fitted on a square kernel matrix, not on {X_ND.shape}")
        if self._is_precomputed():
            gap = max(np.abs(X_ND[rows] - X_ND[:, rows].T).max() for rows in gen_batches(len(X_ND), 512))
            if gap > ASYMMETRY * np.abs(X_ND).max():
                raise ValueError(
                    f"the kernel matrix is asymmetric (|K_ij − K_ji| up to {gap:g}, more than {ASYMMETRY:g} of its "
                    "largest entry): (K + K.T) / 2 would be symmetric"
                )
        return X_ND, self._target(len(X_ND), groups, graph)

    def _target(self, n_rows: int, groups: Any, graph: Any) -> sp.csr_array:
        """Return what the loss makes of the relation: here positive pairs, a row without relations being its own."""
        return with_self_pairs(adjacency(n_rows, groups, graph))

    def _solve_exact(self, X_ND: np.ndarray, target_NN: sp.csr_array) -> tuple[Features, Solution]:
        K_NN = kernel_matrix(self.base_kernel_, X_ND, self._dtype)
        features, phi_NP, order_N = exact_features(self.base_kernel_, X_ND, K_NN)
        return features, self._solve_features(phi_NP, target_NN[order_N][:, order_N])

    def _solve_basis(self, features: Features, X_ND: np.ndarray, target_NN: sp.csr_array) -> Solution:
        return self._solve_features(features.transform(X_ND), target_NN)

    def _solve_features(self, phi_NP: np.ndarray, target_NN: sp.csr_array) -> Solution:
        """Solve for the features of all rows, held at once."""
        raise NotImplementedError

    @property
    def _dtype(self) -> np.dtype:
        """Of the features."""
        return np.dtype(np.float64)

    def _is_exact(self) -> bool:
        return isinstance(self.basis, str) and self.basis == "exact"

    def _is_precomputed(self) -> bool:
        return isinstance(self.base_kernel, str) and self.base_kernel == "precomputed"

    def _make_features(self, X_ND: np.ndarray) -> Features:
        rng = check_random_state(self.random_state)
        return make_features(self.basis, self.base_kernel_, X_ND, self.basis_size, rng, self._dtype)

    def _keep(self, features: Features, solution: Solution) -> None:
        self._source = features.source
        self._readout_Pd = features.readout(solution.components)
        self._solved: Solution | None = solution

    def _solution(self) -> Solution:
        check_is_fitted(self)
        assert self._solved is not None
        return self._solved

    def _landmarks(self, attribute: str) -> Landmarks:
        check_is_fitted(self)
        if not isinstance(self._source, Landmarks):
            raise AttributeError(f"basis={self.basis!r} has no {attribute}: only landmark bases have")
        return self._source

    def _check_parameters(self) -> None:
        if self.n_components is not None:
            check_scalar(self.n_components, "n_components", Integral, min_val=1)
        check_scalar(self.basis_size, "basis_size", Integral, min_val=1)
        check_scalar(self.ridge, "ridge", Real, min_val=0.0, max_val=1.0, include_boundaries="left")
        check_scalar(self.extension_ridge, "extension_ridge", Real, min_val=0.0)
        for name, value in self.get_params(deep=False).items():
            if isinstance(value, float) and not np.isfinite(value):  # NaN passes every bound
                raise ValueError(f"{name} == {value}, must be finite")
        names = ("exact", *SAMPLERS, "fourier")
        if isinstance(self.basis, str) and self.basis not in names:
            known = ", ".join(names)
            raise ValueError(f"basis={self.basis!r} is unknown: give one of {known}, or an array of landmarks")

    def _check_rank(self, rank: int) -> None:
        """Raise where there is no direction to embed; warn where there are fewer than were asked for."""
        if rank == 0:
            raise ValueError(f"{type(self).__name__} has no direction to embed: the rows or the target are constant")
        if self.n_components is not None and rank < self.n_components:
            warnings.warn(
                f"n_components={self.n_components} is beyond the rank of the solution: {rank} directions lower "
                f"the loss at ridge={self.ridge:g}, and transform returns {rank} columns",
                RankWarning,
                stacklevel=2,
            )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "base_kernel_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self._is_precomputed()
        return tags


def extend(W_dP: np.ndarray, gram_PP: np.ndarray, relative_ridge: float) -> np.ndarray:
    """Return the kernel ridge regression of Z = ΦWᵀ on Φ: W(S + εI)⁻¹ applied as (S + εI)⁻¹SWᵀ, ε relative to λ_max(S).

    With every row a landmark this is z(x) = k_x (K + εI)⁻¹ Z. ``gram_PP`` is overwritten.
    """
    right_Pd = gram_PP @ W_dP.T
    gram_PP.flat[:: len(gram_PP) + 1] += relative_ridge * largest_eigenvalue(gram_PP)
    return cho_solve(cho_factor(gram_PP, overwrite_a=True, check_finite=False), right_Pd, check_finite=False).T
