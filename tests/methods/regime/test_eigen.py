"""The eigensolvers: dense, by Lanczos and from the target itself give the same pairs."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp

from methods.regime import KernelBarlowTwins, KernelSpectral, KernelVICReg, knn_graph
from methods.regime.eigen import break_ties, generalised_pairs, lanczos_pairs, largest_pairs, target_eigenpairs


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def symmetric(rng):
    """300 x 300, eigenvalues −1..2."""
    vectors = np.linalg.qr(rng.normal(size=(300, 300)))[0]
    return (vectors * np.linspace(-1, 2, 300)) @ vectors.T


@pytest.mark.parametrize("count", [None, 5, 200])
def test_dense_pairs_are_the_largest_above_the_floor(count, symmetric, monkeypatch):
    expected = np.linspace(-1, 2, 300)[::-1]
    expected = expected[expected > 0.5][:count]
    for dense_size in (3000, 10):
        monkeypatch.setattr("methods.regime.eigen.DENSE_SIZE", dense_size)
        values, vectors = largest_pairs(symmetric.copy(), 0.5, count)
        np.testing.assert_allclose(values, expected)
        np.testing.assert_allclose(symmetric @ vectors, vectors * values, atol=1e-12)


def test_lanczos_finds_the_same_pairs(symmetric, monkeypatch):
    monkeypatch.setattr("methods.regime.eigen.DENSE_SIZE", 10)
    values, vectors = lanczos_pairs(lambda v: symmetric @ v, 300, 1.97, 8)
    np.testing.assert_allclose(values, [value for value in np.linspace(2, -1, 300)[:8] if value > 1.97])
    np.testing.assert_allclose(symmetric @ vectors, vectors * values, atol=1e-10)


@pytest.mark.parametrize(("size", "count"), [(300, None), (300, 100), (8, 2)])
def test_lanczos_leaves_to_the_dense_solver_what_suits_it(size, count, monkeypatch):
    monkeypatch.setattr("methods.regime.eigen.DENSE_SIZE", 10)
    assert lanczos_pairs(lambda v: v, size, 0.0, count) is None


def test_lanczos_gives_up_on_equal_eigenvalues_or_solves_them(monkeypatch):
    monkeypatch.setattr("methods.regime.eigen.DENSE_SIZE", 10)
    pairs = lanczos_pairs(lambda v: v * (np.arange(400) % 2), 400, 0.5, 20)
    assert pairs is None or np.allclose(pairs[0], 1.0)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("count", [None, 3])
def test_the_generalised_problem_is_solved_as_scipy_solves_it(ridge, count, rng):
    """(M − (λ/2) I) u = μ S u by scipy's generalised solver, where S is well-conditioned."""
    phi, target = rng.normal(size=(40, 12)), rng.normal(size=(40, 40))
    gram, form = phi.T @ phi, phi.T @ (target + target.T) @ phi
    bound = np.abs(target + target.T).sum(1).max()
    values = scipy.linalg.eigvalsh(form - ridge / 2 * np.eye(12), gram)
    kept = (values > 0).sum() if count is None else count
    mu, directions = generalised_pairs(gram.copy(), form.copy(), ridge, bound, count)
    np.testing.assert_allclose(mu, values[::-1][:kept], rtol=1e-10)
    np.testing.assert_allclose(directions.T @ gram @ directions, np.eye(kept), atol=1e-10)
    np.testing.assert_allclose(form @ directions - ridge / 2 * directions, gram @ directions * mu, atol=1e-8 * bound)


def test_a_singular_gram_matrix_keeps_to_its_range(rng):
    """More features than rows and no ridge: the smallest u of each solution."""
    phi = rng.normal(size=(10, 25))
    target = np.diag(np.arange(10.0))
    mu, directions = generalised_pairs(phi.T @ phi, phi.T @ target @ phi, 0.0, 9.0, None)
    np.testing.assert_allclose(mu, np.arange(9.0, 0.0, -1.0))
    shortest = np.linalg.pinv(phi) @ phi @ directions
    np.testing.assert_allclose(directions, shortest, atol=1e-10)


def test_ties_are_broken_by_norm_and_only_at_the_cut(rng):
    values = np.array([3.0, 2.0, 2.0, 2.0, 1.0])
    directions = rng.normal(size=(6, 5))
    mu, kept = break_ties(values, directions, 2)
    np.testing.assert_array_equal(mu, [3.0, 2.0])
    np.testing.assert_array_equal(kept[:, 0], directions[:, 0])
    smallest = np.linalg.svd(directions[:, 1:4])[1][-1]
    assert np.linalg.norm(kept[:, 1]) == pytest.approx(smallest)
    assert break_ties(values, directions, 5)[1] is directions


@pytest.mark.parametrize("drop_constant", [False, True])
@pytest.mark.parametrize("count", [None, 4])
def test_a_target_is_diagonalised_by_components(drop_constant, count, rng):
    """Two connected graphs and three rows alone, in shuffled order."""
    blocks = [knn_graph(rng.normal(size=(n, 2)), 3) for n in (12, 9)] + [sp.csr_array((3, 3))]
    order = rng.permutation(24)
    adjacency = sp.csr_array(sp.block_diag(blocks))[order][:, order]
    laplacian = np.diag(adjacency.toarray().sum(1)) - adjacency.toarray()
    dense = np.eye(24) - 0.1 * laplacian if drop_constant else np.eye(24) + adjacency.toarray()
    values, vectors = target_eigenpairs(sp.csr_array(dense), count, drop_constant=drop_constant)
    wanted = dense - 1 / 24 if drop_constant else dense
    expected = np.linalg.eigvalsh(wanted)[::-1]
    expected = expected[expected > 1e-9]
    np.testing.assert_allclose(values, expected[: len(values)])
    assert len(values) == len(expected) if count is None else len(values) >= count
    np.testing.assert_allclose(wanted @ vectors, vectors * values, atol=1e-10)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(values)), atol=1e-10)


def test_a_large_component_is_diagonalised_by_lanczos(rng, monkeypatch):
    graph = knn_graph(rng.normal(size=(200, 2)), 8)
    target = sp.csr_array(sp.eye_array(200) + graph)
    expected, _ = target_eigenpairs(target, 6, drop_constant=False)
    monkeypatch.setattr("methods.regime.eigen.DENSE_SIZE", 50)
    values, vectors = target_eigenpairs(target, 6, drop_constant=False)
    np.testing.assert_allclose(values, expected)
    np.testing.assert_allclose(target @ vectors, vectors * values, atol=1e-8)


@pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg, KernelBarlowTwins])
def test_the_estimators_do_not_depend_on_the_solver(cls, problem, monkeypatch):
    given = problem(n_images=60)
    fits = []
    for dense_size in (3000, 50):
        monkeypatch.setattr("methods.regime.eigen.DENSE_SIZE", dense_size)
        fits.append(cls(5, base_kernel=given.kernel, ridge=0.01).fit(given.rows, groups=given.groups))
    np.testing.assert_allclose(fits[1].eigenvalues_, fits[0].eigenvalues_)
    np.testing.assert_allclose(fits[1].kernel(given.new), fits[0].kernel(given.new), atol=1e-8)
