"""Base kernels k(x, y) on the rows of a matrix.

A kernel is a value: its fields are its parameters, so that ``repr``, ``clone`` and nested
parameters (``base_kernel__gamma`` in a grid search) come from scikit-learn for free. ``bind(X)`` fixes what a
kernel takes from the data (a bandwidth left at None) and returns a kernel whose values no longer depend on it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import gen_batches
from sklearn.utils.extmath import row_norms

BLOCK_ENTRIES = 1 << 22  # of a kernel matrix computed at a time: 32 MiB, whatever the number of rows


def centre(X_ND: np.ndarray) -> np.ndarray:
    """Return a point (D,) amid the rows, from which ‖x‖² − 2xᵀy + ‖y‖² keeps its digits however far off they lie.

    The median of at most 64 rows: cheap, and not moved by an outlier.
    """
    return np.median(X_ND[:: len(X_ND) // 64 + 1], axis=0)


class Kernel(BaseEstimator):
    """A positive definite k(x, y), of which subclasses give the ``matrix``."""

    def bind(self, X_ND: np.ndarray) -> Self:
        """Return this kernel with every data-dependent parameter fixed from the rows of ``X_ND``."""
        return self

    def __call__(self, X_ND: np.ndarray, Y_MD: np.ndarray | None = None) -> np.ndarray:
        """Return the (N, M) matrix of k(x_i, y_j); ``Y_MD`` None stands for ``X_ND``."""
        return self.matrix(X_ND, X_ND if Y_MD is None else Y_MD)

    def matrix(self, X_ND: np.ndarray, Y_MD: np.ndarray) -> np.ndarray:
        raise NotImplementedError


@dataclass(eq=False, repr=False)
class _Bandwidth(Kernel):
    """A kernel with an inverse bandwidth gamma; None means 1 / (D · variance of the entries of the fitting rows)."""

    gamma: float | None = None

    def bind(self, X_ND: np.ndarray) -> Self:
        if self.gamma is not None:
            return self
        variance = X_ND.var()
        return type(self)(gamma=1.0 / (X_ND.shape[1] * variance) if variance > 0 else 1.0)

    def bound_gamma(self) -> float:
        """Return γ, or raise ValueError where it is neither given nor taken from data."""
        if self.gamma is None:
            raise ValueError(f"{self!r} has no gamma: give one, or call bind(X) to take it from the data")
        if not self.gamma > 0:
            raise ValueError(f"gamma={self.gamma} of {type(self).__name__} must be positive")
        return self.gamma


class RBF(_Bandwidth):
    """exp(−γ‖x − y‖²), as exact far from the origin as the rows are: distances are of rows less a common centre."""

    def matrix(self, X_ND: np.ndarray, Y_MD: np.ndarray) -> np.ndarray:
        if len(X_ND) == 1:  # of one row the differences themselves cost less
            K_NM = cdist(X_ND, Y_MD, metric="sqeuclidean")
        else:
            middle_D = centre(Y_MD)
            x_ND = X_ND - middle_D
            K_NM = euclidean_distances(x_ND, x_ND if Y_MD is X_ND else Y_MD - middle_D, squared=True)
        K_NM *= -self.bound_gamma()
        return np.exp(K_NM, out=K_NM)


class Laplacian(_Bandwidth):
    """exp(−γ‖x − y‖₁), with scikit-learn's 1-norm."""

    def matrix(self, X_ND: np.ndarray, Y_MD: np.ndarray) -> np.ndarray:
        K_NM = cdist(X_ND, Y_MD, metric="cityblock")
        K_NM *= -self.bound_gamma()
        return np.exp(K_NM, out=K_NM)


@dataclass(eq=False, repr=False)
class Polynomial(Kernel):
    """(γ xᵀy + c)^degree; γ None means 1/D, c ≥ 0 keeps it positive definite."""

    degree: int = 3
    gamma: float | None = None
    coef0: float = 1.0

    def matrix(self, X_ND: np.ndarray, Y_MD: np.ndarray) -> np.ndarray:
        gamma = 1.0 / X_ND.shape[1] if self.gamma is None else self.gamma
        return (gamma * (X_ND @ Y_MD.T) + self.coef0) ** self.degree


