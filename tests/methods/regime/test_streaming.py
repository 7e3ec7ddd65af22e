"""partial_fit over batches is fit on their union, in memory that does not grow with them."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from methods.regime import RBF, Affine, KernelBarlowTwins, KernelSpectral, KernelVICReg, iter_views, make_views

CLASSES = [KernelSpectral, KernelVICReg, KernelBarlowTwins]


def streamed(estimator, given, batches):
    for images in np.array_split(np.unique(given.groups), batches):
        rows = np.isin(given.groups, images)
        estimator.partial_fit(given.rows[rows], groups=given.groups[rows])
    return estimator


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("parameters", [{}, {"center": True, "n_components": 3}, {"extension_ridge": 0.1, "ridge": 0}])
def test_streaming_is_batch(cls, parameters, problem):
    given = problem(n_images=30)
    kwargs = {"base_kernel": given.kernel, "basis": given.rows[::5], "ridge": 0.01, **parameters}
    batch = cls(**kwargs).fit(given.rows, groups=given.groups)
    stream = streamed(cls(**kwargs), given, batches=4)
    assert stream.loss_ == pytest.approx(batch.loss_, rel=1e-10)
    np.testing.assert_allclose(stream.kernel(given.new), batch.kernel(given.new), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("basis", ["uniform", "k-means++", "rpcholesky", "fourier"])
def test_streaming_goes_on_after_fit_and_after_a_look(basis, problem):
    given = problem(n_images=30)
    half = given.groups < 15
    estimator = KernelVICReg(base_kernel=given.kernel, basis=basis, basis_size=20, random_state=1)
    estimator.fit(given.rows[half], groups=given.groups[half])
    first = estimator.transform(given.new)
    estimator.partial_fit(given.rows[~half], groups=given.groups[~half])
    whole = estimator.kernel(given.new)
    again = KernelVICReg(base_kernel=given.kernel, basis=basis, basis_size=20, random_state=1)
    again.partial_fit(given.rows[half], groups=given.groups[half]).transform(given.new)
    again.partial_fit(given.rows[~half], groups=given.groups[~half])
    np.testing.assert_allclose(again.kernel(given.new), whole, atol=1e-10)
    assert np.abs(first @ first.T - whole).max() > 1e-3


def test_batches_may_have_images_of_any_number_of_views(problem):
    """Five images of two views, then two images of ten: the largest eigenvalue of the target grows on the way."""
    given = problem(n_images=30, n_views=1)
    groups = np.concatenate([np.repeat(np.arange(5), 2), np.repeat([5, 6], 10)])
    for order in (slice(0, 10), slice(10, 30)), (slice(10, 30), slice(0, 10)):
        stream = KernelSpectral(base_kernel=given.kernel, basis=given.rows[::3])
        for part in order:
            stream.partial_fit(given.rows[part], groups=groups[part])
        batch = KernelSpectral(base_kernel=given.kernel, basis=given.rows[::3]).fit(given.rows, groups=groups)
        np.testing.assert_allclose(stream.kernel(given.new), batch.kernel(given.new), atol=1e-10)


def test_fit_starts_anew_after_streaming(problem):
    given = problem(n_images=12)
    fresh = KernelSpectral(base_kernel=given.kernel, basis=given.rows[:10]).fit(given.rows, groups=given.groups)
    used = streamed(KernelSpectral(base_kernel=given.kernel, basis=given.rows[:10]), given, batches=3)
    used.fit(given.rows, groups=given.groups)
    np.testing.assert_array_equal(used.components_, fresh.components_)


def test_chunks_of_a_large_fit_do_not_change_it(problem, monkeypatch):
    given = problem(n_images=40)
    whole = KernelSpectral(base_kernel=given.kernel, basis=given.rows[:9]).fit(given.rows, groups=given.groups)
    monkeypatch.setattr("methods.regime.quadratic.ROWS", 10)
    chunked = KernelSpectral(base_kernel=given.kernel, basis=given.rows[:9]).fit(given.rows, groups=given.groups)
    np.testing.assert_allclose(chunked.kernel(given.new), whole.kernel(given.new), atol=1e-10)


def test_a_graph_streams_as_well(problem):
    given = problem(n_images=8)
    kwargs = {"base_kernel": given.kernel, "basis": given.rows[:9]}
    graph = sp.csr_array(given.adjacency)
    stream = KernelSpectral(**kwargs)
    for part in (slice(0, 16), slice(16, 32)):
        stream.partial_fit(given.rows[part], graph=graph[part][:, part])
    batch = KernelSpectral(**kwargs).fit(given.rows, graph=graph)
    np.testing.assert_allclose(stream.kernel(given.new), batch.kernel(given.new), atol=1e-10)


def test_memory_does_not_grow_with_the_rows_streamed():
    images = np.random.default_rng(0).random((3000, 6, 6))

    def peak(count):
        estimator = KernelVICReg(8, base_kernel=RBF(0.1), basis="uniform", basis_size=60, random_state=0)
        tracemalloc.start()
        for views, groups in iter_views(images[:count], Affine(translation=1.0), n_views=2):
            estimator.partial_fit(views, groups=groups)
        assert estimator.transform(views[:5]).shape == (5, 8)
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(512)
    assert peak(3000) < 1.2 * peak(1024)


def test_streamed_views_are_those_made_at_once():
    images = np.random.default_rng(0).random((600, 4, 4))
    views, groups = make_views(images, Affine(rotation=20.0), n_views=2, seed=3)
    parts = list(iter_views(images, Affine(rotation=20.0), n_views=2, seed=3))
    assert len(parts) == 2
    np.testing.assert_array_equal(np.concatenate([v for v, _ in parts]), views)
    np.testing.assert_array_equal(np.concatenate([g for _, g in parts]), groups)


def test_a_basis_that_would_grow_does_not_stream(problem):
    given = problem()
    estimator = KernelSpectral(base_kernel=given.kernel)
    assert not hasattr(estimator, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit") as raised:
        _ = estimator.partial_fit
    assert "use landmarks of a kernel on rows" in str(raised.value.__cause__)


def test_a_first_batch_smaller_than_the_basis_is_told(problem):
    given = problem()
    estimator = KernelSpectral(base_kernel=given.kernel, basis="uniform", basis_size=100)
    with pytest.warns(UserWarning, match="the first batch has 24 rows"):
        estimator.partial_fit(given.rows, groups=given.groups)
