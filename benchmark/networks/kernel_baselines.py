"""Embeddings of the base kernel that learn no relation among views: the rows that the closed forms are held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.sparse.linalg import eigsh
from sklearn.utils import check_random_state

from methods.regime.features import Features, exact_features, make_features
from methods.regime.kernels import Kernel
from methods.regime.relations import knn_graph, normalised_adjacency

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class BaseFeatures:
    """φ(x) with φ(x)ᵀφ(y) = k(x, y), on the same kind of basis as the closed forms'."""

    features: Features

    @classmethod
    def of(cls, kernel: Kernel, basis: str, basis_size: int | None, rows_ND: Rows, random_state: int) -> BaseFeatures:
        """Landmarks or random features chosen from ``rows_ND``."""
        bound = kernel.bind(rows_ND)
        if basis == "exact":
            return cls(exact_features(bound, rows_ND)[0])
        assert basis_size is not None
        return cls(make_features(basis, bound, rows_ND, basis_size, check_random_state(random_state)))

    def transform(self, rows_ND: Rows) -> Rows:
        """Return φ (N, p)."""
        return self.features.transform(rows_ND)


@dataclass(frozen=True)
class LinearMap:
    """z(x) = W(φ(x) − offset)."""

    base: BaseFeatures
    components: Rows
    offset: Rows

    def transform(self, rows_ND: Rows) -> Rows:
        """Return z (N, d)."""
        return (self.base.transform(rows_ND) - self.offset) @ self.components.T


def kernel_pca(base: BaseFeatures, rows_ND: Rows, dim: int) -> LinearMap:
    """The ``dim`` leading principal components of φ over all rows: kernel PCA (Schölkopf et al., 1998) on the basis."""
    phi_NP = base.transform(rows_ND)
    mean_P = phi_NP.mean(axis=0)
    phi_NP -= mean_P
    size = phi_NP.shape[1]
    _, U_Pd = eigh(phi_NP.T @ phi_NP, subset_by_index=(max(0, size - dim), size - 1))
    return LinearMap(base, U_Pd[:, ::-1].T, mean_P)


def laplacian_eigenmaps(
    base: BaseFeatures, rows_ND: Rows, dim: int, n_neighbors: int, extension_ridge: float
) -> LinearMap:
    """Laplacian eigenmaps (Belkin & Niyogi, 2003), carried to new rows by kernel ridge regression.

    In-sample: the ``dim`` leading eigenvectors of D^−½ A D^−½ but the first, A the graph of nearest neighbours, as rows
    of squared norm one on average. ``extension_ridge`` is relative to the largest eigenvalue of ΦᵀΦ.
    """
    A_NN = normalised_adjacency(knn_graph(rows_ND, n_neighbors))
    start_N = np.random.RandomState(0).uniform(size=len(rows_ND))
    mu_k, V_Nk = eigsh(A_NN, k=dim + 1, which="LA", v0=start_N)
    z_Nd = np.sqrt(len(rows_ND) / dim) * V_Nk[:, np.argsort(-mu_k)][:, 1:]
    phi_NP = base.transform(rows_ND)
    mean_P = phi_NP.mean(axis=0)
    phi_NP -= mean_P
    S_PP = phi_NP.T @ phi_NP
    S_PP.flat[:: len(S_PP) + 1] += extension_ridge * np.linalg.norm(S_PP, 2)
    W_Pd = cho_solve(cho_factor(S_PP, overwrite_a=True), phi_NP.T @ z_Nd)
    return LinearMap(base, W_Pd.T, mean_P)
