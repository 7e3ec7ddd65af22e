"""Views of images, and maps z(x), linear in the features of a base kernel, as arrays.

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

from benchmark.data import ImageSet
from benchmark.networks.kernel import (
    ClosedForm,
    KernelNetwork,
    KernelPCA,
    KernelSpec,
    LaplacianEigenmaps,
    RelatedViews,
    Rows,
    Views,
    image_stack,
    plain_rows,
)
from benchmark.runtime.seeds import key
from benchmark.runtime.spec import Spec
from methods.regime import ESTIMATORS, Affine, Blur, Compose, make_views
from methods.regime.base import ROWS, RankWarning
from methods.regime.features import Features, FourierFeatures, Landmarks, exact_features, make_features
from methods.regime.graphs import knn_graph, normalised_adjacency
from methods.regime.kernels import NAMED, Kernel
from methods.regime.views import Augmentation

# Strengths in parts of the images' side, so that they mean the same on 8 and on 28 pixels.
TRANSLATION, BLUR = 1 / 8, 1 / 16
ROTATION_DEGREES, ZOOM = 15.0, 1.1
_OF_ESTIMATORS = {"basis", "basis_size", "ridge", "time", "extension_ridge", "center"}


def rows_of(images: ImageSet, regime: Spec, seed: int) -> tuple[Rows, NDArray[np.int64]]:
    """(rows, image number of each): what a network is fitted on.

    Of views ``n_views`` of every image, drawn by the seed; without augmentation its copies. Otherwise each image once.
    """
    if not isinstance(regime, Views) or regime.augmentation == "none":
        rows, copies = plain_rows(images), regime.n_views if isinstance(regime, Views) else 1
        return np.repeat(rows, copies, axis=0), np.repeat(np.arange(len(rows)), copies)
    stack = image_stack(images)
    side = stack.shape[1]
    affine, blur = Affine(TRANSLATION * side, ROTATION_DEGREES, ZOOM), Blur(BLUR * side)
    known: dict[str, Augmentation] = {
        "translation": Affine(translation=TRANSLATION * side),
        "rotation": Affine(rotation=ROTATION_DEGREES),
        "zoom": Affine(zoom=ZOOM),
        "blur": blur,
        "affine": affine,
        "mixed": Compose((affine, blur)),
    }
    return make_views(stack, known[regime.augmentation], regime.n_views, seed=key(seed, "kernel regime", "views"))


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


def random_state(network: KernelNetwork) -> int:
    """Of the basis."""
    return key(network.seed, "kernel regime", "basis") % 2**32


def make_kernel(spec: KernelSpec) -> Kernel:
    """The base kernel that the settings name, not yet bound to data."""
    return NAMED[spec.name](**spec.model_dump(exclude={"name"}, exclude_none=True))


def fit(network: KernelNetwork, rows_ND: Rows, image_N: NDArray[np.int64]) -> KernelMap:
    """A network's map, fitted on rows and the image of each."""
    if isinstance(network, ClosedForm):
        return closed_form(network, rows_ND, image_N)
    if isinstance(network, KernelPCA):
        return kernel_pca(network, rows_ND)
    if isinstance(network, LaplacianEigenmaps):
        return laplacian_eigenmaps(network, rows_ND)
    return base_map(network, rows_ND)


def base_features(network: KernelNetwork, rows_ND: Rows) -> Features:
    """φ with φ(x)ᵀφ(y) = k(x, y), on landmarks or random features chosen from these rows, or on all of them."""
    regime = network.regime
    bound = make_kernel(regime.kernel).bind(rows_ND)
    if regime.basis == "exact":
        return exact_features(bound, rows_ND)[0]
    assert regime.basis_size is not None
    return make_features(regime.basis, bound, rows_ND, regime.basis_size, check_random_state(random_state(network)))


def base_map(network: KernelNetwork, rows_ND: Rows) -> KernelMap:
    """φ itself, on a basis of these rows; its length is that of any row's features."""
    features = base_features(network, rows_ND)
    return KernelMap.linear(features, np.eye(features.transform(rows_ND[:1]).shape[1]))


def closed_form(network: ClosedForm, rows_ND: Rows, image_N: NDArray[np.int64]) -> KernelMap:
    """An estimator's map, fitted on rows that are related by their image, or by a graph of neighbours."""
    regime = network.regime
    learner = ESTIMATORS[network.method.removeprefix("kernel_")](
        network.embedding_dim,
        base_kernel=make_kernel(regime.kernel),
        random_state=random_state(network),
        **regime.model_dump(include=_OF_ESTIMATORS, exclude_none=True),
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


def kernel_pca(network: KernelPCA, rows_ND: Rows) -> KernelMap:
    """The leading principal components of φ over all rows: kernel PCA (Schölkopf et al., 1998) on the basis."""
    features, phi_NP, mean_P = _centred(network, rows_ND)
    size = phi_NP.shape[1]
    _, U_Pd = eigh(phi_NP.T @ phi_NP, subset_by_index=(max(0, size - network.embedding_dim), size - 1))
    return KernelMap.linear(features, U_Pd[:, ::-1].T, mean_P)


def laplacian_eigenmaps(network: LaplacianEigenmaps, rows_ND: Rows) -> KernelMap:
    """Laplacian eigenmaps (Belkin & Niyogi, 2003), carried to new rows by kernel ridge regression.

    In-sample: the d leading eigenvectors of D^−½ A D^−½ but the first, A the graph of nearest neighbours, as rows
    of squared norm one on average. ``extension_ridge`` is relative to the largest eigenvalue of ΦᵀΦ.
    """
    regime, dim = network.regime, network.embedding_dim
    A_NN = normalised_adjacency(knn_graph(rows_ND, regime.n_neighbors))
    start_N = np.random.RandomState(0).uniform(size=len(rows_ND))
    mu_k, V_Nk = eigsh(A_NN, k=dim + 1, which="LA", v0=start_N)
    z_Nd = np.sqrt(len(rows_ND) / dim) * V_Nk[:, np.argsort(-mu_k)][:, 1:]
    features, phi_NP, mean_P = _centred(network, rows_ND)
    S_PP = phi_NP.T @ phi_NP
    S_PP.flat[:: len(S_PP) + 1] += regime.extension_ridge * np.linalg.norm(S_PP, 2)
    W_Pd = cho_solve(cho_factor(S_PP, overwrite_a=True), phi_NP.T @ z_Nd)
    return KernelMap.linear(features, W_Pd.T, mean_P)


def _centred(network: KernelNetwork, rows_ND: Rows) -> tuple[Features, Rows, Rows]:
    """The base kernel's features, φ − its mean over the rows, and the mean."""
    features = base_features(network, rows_ND)
    phi_NP = features.transform(rows_ND)
    mean_P = phi_NP.mean(axis=0)
    phi_NP -= mean_P
    return features, phi_NP, mean_P
