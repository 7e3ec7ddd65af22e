"""Maps z(x), linear in the features of a base kernel, as arrays; and the ones that learn no relation among views.

Kernel PCA, Laplacian eigenmaps and the base kernel itself are the rows that the closed forms are held against.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.sparse.linalg import eigsh
from sklearn.utils import check_random_state, gen_batches

from benchmark.networks.kernel import ClosedForm, KernelNetwork, KernelPCA, LaplacianEigenmaps, Rows
from benchmark.networks.regime import CLOSED_FORMS, Eigenmaps, KernelSpec, RelatedViews
from methods.regime import ESTIMATORS, NTK, RBF, Laplacian, Polynomial
from methods.regime.base import ROWS, RankWarning
from methods.regime.features import Features, FourierFeatures, Landmarks, exact_features, make_features
from methods.regime.graphs import knn_graph, normalised_adjacency
from methods.regime.kernels import Kernel


@dataclass(frozen=True, eq=False)
class KernelMap:
    """z(x) = r(x) B − c, r(x) the kernel values with landmarks, or random Fourier features, not yet whitened.

    ``readout`` B (p, d) holds whitening and map, row by row as a file holds it: the order decides how a product is
    rounded. ``shift`` c (d,).
    """

    source: Landmarks | FourierFeatures
    readout: Rows
    shift: Rows

    @classmethod
    def linear(cls, features: Features, components_dP: Rows, offset_P: Rows | None = None) -> KernelMap:
        """W(φ(x) − offset)."""
        shift_d = np.zeros(len(components_dP)) if offset_P is None else components_dP @ offset_P
        source = features.source
        assert isinstance(source, Landmarks | FourierFeatures)
        return cls(source, np.ascontiguousarray(features.readout(components_dP)), shift_d)

    @property
    def input_dim(self) -> int:
        """Numbers in a row."""
        if isinstance(self.source, FourierFeatures):
            return len(self.source.frequencies)
        assert self.source.rows is not None
        return self.source.rows.shape[1]

    def transform(self, rows_ND: Rows) -> Rows:
        """Return z (N, d)."""
        parts = gen_batches(len(rows_ND), ROWS)
        return np.concatenate([self.source.raw(rows_ND[part]) @ self.readout - self.shift for part in parts])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is kept of it: all but the kernel's name and whole numbers, which its settings say."""
        if isinstance(self.source, FourierFeatures):
            own = {"frequencies": self.source.frequencies}
        else:
            assert self.source.rows is not None
            own = {"landmarks": self.source.rows}
            gamma = getattr(self.source.kernel, "gamma", None)
            own |= {} if gamma is None else {"gamma": np.array([gamma])}
        kept = {**own, "readout": self.readout, "shift": self.shift}
        return {name: np.ascontiguousarray(array) for name, array in kept.items()}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], kernel: Kernel) -> KernelMap:
        """From its arrays and its base kernel, whose bandwidth they may hold."""
        if "frequencies" in arrays:
            return cls(FourierFeatures(arrays["frequencies"]), arrays["readout"], arrays["shift"])
        bound = kernel.set_params(gamma=float(arrays["gamma"][0])) if "gamma" in arrays else kernel
        landmarks = arrays["landmarks"]
        return cls(Landmarks(bound, np.arange(len(landmarks)), landmarks), arrays["readout"], arrays["shift"])


def make_kernel(spec: KernelSpec) -> Kernel:
    """The base kernel that the settings name, not yet bound to data."""
    if spec.name == "ntk":
        return NTK(spec.depth or 3)
    if spec.name == "polynomial":
        return Polynomial(spec.degree or 3, spec.gamma)
    return {"rbf": RBF, "laplacian": Laplacian}[spec.name](spec.gamma)


def fit(network: KernelNetwork, rows_ND: Rows, image_N: NDArray[np.int64]) -> KernelMap:
    """A network's map, fitted on rows and the image of each."""
    if isinstance(network, ClosedForm):
        return closed_form(network, rows_ND, image_N)
    if isinstance(network, KernelPCA):
        return kernel_pca(base_features(network, rows_ND), rows_ND, network.embedding_dim)
    if isinstance(network, LaplacianEigenmaps):
        return laplacian_eigenmaps(base_features(network, rows_ND), rows_ND, network.embedding_dim, network.regime)
    return base_map(network, rows_ND)


