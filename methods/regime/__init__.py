"""Self-supervised learning in the kernel regime: the losses of this suite solved for a fixed kernel.

[K] Kiani, Balestriero, Chen, Lloyd, LeCun, *Joint Embedding Self-Supervised Learning in the Kernel Regime*, 2022
(arXiv 2209.14884). Every estimator finds z(x) = W φ(x), linear in the features of a fixed kernel k(x, y) = φ(x)ᵀφ(y),
from unlabelled rows and the relation that says which of them are views of one image; ``kernel`` is then the induced
kernel k*(x, y) = z(x)ᵀz(y), for a support vector machine or kernel ridge regression on few labels.

Common parameters
-----------------
n_components : output dimension d; None for every direction that lowers the loss. Where fewer than d do, a warning says
    so and ``transform`` returns those.
base_kernel : "rbf", "laplacian", "polynomial" or "ntk" (with default parameters), "precomputed", a kernel value such
    as ``RBF(gamma=0.1)``, ``OnSphere(k)`` or ``EmpiricalNTK(module)``, or a callable (X, Y) -> matrix.
basis : "exact" (every row); landmarks by "uniform", "k-means++" or "rpcholesky"; "fourier" random features; or an
    array of landmarks. With all but "exact" ``partial_fit`` streams.
basis_size : number of landmarks or random features p.
ridge : λ of the term λ‖W‖² (the RKHS norm), relative to the smallest λ at which z = 0 is optimal, so that one value
    means the same whatever N, m and the loss; 0 ≤ ridge < 1. The fitted ``ridge_`` is λ itself.
time : when gradient flow of the loss from a small start is stopped; None: never, so at the minimum. In units of the
    time in which the first mode, by itself and without ridge, is half learned. ``KernelSimCLR`` has none.
init_scale : the size of that start, as a part of what the first mode ends with, in squares.
dtype : "float64" or "float32", of the features of the three that stream; kernel values, sums over batches, and the
    eigenproblems of p x p matrices stay in float64. Half the memory of an exact fit, and of a landmark basis' features;
    the induced kernel errs by less than 1e-4, relative, from ridge = 1e-4 upwards, below which it is refused.
extension_ridge : ε of z(x) = k_x (K + εI)⁻¹ Z, the kernel ridge regression that carries the in-sample Z to new rows,
    relative to the largest eigenvalue of K. It is another regulariser: it does not change which Z is found.
center : whether z is centred on the training rows, z(x) = W(φ(x) − φ̄); the loss then sees it so.
random_state : of landmarks, random features and random starts.

Fitted attributes: ``eigenvalues_``, ``components_`` (W), ``dual_coef_`` and ``landmarks_`` (landmark bases), ``rank_``,
``loss_``, ``ridge_``.

``chains`` has views whose best representation is known, to hold an estimator against. What a fitted one says of its
augmentation without labels is in ``expectations``: ``augmentation_complexity``, ``trace_gap``, ``invariances`` and
``rkhs_norms``.

Without ridge and rank limit the induced kernel forgets what images have in common, and few-label accuracy falls far
below the base kernel's: hence the default ridge is not zero. README.md searches β and γ with the views of an image in
one fold, and says what is theorem and what is finding.
"""

from importlib import import_module
from typing import Any

from .base import KernelSSL
from .chains import CircleNoise, GaussianNoise, recovery
from .graphs import clique_graph, knn_graph, pair_graph, temporal_graph
from .kernels import NTK, RBF, Laplacian, OnSphere, Polynomial
from .quadratic import KernelBarlowTwins, KernelSpectral, KernelVICReg
from .simclr import KernelSimCLR
from .views import Affine, Blur, Compose, iter_views, make_views

ESTIMATORS: dict[str, type[KernelSSL]] = {
    "spectral": KernelSpectral,
    "vicreg": KernelVICReg,
    "barlow_twins": KernelBarlowTwins,
    "simclr": KernelSimCLR,
}
"""The estimator of each loss, by the name the loss has in the rest of the suite."""

__all__ = ["ESTIMATORS", "KernelBarlowTwins", "KernelSimCLR", "KernelSpectral", "KernelVICReg"]
__all__ += ["NTK", "RBF", "EmpiricalNTK", "Laplacian", "OnSphere", "Polynomial", "WideReLU"]
__all__ += ["Affine", "Blur", "Compose", "iter_views", "make_views"]
__all__ += ["CircleNoise", "GaussianNoise", "recovery"]
__all__ += ["clique_graph", "knn_graph", "pair_graph", "temporal_graph"]


def __getattr__(name: str) -> Any:
    """Tangent kernels, which alone of the regime need torch and the seconds that its import takes."""
    if name in ("EmpiricalNTK", "WideReLU"):
        return getattr(import_module(f"{__name__}.tangent"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
