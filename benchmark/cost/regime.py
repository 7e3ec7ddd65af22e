"""What fitting in the kernel regime takes over the number of rows, beside scikit-learn on the same rows.

Each measurement runs in a process of its own, so that its peak memory is its own. Images are synthetic and made block
by block, as a data source larger than memory would give them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

GAMMA = 0.02
RIDGE = 1e-2


@dataclass(frozen=True)
class Shape:
    """``n`` rows: ``n_views`` views of each image, of ``side``² pixels; p landmarks and d components."""

    n: int
    n_views: int = 16
    side: int = 32
    basis_size: int = 2000
    n_components: int = 64


def measure_regime(method: str, n: int, **shape: int) -> dict[str, Any]:
    """Fit ``method`` (see ``FITS``) on ``n`` rows in a new process; ``shape`` are the other fields of :class:`Shape`.

    Returns ``method``, the shape, ``seconds`` of fitting alone, ``views_seconds`` of making the rows, ``peak_bytes`` of
    NumPy's arrays beyond the rows that were there before, ``peak_rss_bytes`` of the whole process, and ``status``:
    done, out-of-memory or failed. Raises ``ValueError`` for an unknown method.
    """
    if method not in FITS:
        raise ValueError(f"method {method!r} is not known; there are {', '.join(FITS)}")
    asked = {"method": method, **vars(Shape(n, **shape))}
    command = [sys.executable, "-m", "benchmark.cost.regime", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return {**asked, "status": "done", **json.loads(done.stdout.splitlines()[-1])}
    # A process that the kernel killed for its memory says nothing; one that could not allocate says MemoryError.
    lost = done.returncode == -9 or "MemoryError" in done.stderr
    return {**asked, "status": "out-of-memory" if lost else "failed", "message": done.stderr.strip()[-500:]}


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
    augmentation = Affine(shape.side / 8, 15.0, 1.1)
    # The source makes a block when it is asked for one: to iter_views it is an array, as a memory map would be.
    return iter_views(images, augmentation, shape.n_views)  # type: ignore[arg-type]


def _whole(shape: Shape) -> tuple[Rows, NDArray[np.int64]]:
    rows, images = zip(*_blocks(shape), strict=True)
    return np.concatenate(rows)[: shape.n], np.concatenate(images)[: shape.n]


def _estimator(shape: Shape, basis: str) -> Any:
    from methods.regime import RBF, KernelSpectral

    return KernelSpectral(
        shape.n_components,
        base_kernel=RBF(GAMMA),
        basis=basis,
        basis_size=shape.basis_size,
        ridge=RIDGE,
        center=True,
        random_state=0,
    )


def _kernel_pca(shape: Shape) -> Any:
    from sklearn.decomposition import KernelPCA

    return KernelPCA(shape.n_components, kernel="rbf", gamma=GAMMA, random_state=0)


def _nystroem_pca(shape: Shape) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline

    landmarks = Nystroem(kernel="rbf", gamma=GAMMA, n_components=shape.basis_size, random_state=0)
    return make_pipeline(landmarks, PCA(shape.n_components, random_state=0))


def _at_once(make: Callable[[Shape], Any], related: bool) -> Callable[[Shape], dict[str, float]]:
    """Fit on all rows in memory."""

    def measured(shape: Shape) -> dict[str, float]:
        began = time.perf_counter()
        rows, images = _whole(shape)
        views_seconds = time.perf_counter() - began
        estimator = make(shape)
        tracemalloc.start()
        began = time.perf_counter()
        if related:
            estimator.fit(rows, groups=images)
        else:
            estimator.fit(rows)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "views_seconds": views_seconds, "peak_bytes": _traced_peak()}

    return measured


def _streamed(shape: Shape) -> dict[str, float]:
    """Fit block by block; the solution is asked for at the end."""
    estimator = _estimator(shape, "uniform")
    seconds = views_seconds = 0.0
    tracemalloc.start()
    blocks = _blocks(shape)
    while True:
        began = time.perf_counter()
        block = next(blocks, None)
        views_seconds += time.perf_counter() - began
        if block is None:
            break
        began = time.perf_counter()
        estimator.partial_fit(block[0], groups=block[1])
        seconds += time.perf_counter() - began
    began = time.perf_counter()
    _ = estimator.components_
    seconds += time.perf_counter() - began
    return {"seconds": seconds, "views_seconds": views_seconds, "peak_bytes": _traced_peak()}


def _traced_peak() -> int:
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


FITS: dict[str, Callable[[Shape], dict[str, float]]] = {
    "exact": _at_once(lambda shape: _estimator(shape, "exact"), related=True),
    "streaming": _streamed,
    "sklearn_kernel_pca": _at_once(_kernel_pca, related=False),
    "sklearn_nystroem_pca": _at_once(_nystroem_pca, related=False),
}


def _main(text: str) -> None:
    asked = json.loads(text)
    figures = FITS[asked.pop("method")](Shape(**asked))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({**figures, "peak_rss_bytes": rss}))


if __name__ == "__main__":
    _main(sys.argv[1])
