"""Random problems, and the losses of an embedding written plainly with a minimiser that knows no closed form."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
from scipy.optimize import minimize

from methods.regime import RBF, clique_graph


def spectral(z, target):
    """‖ZZᵀ − T‖² and its gradient."""
    residual = z @ z.T - target
    return (residual**2).sum(), 4 * residual @ z


def vicreg(z, adjacency, beta):
    """‖ZᵀCnZ − I‖² + β tr ZᵀLZ and its gradient."""
    centred = z - z.mean(0)
    residual = centred.T @ centred - np.eye(z.shape[1])
    laplacian_z = adjacency.sum(1)[:, None] * z - adjacency @ z
    return (residual**2).sum() + beta * (z * laplacian_z).sum(), 4 * centred @ residual + 2 * beta * laplacian_z


def barlow_twins(z, adjacency):
    """‖ZᵀCnACnZ/ΣA − I‖² and its gradient."""
    pairs = adjacency @ (z - z.mean(0)) / adjacency.sum()
    pairs -= pairs.mean(0)
    residual = z.T @ pairs - np.eye(z.shape[1])
    return (residual**2).sum(), 4 * pairs @ residual


def infonce(z, adjacency):
    """Mean over related pairs of −log of the positive's share among all other rows, and its gradient."""
    weight = adjacency / adjacency.sum()
    logits = z @ z.T
    np.fill_diagonal(logits, -np.inf)
    share = scipy.special.softmax(logits, axis=1)
    residual = share * weight.sum(1)[:, None] - weight
    log_share = scipy.special.log_softmax(logits, axis=1)
    return -(weight[weight > 0] * log_share[weight > 0]).sum(), (residual + residual.T) @ z


def lbfgs(loss, phi, n_components, ridge, seed, starts=2):
    """The lowest loss(ΦWᵀ) + λ‖W‖² that L-BFGS reaches over W from random starts."""

    def objective(flat):
        w = flat.reshape(n_components, -1)
        value, gradient = loss(phi @ w.T)
        return value + ridge * (w**2).sum(), (gradient.T @ phi + 2 * ridge * w).ravel()

    rng = np.random.default_rng(seed)
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
    runs = [rng.normal(size=n_components * phi.shape[1]) * 0.3 for _ in range(starts)]
    return min(minimize(objective, run, jac=True, method="L-BFGS-B", options=options).fun for run in runs)


def symmetric_root(matrix, power=0.5):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**power) @ vectors.T


@pytest.fixture
def reference():
    return SimpleNamespace(
        spectral=spectral,
        vicreg=vicreg,
        barlow_twins=barlow_twins,
        infonce=infonce,
        lbfgs=lbfgs,
        symmetric_root=symmetric_root,
    )


@pytest.fixture
def problem():
    """(n images, m views) -> rows, their image, the kernel, its matrix and the adjacency, all dense and random."""

    def make(n_images=6, n_views=4, width=3, seed=0, gamma=0.7):
        rng = np.random.default_rng(seed)
        images = rng.normal(size=(n_images, 1, width))
        rows = (images + 0.6 * rng.normal(size=(n_images, n_views, width))).reshape(-1, width)
        groups = np.repeat(np.arange(n_images), n_views)
        kernel = RBF(gamma=gamma)
        return SimpleNamespace(
            rows=rows,
            new=rng.normal(size=(7, width)),
            groups=groups,
            kernel=kernel,
            gram=kernel(rows),
            adjacency=clique_graph(groups).toarray(),
            rng=rng,
        )

    return make
