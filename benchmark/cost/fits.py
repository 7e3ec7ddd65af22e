"""The kernel regime's estimators over the number of rows, beside scikit-learn's nearest: what a fit's process does.

Images are synthetic and made block by block, as a data source larger than memory would give them.
"""

import resource
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = 0.02
RIDGE = 1e-2
# Fits that are measured, by the cell's method, and scikit-learn's nearest to each.
TITLES = {
    "exact": "Kernel spectral, exact",
    "exact_float32": "Kernel spectral, exact, float32 features",
    "streaming": "Kernel spectral, streamed on landmarks",
    "streaming_float32": "Kernel spectral, streamed on landmarks, float32 features",
}
REFERENCES = {
    "exact": "sklearn_kernel_pca",
    "exact_float32": "sklearn_kernel_pca",
    "streaming": "sklearn_nystroem_pca",
    "streaming_float32": "sklearn_nystroem_pca",
}
SECONDS = 1e-3  # a row: so long a fit is repeated
COMPARED = 256  # rows on which the induced kernel of float32 is held against that of float64


def fit(
    method: str, n: int, n_components: int, n_views: int = 16, side: int = 32, basis_size: int = 2000
) -> dict[str, Any]:
    """Fit ``method``, of ``TITLES`` or ``REFERENCES``, on ``n`` rows: views of images of ``side``² pixels.

    Returns the fields of a Measurement: ``seconds`` of fitting alone, without making the rows; ``peak_bytes`` of
    NumPy's arrays beyond the rows that were there before, and ``peak_rss_bytes`` of the whole process.
    """
    make = partial(_estimator, method, n_components, basis_size)
    blocks = partial(_views, n, n_views, side)
    if method.startswith("streaming"):
        run = partial(_streamed, make, blocks)
    else:
        rows, image_numbers = (np.concatenate(parts)[:n] for parts in zip(*blocks(), strict=True))
        run = partial(_at_once, make, rows, {"groups": image_numbers} if method in TITLES else {})
    make()  # what a fit imports is no part of it
    tracemalloc.start()
    taken = [run()]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB
    while sum(taken) < SECONDS * n:
        taken.append(run())
    q1, median, q3 = map(float, np.quantile(taken, (0.25, 0.5, 0.75)))
    seconds = {"median": median, "q1": q1, "q3": q3, "n": len(taken)}
    return {"seconds": seconds, "peak_bytes": peak_bytes, "peak_rss_bytes": rss}


def _views(n: int, n_views: int, side: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    from methods.regime import Affine, iter_views

    # The source makes a block when it is asked for one: to iter_views it is an array, as a memory map would be.
    images: Any = SyntheticImages(-(-n // n_views), side)
    return iter_views(images, Affine(side / 8, 15.0, 1.1), n_views)


def _at_once(make: Callable[[], Any], rows: NDArray[np.float64], related: dict[str, Any]) -> float:
    """The seconds of a fit."""
    began = time.perf_counter()
    make().fit(rows, **related)
    return time.perf_counter() - began


def _streamed(make: Callable[[], Any], blocks: Callable[[], Iterator[Any]]) -> float:
    """The same, block by block; the solution is made when it is asked for."""
    estimator, seconds = make(), 0.0
    for rows, image_numbers in blocks():
        began = time.perf_counter()
        estimator.partial_fit(rows, groups=image_numbers)
        seconds += time.perf_counter() - began
    del rows, image_numbers
    began = time.perf_counter()
    _ = estimator.components_
    return seconds + time.perf_counter() - began


def float32_error(
    method: str, n: int, n_components: int, n_views: int = 16, side: int = 32, basis_size: int = 2000
) -> dict[str, Any]:
    """Return ``value_error``: of the induced kernel among new images against float64's, relative (Frobenius)."""
    rows, image_numbers = (np.concatenate(parts)[:n] for parts in zip(*_views(n, n_views, side), strict=True))
    new = SyntheticImages(n + COMPARED, side)[n:].reshape(COMPARED, -1)
    single, double = (
        _estimator(name, n_components, basis_size).fit(rows, groups=image_numbers).kernel(new)
        for name in (method, method.removesuffix("_float32"))
    )
    return {"value_error": float(np.linalg.norm(single - double) / np.linalg.norm(double))}


def _estimator(method: str, n_components: int, basis_size: int) -> Any:
    """One of ``TITLES``, or of ``REFERENCES``. Only what it needs is imported: its process is measured."""
    if method in TITLES:
        from methods.regime import RBF, KernelSpectral

        return KernelSpectral(
            n_components,
            base_kernel=RBF(GAMMA),
            basis="exact" if method.startswith("exact") else "uniform",
            dtype="float32" if method.endswith("float32") else "float64",
            basis_size=basis_size,
            ridge=RIDGE,
            center=True,
            random_state=0,
        )
    from sklearn.decomposition import PCA, KernelPCA

    if method == "sklearn_kernel_pca":
        return KernelPCA(n_components, kernel="rbf", gamma=GAMMA, random_state=0)
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline

    landmarks = Nystroem(kernel="rbf", gamma=GAMMA, n_components=basis_size, random_state=0)
    return make_pipeline(landmarks, PCA(n_components, random_state=0))


@dataclass(frozen=True)
class SyntheticImages:
    """Smooth random images (count, side, side) in [0, 1], made when they are asked for, always the same."""

    count: int
    side: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, block: slice) -> NDArray[np.float64]:
        start, stop, _ = block.indices(self.count)
        random = np.random.default_rng([self.side, start])
        waves = np.cos(np.pi * np.outer(np.arange(4), np.arange(self.side) + 0.5) / self.side)
        weights = random.standard_normal((stop - start, 4, 4))
        images: NDArray[np.float64] = np.einsum("nab,ax,by->nxy", weights, waves, waves)
        low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
        return (images - low) / (high - low)
