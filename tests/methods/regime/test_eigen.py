"""The eigensolvers: dense, by Lanczos and from the target itself give the same pairs."""

import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp

from methods.regime import KernelBarlowTwins, KernelSpectral, KernelVICReg, knn_graph
from methods.regime.dual import dual_pairs, inverse
from methods.regime.eigen import break_ties, generalised_pairs, largest_pairs, target_eigenpairs
from methods.regime.lanczos import lanczos


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


@pytest.fixture
def lanczos_first(monkeypatch):
    """Lanczos is tried on small matrices too."""
    monkeypatch.setattr("methods.regime.lanczos.SMALL", 10)


@pytest.mark.usefixtures("lanczos_first")
def test_lanczos_finds_the_largest_pairs(symmetric):
    spectrum, basis = 0.9 ** np.arange(300), np.linalg.eigh(symmetric)[1]
    values, vectors = lanczos(lambda block: basis @ (spectrum[:, None] * (basis.T @ block)), 300, 8, 1e-10)
    np.testing.assert_allclose(values, spectrum[:8])
    np.testing.assert_allclose(np.abs(basis[:, :8].T @ vectors), np.eye(8), atol=1e-8)


@pytest.mark.usefixtures("lanczos_first")
@pytest.mark.parametrize(("size", "count"), [(300, None), (300, 100), (8, 2)])
def test_lanczos_leaves_to_the_dense_solver_what_suits_it(size, count):
    assert lanczos(lambda block: block, size, count, 1e-10) is None


def test_lanczos_leaves_what_does_not_stand_out():
    spectrum = np.linspace(1, 2, 3000)[:, None]
    assert lanczos(lambda block: spectrum * block, 3000, 8, 1e-10) is None


@pytest.mark.usefixtures("lanczos_first")
@pytest.mark.parametrize("rank", [3, 20])
def test_lanczos_goes_on_where_a_krylov_space_ends(rank, symmetric):
    """Equal eigenvalues, of a rank below and above the size of a block."""
    basis = np.linalg.eigh(symmetric)[1][:, :rank]
    values, vectors = lanczos(lambda block: basis @ (basis.T @ block), 300, 25, 1e-10)
    np.testing.assert_allclose(values, np.arange(25) < rank, atol=1e-9)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(25), atol=1e-9)


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


@pytest.mark.parametrize("sizes", [[4] * 12 + [1, 1], [40, 2]])
def test_an_inverse_is_that_of_its_components(sizes, rng):
    """Small ones, in shuffled order, and one that is nearly all."""
    order = rng.permutation(sum(sizes))
    blocks = [np.eye(size) * 2 * size + np.ones((size, size)) for size in sizes]
    matrix = sp.csr_array(sp.block_diag(blocks))[order][:, order]
    found = inverse(matrix)
    assert sp.issparse(found) == (len(sizes) > 2)
    np.testing.assert_allclose(found @ matrix.toarray(), np.eye(len(order)), atol=1e-12)


@pytest.mark.usefixtures("lanczos_first")
def test_the_problem_on_rows_has_the_pairs_of_that_on_features(problem):
    given = problem(n_images=40)
    phi = np.linalg.cholesky(given.gram)
    target = sp.csr_array(np.eye(160) + given.adjacency)
    expected, directions = generalised_pairs(phi.T @ phi, phi.T @ (target @ phi), 0.2, 4.0, 5)
    mu, dual = dual_pairs(given.gram.copy(), target, 0.2, 4.0, 5)
    np.testing.assert_allclose(mu, expected)
    np.testing.assert_allclose(np.abs(directions.T @ phi.T @ phi @ (phi.T @ dual)), np.eye(5), atol=1e-8)


@pytest.mark.parametrize("relation", ["groups", "graph"])
@pytest.mark.parametrize("parameters", [{}, {"center": True}, {"extension_ridge": 1e-2}])
@pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg, KernelBarlowTwins])
def test_the_estimators_do_not_depend_on_the_solver(cls, parameters, relation, problem, monkeypatch):
    given = problem(n_images=40)
    related = {"groups": given.groups} if relation == "groups" else {"graph": knn_graph(given.rows, 5)}
    fits = []
    for small in (3000, 50):
        monkeypatch.setattr("methods.regime.lanczos.SMALL", small)
        fits.append(cls(5, base_kernel=given.kernel, ridge=0.01, **parameters).fit(given.rows, **related))
    assert fits[1].ridge_ == pytest.approx(fits[0].ridge_)
    assert fits[1].loss_ == pytest.approx(fits[0].loss_)
    np.testing.assert_allclose(fits[1].eigenvalues_, fits[0].eigenvalues_)
    np.testing.assert_allclose(fits[1].kernel(given.new), fits[0].kernel(given.new), atol=1e-8)


def test_the_exact_basis_forms_no_second_matrix_beside_its_features(problem, monkeypatch):
    """Kernel matrix and features, 2N² numbers, as scikit-learn's KernelPCA holds; by p x p matrices it were three."""
    given = problem(n_images=300)
    peaks = []
    for small in (500, 5000):
        monkeypatch.setattr("methods.regime.lanczos.SMALL", small)
        tracemalloc.start()
        KernelSpectral(4, base_kernel=given.kernel, ridge=0.1).fit(given.rows, groups=given.groups)
        peaks.append(tracemalloc.get_traced_memory()[1] / (8 * 1200**2))
        tracemalloc.stop()
    assert peaks[0] < 2.9 < peaks[1]