def base_features(network: KernelNetwork, rows_ND: Rows) -> Features:
    """φ with φ(x)ᵀφ(y) = k(x, y), on landmarks or random features chosen from these rows, or on all of them."""
    regime = network.regime
    bound = make_kernel(regime.kernel).bind(rows_ND)
    if regime.basis == "exact":
        return exact_features(bound, rows_ND)[0]
    assert regime.basis_size is not None
    return make_features(regime.basis, bound, rows_ND, regime.basis_size, check_random_state(network.random_state))


def base_map(network: KernelNetwork, rows_ND: Rows) -> KernelMap:
    """φ itself, on a basis of these rows; its length is that of any row's features."""
    features = base_features(network, rows_ND)
    return KernelMap.linear(features, np.eye(features.transform(rows_ND[:1]).shape[1]))


def closed_form(network: ClosedForm, rows_ND: Rows, image_N: NDArray[np.int64]) -> KernelMap:
    """An estimator's map, fitted on rows that are related by their image, or by a graph of neighbours."""
    regime = network.regime
    learner = ESTIMATORS[CLOSED_FORMS[network.method][1]](
        network.embedding_dim,
        base_kernel=make_kernel(regime.kernel),
        basis=regime.basis,
        ridge=regime.ridge,
        extension_ridge=regime.extension_ridge,
        center=regime.center,
        random_state=network.random_state,
        **({} if regime.basis_size is None else {"basis_size": regime.basis_size}),
        **network.loss,
    )
    with warnings.catch_warnings():
        if regime.ridge > 0:  # how many of ``embedding_dim`` directions lower the loss is then the ridge's to say
            warnings.simplefilter("ignore", RankWarning)
        if isinstance(regime, RelatedViews):
            learner.fit(rows_ND, groups=image_N)
        else:
            learner.fit(rows_ND, graph=knn_graph(rows_ND, regime.n_neighbors))
    source, readout_Pd, shift_d = learner.linear_map()
    return KernelMap(source, np.ascontiguousarray(readout_Pd), shift_d)


def kernel_pca(features: Features, rows_ND: Rows, dim: int) -> KernelMap:
    """The ``dim`` leading principal components of φ over all rows: kernel PCA (Schölkopf et al., 1998) on the basis."""
    phi_NP, mean_P = _centred(features, rows_ND)
    size = phi_NP.shape[1]
    _, U_Pd = eigh(phi_NP.T @ phi_NP, subset_by_index=(max(0, size - dim), size - 1))
    return KernelMap.linear(features, U_Pd[:, ::-1].T, mean_P)


def laplacian_eigenmaps(features: Features, rows_ND: Rows, dim: int, regime: Eigenmaps) -> KernelMap:
    """Laplacian eigenmaps (Belkin & Niyogi, 2003), carried to new rows by kernel ridge regression.

    In-sample: the ``dim`` leading eigenvectors of D^−½ A D^−½ but the first, A the graph of nearest neighbours, as rows
    of squared norm one on average. ``extension_ridge`` is relative to the largest eigenvalue of ΦᵀΦ.
    """
    A_NN = normalised_adjacency(knn_graph(rows_ND, regime.n_neighbors))
    start_N = np.random.RandomState(0).uniform(size=len(rows_ND))
    mu_k, V_Nk = eigsh(A_NN, k=dim + 1, which="LA", v0=start_N)
    z_Nd = np.sqrt(len(rows_ND) / dim) * V_Nk[:, np.argsort(-mu_k)][:, 1:]
    phi_NP, mean_P = _centred(features, rows_ND)
    S_PP = phi_NP.T @ phi_NP
    S_PP.flat[:: len(S_PP) + 1] += regime.extension_ridge * np.linalg.norm(S_PP, 2)
    W_Pd = cho_solve(cho_factor(S_PP, overwrite_a=True), phi_NP.T @ z_Nd)
    return KernelMap.linear(features, W_Pd.T, mean_P)


def _centred(features: Features, rows_ND: Rows) -> tuple[Rows, Rows]:
    """φ − its mean over the rows, and the mean."""
    phi_NP = features.transform(rows_ND)
    mean_P = phi_NP.mean(axis=0)
    phi_NP -= mean_P
    return phi_NP, mean_P
