"""A cell of scope ``fit``: the kernel regime's estimators over the number of rows, beside scikit-learn's nearest.

Each fit runs in a process of its own, so that its peak memory is its own. Images are synthetic and made block by block,
as a data source larger than memory would give them.
"""

from __future__ import annotations

import resource
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.cost.runner import Ended, alone
from results.cell import Measurement
from results.record import Quartiles

if TYPE_CHECKING:  # it loads torch, which is not what a fit takes
    from benchmark.cost.cell import Cell

Rows = NDArray[np.float64]

GAMMA = 0.02
RIDGE = 1e-2
PRECISION = "fp64"
# Fits that are measured, by the cell's method, and scikit-learn's nearest to each.
TITLES = {"exact": "Kernel spectral, exact", "streaming": "Kernel spectral, streamed on landmarks"}
REFERENCES = {"exact": "sklearn_kernel_pca", "streaming": "sklearn_nystroem_pca"}


def costs(cell: Cell) -> dict[str, Any]:
    """The figures of a cell of scope ``fit``: N rows, D components; where asked for, scikit-learn's beside them."""
    shape = {"n": cell.batch_size, "n_components": cell.embedding_dim}
    ours = alone(fit, {"method": cell.method, **shape})
    found: dict[str, Any] = {"status": ours.status, "message": ours.message, "memory_counter": "numpy arrays"}
    found["measured"] = _measurement(ours)
    if cell.reference:
        theirs = alone(fit, {"method": REFERENCES[cell.method], **shape})
        found |= {"reference": _measurement(theirs), "reference_status": theirs.status}
    return found


def _measurement(ended: Ended) -> Measurement | None:
    if ended.status != "done":
        return None
    seconds = ended.result["seconds"]
    return Measurement(
        seconds=Quartiles(median=seconds, q1=seconds, q3=seconds, n=1),
        peak_bytes=ended.result["peak_bytes"],
        peak_rss_bytes=ended.result["peak_rss_bytes"],
    )


@dataclass(frozen=True)
class Shape:
    """``n`` rows: ``n_views`` views of each image, of ``side``² pixels; p landmarks and d components."""

    n: int
    n_views: int = 16
    side: int = 32
    basis_size: int = 2000
    n_components: int = 64


@dataclass(frozen=True)
class SyntheticImages:
    """Smooth random images (count, side, side) in [0, 1], made when they are asked for, always the same."""

    count: int
    side: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, block: slice) -> Rows:
        start, stop, _ = block.indices(self.count)
        random = np.random.default_rng([self.side, start])
        waves = np.cos(np.pi * np.outer(np.arange(4), np.arange(self.side) + 0.5) / self.side)
        weights = random.standard_normal((stop - start, 4, 4))
        images: Rows = np.einsum("nab,ax,by->nxy", weights, waves, waves)
        low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
        return (images - low) / (high - low)


def _blocks(shape: Shape) -> Iterator[tuple[Rows, NDArray[np.int64]]]:
    from methods.regime import Affine, iter_views

    images = SyntheticImages(-(-shape.n // shape.n_views), shape.side)
    # The source makes a block when it is asked for one: to iter_views it is an array, as a memory map would be.
    return iter_views(images, Affine(shape.side / 8, 15.0, 1.1), shape.n_views)  # type: ignore[arg-type]


def _estimator(method: str, shape: Shape) -> Any:
    """One of ``TITLES``, or of ``REFERENCES``. Only what it needs is imported: its process is measured."""
    if method in TITLES:
        from methods.regime import RBF, KernelSpectral

        return KernelSpectral(
            shape.n_components,
            base_kernel=RBF(GAMMA),
            basis="exact" if method == "exact" else "uniform",
            basis_size=shape.basis_size,
            ridge=RIDGE,
            center=True,
            random_state=0,
        )
    from sklearn.decomposition import PCA, KernelPCA

    if method == "sklearn_kernel_pca":
        return KernelPCA(shape.n_components, kernel="rbf", gamma=GAMMA, random_state=0)
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline

    landmarks = Nystroem(kernel="rbf", gamma=GAMMA, n_components=shape.basis_size, random_state=0)
    return make_pipeline(landmarks, PCA(shape.n_components, random_state=0))


def _fit_at_once(estimator: Any, shape: Shape, related: bool) -> tuple[float, float]:
    """Fit on all rows in memory; seconds of fitting and of making the rows."""
    began = time.perf_counter()
    rows, images = (np.concatenate(parts)[: shape.n] for parts in zip(*_blocks(shape), strict=True))
    views_seconds = time.perf_counter() - began
    tracemalloc.start()
    began = time.perf_counter()
    estimator.fit(rows, **({"groups": images} if related else {}))
    return time.perf_counter() - began, views_seconds


def _fit_streamed(estimator: Any, shape: Shape) -> tuple[float, float]:
    """Fit block by block; seconds of fitting and of making the rows."""
    tracemalloc.start()
    blocks, views_seconds, began = _blocks(shape), 0.0, time.perf_counter()
    while True:
        asked = time.perf_counter()
        block = next(blocks, None)
        views_seconds += time.perf_counter() - asked
        if block is None:
            break
        estimator.partial_fit(block[0], groups=block[1])
    _ = estimator.components_  # the solution is made when it is asked for
    return time.perf_counter() - began - views_seconds, views_seconds


def fit(asked: dict[str, Any]) -> dict[str, float]:
    """Fit ``method``, of ``TITLES`` or ``REFERENCES``, on rows of the :class:`Shape` that the other keys give.

    Returns ``seconds`` of fitting alone, ``views_seconds`` of making the rows, ``peak_bytes`` of NumPy's arrays beyond
    the rows that were there before, and ``peak_rss_bytes`` of the whole process.
    """
    asked = dict(asked)
    method, shape = asked.pop("method"), Shape(**asked)
    estimator = _estimator(method, shape)
    if method == "streaming":
        seconds, views_seconds = _fit_streamed(estimator, shape)
    else:
        seconds, views_seconds = _fit_at_once(estimator, shape, related=method in TITLES)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds, "views_seconds": views_seconds, "peak_bytes": peak_bytes, "peak_rss_bytes": rss}
