"""Fitting a Run of the kernel regime: from the training images to an embedding of new rows."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmark.data import DataSet
from benchmark.networks.kernel_baselines import BaseFeatures, kernel_pca, laplacian_eigenmaps
from benchmark.networks.kernel_rows import Rows, plain_rows, views_of
from benchmark.networks.kernel_spec import CLOSED_FORMS, KernelSpec
from benchmark.runtime.seeds import key
from benchmark.suite.run import Run
from methods.regime import ESTIMATORS, NTK, RBF, Laplacian, Polynomial, knn_graph
from methods.regime.kernels import Kernel


class Embedding(Protocol):
    """What is measured: z(x) of new rows; the kernel is z(x)ᵀz(y)."""

    def transform(self, rows_ND: Rows) -> Rows:
        """Return z (N, d)."""


@dataclass(frozen=True)
class Fit:
    """An embedding, the base features it stands on, and what fitting it took beside making the views."""

    embedding: Embedding
    seconds: float
    peak_bytes: int


def fit(run: Run, data: DataSet) -> Fit:
    """Fit ``run``'s method on the training images; labels are not looked at. Views are made before the clock starts."""
    rows_ND, image_N = views_of(data.train, run)
    tracemalloc.start()
    began = time.perf_counter()
    try:
        embedding = _FITS.get(run.method, _closed_form)(run, rows_ND, image_N)
        seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return Fit(embedding, seconds, peak)


def base_features(run: Run, data: DataSet) -> BaseFeatures:
    """φ on a basis of the training images."""
    return _base(run, plain_rows(data.train), np.empty(0, dtype=np.int64))


def _closed_form(run: Run, rows_ND: Rows, image_N: NDArray[np.int64]) -> Embedding:
    spec = run.regime
    assert spec is not None
    graph = knn_graph(rows_ND, spec.n_neighbors) if spec.relation == "neighbours" and spec.n_neighbors else None
    estimator = ESTIMATORS[CLOSED_FORMS[run.method][1]](
        run.embedding_dim,
        base_kernel=_kernel(spec.kernel),
        basis=spec.basis,
        ridge=spec.ridge,
        extension_ridge=spec.extension_ridge,
        center=spec.center,
        random_state=_random_state(run),
        **({} if spec.basis_size is None else {"basis_size": spec.basis_size}),
        **run.loss,
    )
    related: dict[str, Any] = {"groups": image_N} if graph is None else {"graph": graph}
    fitted: Embedding = estimator.fit(rows_ND, **related)
    return fitted


def _base(run: Run, rows_ND: Rows, image_N: NDArray[np.int64]) -> BaseFeatures:
    spec = run.regime
    assert spec is not None
    return BaseFeatures.of(_kernel(spec.kernel), spec.basis, spec.basis_size, rows_ND, _random_state(run))


def _kernel_pca(run: Run, rows_ND: Rows, image_N: NDArray[np.int64]) -> Embedding:
    return kernel_pca(_base(run, rows_ND, image_N), rows_ND, _dim(run))


def _laplacian_eigenmaps(run: Run, rows_ND: Rows, image_N: NDArray[np.int64]) -> Embedding:
    assert run.regime is not None
    assert run.regime.n_neighbors is not None
    base = _base(run, rows_ND, image_N)
    return laplacian_eigenmaps(base, rows_ND, _dim(run), run.regime.n_neighbors, run.regime.extension_ridge)


def _dim(run: Run) -> int:
    assert run.embedding_dim is not None
    return run.embedding_dim


def _kernel(spec: KernelSpec) -> Kernel:
    if spec.name == "ntk":
        return NTK(spec.depth or 3)
    if spec.name == "polynomial":
        return Polynomial(spec.degree or 3, spec.gamma)
    return {"rbf": RBF, "laplacian": Laplacian}[spec.name](spec.gamma)


def _random_state(run: Run) -> int:
    return key(run.seed, "kernel regime", "basis") % 2**32


_FITS: dict[str, Callable[[Run, Rows, NDArray[np.int64]], Embedding]] = {
    "base_kernel": _base,
    "base_kernel_augmented": _base,
    "kernel_pca": _kernel_pca,
    "laplacian_eigenmaps": _laplacian_eigenmaps,
}