@dataclass(eq=False, repr=False)
class NTK(Kernel):
    """Neural tangent kernel of a fully connected ReLU network without biases (Jacot et al., NeurIPS 2018).

    With u⁰ = cos∠(x, y), Θ⁰ = u⁰ and, for each of ``depth`` hidden layers,
        uˡ = (uˡ⁻¹(π − arccos uˡ⁻¹) + √(1 − (uˡ⁻¹)²))/π,   Θˡ = uˡ + Θˡ⁻¹ (π − arccos uˡ⁻¹)/π,
    the kernel is ‖x‖‖y‖ Θ^depth (weights of variance 2/fan-in, so that a layer keeps the norm); k(x,x) = (depth+1)‖x‖².
    """

    depth: int = 3

    def matrix(self, X_ND: np.ndarray, Y_MD: np.ndarray) -> np.ndarray:
        norms_NM = row_norms(X_ND)[:, None] * row_norms(Y_MD)
        u_NM = np.divide(X_ND @ Y_MD.T, norms_NM, out=np.zeros_like(norms_NM), where=norms_NM > 0)
        np.clip(u_NM, -1.0, 1.0, out=u_NM)
        theta_NM = u_NM.copy()
        for _ in range(self.depth):
            angle_NM = 1.0 - np.arccos(u_NM) / np.pi
            u_NM = np.minimum(u_NM * angle_NM + np.sqrt(1.0 - u_NM**2) / np.pi, 1.0)
            theta_NM = u_NM + theta_NM * angle_NM
        return theta_NM * norms_NM


@dataclass(eq=False, repr=False)
class OnSphere(Kernel):
    """A rotation-invariant kernel φ(uᵀv) of ``methods.kernels`` between the rows put on the unit sphere.

    ``profile`` is called on a float64 torch tensor of inner products. A φ that is positive definite in ``dim``
    dimensions (Schoenberg) is so in fewer, not in more: rows with more columns than ``profile.dim`` raise ValueError,
    and so does a row of zeros, which has no direction.
    """

    profile: Any

    def matrix(self, X_ND: np.ndarray, Y_MD: np.ndarray) -> np.ndarray:
        import torch  # the only kernel that needs it

        cosines_NM = np.clip(self._unit(X_ND) @ self._unit(Y_MD).T, -1.0, 1.0)
        return self.profile(torch.from_numpy(cosines_NM)).numpy()

    def _unit(self, X_ND: np.ndarray) -> np.ndarray:
        dim = getattr(self.profile, "dim", X_ND.shape[1])
        if X_ND.shape[1] > dim:
            raise ValueError(f"the kernel {self.profile!r} is bound to dimension {dim}, the rows have {X_ND.shape[1]}")
        norms_N1 = np.linalg.norm(X_ND, axis=1, keepdims=True)
        if not norms_N1.all():
            raise ValueError(f"row {int(np.argmin(norms_N1))} is zero: it has no direction on the sphere")
        return X_ND / norms_N1


KernelLike = Callable[[np.ndarray, np.ndarray], np.ndarray] | Literal["precomputed"]

NAMED: dict[str, type[Kernel]] = {"rbf": RBF, "laplacian": Laplacian, "polynomial": Polynomial, "ntk": NTK}


def resolve_kernel(kernel: Any, X_ND: np.ndarray) -> KernelLike:
    """Return the kernel that ``kernel`` (a name, a value, a callable or "precomputed") means on the rows ``X_ND``."""
    if isinstance(kernel, str) and kernel in NAMED:
        return NAMED[kernel]().bind(X_ND)
    if isinstance(kernel, Kernel):
        return kernel.bind(X_ND)
    if callable(kernel) or kernel == "precomputed":
        return kernel
    names = ", ".join((*NAMED, "precomputed"))
    raise ValueError(f"base_kernel={kernel!r} is unknown: give one of {names}, a kernel or a callable")


def gram(kernel: KernelLike, X_ND: np.ndarray, Y_MD: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
    """Return the (N, M) kernel matrix, by blocks of rows so that a kernel's temporaries stay small.

    The rows are finite: an estimator has looked. They are of float64, and so are the values until they are stored.
    """
    assert callable(kernel), "a precomputed kernel matrix is indexed, not computed"
    K_NM = np.empty((len(X_ND), len(Y_MD)), dtype)
    for rows in gen_batches(len(X_ND), max(1, BLOCK_ENTRIES // len(Y_MD))):
        # Rows against themselves stay one array: a kernel then knows that distances on the diagonal are zero.
        some_ND = X_ND if rows == slice(0, len(X_ND)) else X_ND[rows]
        with config_context(assume_finite=True):
            block = np.asarray(kernel(some_ND, Y_MD))
        if block.shape != K_NM[rows].shape:
            raise ValueError(f"base_kernel returned shape {block.shape} where {K_NM[rows].shape} was expected")
        K_NM[rows] = block
    if not np.isfinite(K_NM).all():
        raise ValueError(f"the base kernel {kernel!r} has values that are not finite on these rows")
    return K_NM


def kernel_diag(kernel: KernelLike, X_ND: np.ndarray) -> np.ndarray:
    """Return the N values k(x_i, x_i), by small blocks on the diagonal."""
    return np.concatenate([np.diag(gram(kernel, X_ND[rows], X_ND[rows])) for rows in gen_batches(len(X_ND), 32)])
