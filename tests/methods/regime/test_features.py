"""Features whose inner products are the kernel: exact, Nyström, random."""

import numpy as np
import pytest

from methods.regime import RBF, Laplacian, Polynomial
from methods.regime.features import SAMPLERS, choose_landmarks, exact_features, make_features, pivoted_cholesky


@pytest.fixture
def rng():
    return np.random.RandomState(0)


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(60, 3))


def test_exact_features_factor_the_kernel_matrix(rows):
    kernel = RBF(0.8)
    features, phi, order = exact_features(kernel, rows)
    np.testing.assert_allclose(phi @ phi.T, kernel(rows)[np.ix_(order, order)], atol=1e-12)
    np.testing.assert_allclose(features.transform(rows[order]), phi, atol=1e-9)


def test_directions_below_rounding_are_dropped(rows):
    """A quadratic kernel in three variables has ten of them; repeated rows add none."""
    kernel = Polynomial(2, 1.0, 1.0)
    features, phi, order = exact_features(kernel, np.vstack([rows, rows]))
    assert phi.shape == (120, 10)
    np.testing.assert_allclose(phi @ phi.T, kernel(np.vstack([rows, rows])[order]), atol=1e-9)
    assert len(features.source.numbers) == 10


@pytest.mark.parametrize("matrix", [-np.eye(3), np.array([[1.0, 2.0], [2.0, 1.0]])])
def test_a_matrix_that_is_not_positive_definite_is_no_kernel(matrix):
    with pytest.raises(ValueError, match=r"not positive definite: its matrix leaves -?\d on a diagonal"):
        pivoted_cholesky(matrix)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nystrom_is_exact_at_its_landmarks_and_never_above_the_kernel(sampler, rows, rng):
    kernel = RBF(0.8)
    features = make_features(sampler, kernel, rows, 20, rng)
    landmarks = features.source.rows
    assert len(np.unique(features.source.numbers)) == len(landmarks) <= 20
    np.testing.assert_allclose(features.transform(rows) @ features.transform(landmarks).T, kernel(rows, landmarks))
    phi = features.transform(rows)
    assert np.linalg.eigvalsh(kernel(rows) - phi @ phi.T)[0] > -1e-9


def test_a_linear_map_of_features_is_read_out_of_the_kernel(rows, rng):
    features = make_features("uniform", RBF(0.8), rows, 15, rng)
    weights = np.random.default_rng(1).normal(size=(4, 15))
    read = features.source.raw(rows) @ features.readout(weights)
    np.testing.assert_allclose(read, features.transform(rows) @ weights.T, atol=1e-8)


def test_randomly_pivoted_cholesky_leaves_less_than_uniform_sampling():
    """A crowd and a few outliers: uniform sampling misses the outliers."""
    rows = np.concatenate([0.1 * np.random.default_rng(0).normal(size=(400, 2)), 10 * np.eye(2), -10 * np.eye(2)])

    def left(sampler, seed):
        features = make_features(sampler, RBF(0.5), rows, 12, np.random.RandomState(seed))
        return len(rows) - (features.transform(rows) ** 2).sum()

    pivoted, uniform = (np.mean([left(sampler, seed) for seed in range(5)]) for sampler in ("rpcholesky", "uniform"))
    assert pivoted < 0.2 * uniform


def test_randomly_pivoted_cholesky_stops_at_the_rank(rows, rng):
    numbers = choose_landmarks("rpcholesky", Polynomial(1, 1.0, 1.0), rows, 30, rng)
    assert len(numbers) == 4


def test_by_blocks_landmarks_are_drawn_by_the_same_law(monkeypatch):
    """Of two landmarks: the first in proportion to the diagonal, the second to what the first leaves of it."""
    factor = np.random.default_rng(0).normal(size=(5, 3)) * [3.0, 1.0, 0.3]
    K = factor @ factor.T
    expected = np.zeros((5, 5))
    for first in range(5):
        left = np.maximum(K.diagonal() - K[first] ** 2 / K[first, first], 0.0)
        expected[first] = K[first, first] / K.trace() * left / left.sum()
    monkeypatch.setattr("methods.regime.features.SINGLY", 0)
    found = np.zeros((5, 5))
    for seed in range(3000):
        i, j = choose_landmarks("rpcholesky", "precomputed", K, 2, np.random.RandomState(seed))
        found[i, j] += 1 / 3000
    np.testing.assert_allclose(found, np.triu(expected + expected.T), atol=0.03)


def test_by_blocks_it_stops_at_the_rank_too(rows, rng, monkeypatch):
    monkeypatch.setattr("methods.regime.features.SINGLY", 0)
    numbers = choose_landmarks("rpcholesky", Polynomial(1, 1.0, 1.0), rows, 30, rng)
    assert len(numbers) == len(set(numbers)) == 4


def test_landmarks_are_chosen_among_a_bounded_number_of_rows(rows, rng, monkeypatch):
    monkeypatch.setattr("methods.regime.features.CANDIDATES", 25)
    seen = []

    def kernel(x, y):
        seen.append(len(y))
        return RBF(0.8)(x, y)

    numbers = choose_landmarks("rpcholesky", kernel, rows, 10, rng)
    assert len(numbers) == 10
    assert max(seen) == 25


@pytest.mark.parametrize("kernel", [RBF(0.4), Laplacian(0.2)])
def test_random_features_approach_the_kernel_with_their_number(kernel, rows, rng):
    errors = []
    for size in (200, 20_000):
        phi = make_features("fourier", kernel, rows, size, rng).transform(rows)
        errors.append(np.abs(phi @ phi.T - kernel(rows)).max())
        np.testing.assert_allclose((phi**2).sum(1), 1.0)
    assert errors[1] < 0.05
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize(
    ("basis", "kernel", "size", "message"),
    [
        ("fourier", Polynomial(), 10, "knows the spectrum of rbf and laplacian"),
        ("fourier", RBF(1.0), 11, "basis_size=11 must be even"),
        ("k-means++", "precomputed", 10, "needs rows, not a precomputed kernel"),
        (np.ones((4, 2)), RBF(1.0), 10, "do not fit rows of 3 columns"),
    ],
)
def test_a_basis_that_cannot_be_had_is_told(basis, kernel, size, message, rows, rng):
    x = RBF(1.0)(rows) if kernel == "precomputed" else rows
    with pytest.raises(ValueError, match=message):
        make_features(basis, kernel, x, size, rng)
