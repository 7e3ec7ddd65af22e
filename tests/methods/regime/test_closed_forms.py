"""The objective of every closed form against L-BFGS on twenty random problems."""

import numpy as np
import pytest
import scipy.sparse as sp

from methods.regime import KernelBarlowTwins, KernelSimCLR, KernelSpectral, KernelVICReg

SETTINGS = [
    {"basis": "exact", "ridge": 0.0, "n_components": None},
    {"basis": "exact", "ridge": 0.0, "n_components": 3},
    {"basis": "exact", "ridge": 0.02, "n_components": None},
    {"basis": "exact", "ridge": 0.02, "n_components": 2},
    {"basis": "uniform", "ridge": 0.0, "n_components": None},
    {"basis": "uniform", "ridge": 0.0, "n_components": 2},
    {"basis": "uniform", "ridge": 0.05, "n_components": None},
    {"basis": "uniform", "ridge": 0.05, "n_components": 2},
]
PROBLEMS = [(seed, SETTINGS[seed % len(SETTINGS)]) for seed in range(20)]


def random_graph(rng, n_rows):
    """A weighted relation that is no union of cliques."""
    upper = np.triu(rng.random((n_rows, n_rows)) * (rng.random((n_rows, n_rows)) < 0.3), 1)
    return upper + upper.T


def features_of(problem, estimator, reference):
    """Φ with ΦΦᵀ the estimator's kernel matrix, in other coordinates than the estimator's own."""
    landmarks = estimator.landmarks_
    root = reference.symmetric_root(problem.kernel(landmarks), -0.5)
    return problem.kernel(problem.rows, landmarks) @ root


def fit(cls, problem, adjacency, settings, seed, **parameters):
    estimator = cls(base_kernel=problem.kernel, basis_size=9, random_state=seed, **settings, **parameters)
    return estimator.fit(problem.rows, graph=sp.csr_array(adjacency))


def assert_reaches(estimator, loss, problem, reference, seed, starts=2):
    """loss_ is what L-BFGS finds, and what the embedding of the training rows has."""
    phi = features_of(problem, estimator, reference)
    count = estimator.n_components or estimator.rank_
    found = reference.lbfgs(loss, phi, count, estimator.ridge_, seed, starts)
    scale = loss(np.zeros((len(phi), count)))[0]
    assert abs(estimator.loss_ - found) <= 1e-8 * max(abs(found), 1e-3 * scale)
    z = estimator.transform(problem.rows)
    z = np.hstack([z, np.zeros((len(z), count - z.shape[1]))])
    norm = (estimator.components_**2).sum()
    np.testing.assert_allclose(loss(z)[0] + estimator.ridge_ * norm, estimator.loss_, rtol=1e-7, atol=1e-9 * scale)


@pytest.mark.parametrize(("seed", "settings"), PROBLEMS)
def test_spectral_contrastive_is_optimal(seed, settings, problem, reference):
    given = problem(seed=seed)
    adjacency = random_graph(given.rng, 24) if seed % 2 else given.adjacency
    estimator = fit(KernelSpectral, given, adjacency, settings, seed)
    assert_reaches(estimator, lambda z: reference.spectral(z, np.eye(24) + adjacency), given, reference, seed)


@pytest.mark.parametrize(("seed", "settings"), PROBLEMS)
def test_vicreg_is_optimal(seed, settings, problem, reference):
    given = problem(seed=seed)
    adjacency = random_graph(given.rng, 24) if seed % 2 else given.adjacency
    estimator = fit(KernelVICReg, given, adjacency, settings, seed, beta=0.3)
    assert_reaches(estimator, lambda z: reference.vicreg(z, adjacency, 0.3), given, reference, seed)


@pytest.mark.parametrize(("seed", "settings"), PROBLEMS)
def test_barlow_twins_is_optimal(seed, settings, problem, reference):
    given = problem(seed=seed)
    adjacency = random_graph(given.rng, 24) if seed % 2 else given.adjacency
    estimator = fit(KernelBarlowTwins, given, adjacency, settings, seed)
    assert_reaches(estimator, lambda z: reference.barlow_twins(z, adjacency), given, reference, seed)


@pytest.mark.parametrize("seed", range(20))
def test_simclr_is_optimal(seed, problem, reference):
    given = problem(seed=seed)
    adjacency = random_graph(given.rng, 24) if seed % 2 else given.adjacency
    settings = {"basis": ("exact", "uniform")[seed % 3 == 0], "ridge": (0.01, 0.1)[seed % 2]}
    estimator = fit(KernelSimCLR, given, adjacency, settings, seed)
    phi = features_of(given, estimator, reference)
    loss = lambda z: reference.infonce(z, adjacency)  # noqa: E731
    found = reference.lbfgs(loss, phi, phi.shape[1], estimator.ridge_, seed, starts=1)
    assert abs(estimator.loss_ - found) <= 1e-8 * found


@pytest.mark.parametrize("target", ["normalised", "graph"])
def test_other_targets_of_the_spectral_loss_are_optimal(target, problem, reference):
    given = problem(seed=3)
    weights = random_graph(given.rng, 24)
    if target == "graph":
        wanted = weights - 0.2 * np.diag(given.rng.random(24))
    else:
        degree = 1 + weights.sum(1)
        wanted = (np.eye(24) + weights) / np.sqrt(np.outer(degree, degree))
    estimator = fit(KernelSpectral, given, wanted if target == "graph" else weights, SETTINGS[2], 0, target=target)
    assert_reaches(estimator, lambda z: reference.spectral(z, wanted), given, reference, 0)


def test_the_centred_spectral_loss_is_optimal(problem, reference):
    given = problem(seed=4)
    estimator = fit(KernelSpectral, given, given.adjacency, SETTINGS[7], 0, center=True)

    def centred_loss(z):
        value, gradient = reference.spectral(z - z.mean(0), np.eye(24) + given.adjacency)
        return value, gradient - gradient.mean(0)

    assert_reaches(estimator, centred_loss, given, reference, 0)
    np.testing.assert_allclose(estimator.transform(given.rows).mean(0), 0, atol=1e-12)
