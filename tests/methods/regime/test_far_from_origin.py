"""What depends on differences of rows alone is the same wherever the rows lie."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from methods.regime import RBF, KernelSpectral, Laplacian, knn_graph
from methods.regime.features import choose_landmarks, make_features
from methods.regime.kernels import gram, resolve_kernel

FAR = pytest.mark.parametrize("shift", [1e6, -1e7])  # where a row has nine digits or more after the point
KERNELS = pytest.mark.parametrize(("kernel", "metric"), [(RBF(0.4), "sqeuclidean"), (Laplacian(0.4), "cityblock")])


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(90, 20)) / 4


@FAR
@KERNELS
@pytest.mark.parametrize("count", [1, 2, 90])
def test_the_kernel_of_rows_far_away_is_that_of_their_differences(kernel, metric, shift, count, rows):
    """Between the rows, and between new rows and them; against the definition written out."""
    new = np.random.default_rng(1).normal(size=(count, 20)) / 4
    expected = np.exp(-0.4 * cdist(new, rows, metric))
    np.testing.assert_allclose(kernel(new, rows), expected, rtol=1e-13)
    np.testing.assert_allclose(gram(kernel, new + shift, rows + shift), expected, atol=2e-8)
    np.testing.assert_allclose(kernel(rows + shift), kernel(rows), atol=2e-8)
    np.testing.assert_array_equal(np.diag(gram(kernel, far := rows + shift, far)), 1.0)


def test_a_kernel_far_away_is_computed_by_blocks_to_the_same(rows, monkeypatch):
    monkeypatch.setattr("methods.regime.kernels.BLOCK_ENTRIES", 300)
    np.testing.assert_allclose(gram(RBF(0.4), rows + 1e7, rows + 1e7), RBF(0.4)(rows), atol=2e-8)


def test_an_outlier_takes_no_digits_from_the_others(rows):
    apart = np.vstack([rows, np.full((1, 20), 1e12)])
    np.testing.assert_allclose(RBF(0.4)(apart)[:90, :90], RBF(0.4)(rows), atol=1e-13)


@FAR
@pytest.mark.parametrize("kernel", ["rbf", "laplacian"])
def test_a_bandwidth_taken_from_rows_far_away_is_theirs(kernel, shift, rows):
    assert resolve_kernel(kernel, rows + shift).gamma == pytest.approx(resolve_kernel(kernel, rows).gamma, rel=1e-7)


@FAR
@pytest.mark.parametrize("n_columns", [2, 20])
def test_neighbours_are_the_same_far_away(n_columns, shift, rows):
    near, far = knn_graph(rows[:, :n_columns], 5), knn_graph(rows[:, :n_columns] + shift, 5)
    np.testing.assert_array_equal(far.toarray(), near.toarray())


@FAR
@pytest.mark.parametrize("sampler", ["uniform", "k-means++", "rpcholesky"])
def test_landmarks_are_the_same_far_away(sampler, shift, rows):
    near, far = (choose_landmarks(sampler, RBF(0.4), x, 30, np.random.RandomState(0)) for x in (rows, rows + shift))
    np.testing.assert_array_equal(far, near)


@FAR
def test_random_features_have_the_same_kernel_far_away(shift, rows):
    near, far = (
        make_features("fourier", RBF(0.4), x, 200, np.random.RandomState(0)).transform(x) for x in (rows, rows + shift)
    )
    np.testing.assert_allclose(far @ far.T, near @ near.T, atol=1e-6)


@FAR
@pytest.mark.parametrize("basis", ["exact", "k-means++", "rpcholesky", "fourier"])
def test_an_estimator_embeds_rows_far_away_as_it_embeds_them_here(basis, shift, problem):
    given = problem(n_images=10)
    near, far = (
        KernelSpectral(4, basis=basis, basis_size=20, ridge=0.05, random_state=0)
        .fit(given.rows + offset, groups=given.groups)
        .kernel(given.new + offset)
        for offset in (0.0, shift)
    )
    np.testing.assert_allclose(far, near, atol=1e-5)
