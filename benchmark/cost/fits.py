"""The kernel regime's estimators over the number of rows, beside scikit-learn's nearest: what a fit's process does.

Images are synthetic and made block by block, as a data source larger than memory would give them.
"""

import resource
import time
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = 0.02
RIDGE = 1e-2
# Fits that are measured, by the cell's method, and scikit-learn's nearest to each.
TITLES = {"exact": "Kernel spectral, exact", "streaming": "Kernel spectral, streamed on landmarks"}
REFERENCES = {"exact": "sklearn_kernel_pca", "streaming": "sklearn_nystroem_pca"}


def fit(
    method: str, n: int, n_components: int, n_views: int = 16, side: int = 32, basis_size: int = 2000
) -> dict[str, Any]:
    """Fit ``method``, of ``TITLES`` or ``REFERENCES``, on ``n`` rows: views of images of ``side``² pixels.

    Returns the fields of a Measurement: ``seconds`` of fitting alone, without making the rows; ``peak_bytes`` of
    NumPy's arrays beyond the rows that were there before, and ``peak_rss_bytes`` of the whole process.
    """
    from methods.regime import Affine, iter_views

    estimator = _estimator(method, n_components, basis_size)
    images = SyntheticImages(-(-n // n_views), side)
    # The source makes a block when it is asked for one: to iter_views it is an array, as a memory map would be.
    blocks = iter_views(images, Affine(side / 8, 15.0, 1.1), n_views)  # type: ignore[arg-type]
    seconds = 0.0
    if method == "streaming":
        tracemalloc.start()
        for rows, image_numbers in blocks:
            began = time.perf_counter()
            estimator.partial_fit(rows, groups=image_numbers)
            seconds += time.perf_counter() - began
        del rows, image_numbers
        began = time.perf_counter()
        _ = estimator.components_  # the solution is made when it is asked for
    else:
        rows, image_numbers = (np.concatenate(parts)[:n] for parts in zip(*blocks, strict=True))
        tracemalloc.start()
        began = time.perf_counter()
        estimator.fit(rows, **({"groups": image_numbers} if method in TITLES else {}))
    seconds += time.perf_counter() - began
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB
    once = {"median": seconds, "q1": seconds, "q3": seconds, "n": 1}
    return {"seconds": once, "peak_bytes": peak_bytes, "peak_rss_bytes": rss}


def _estimator(method: str, n_components: int, basis_size: int) -> Any:
    """One of ``TITLES``, or of ``REFERENCES``. Only what it needs is imported: its process is measured."""
    if method in TITLES:
        from methods.regime import RBF, KernelSpectral

        return KernelSpectral(
            n_components,
            base_kernel=RBF(GAMMA),
            basis="exact" if method == "exact" else "uniform",
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
