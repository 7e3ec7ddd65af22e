"""The estimators as citizens of scikit-learn."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from methods.regime import (
    ESTIMATORS,
    RBF,
    KernelBarlowTwins,
    KernelSimCLR,
    KernelSpectral,
    KernelVICReg,
    Laplacian,
    OnSphere,
    Polynomial,
    pair_graph,
)

EVERY_LOSS = pytest.mark.parametrize("cls", ESTIMATORS.values())


def no_kernel_matrices(estimator):
    """Checks that hand a precomputed kernel a matrix that is not positive definite, which is refused."""
    checks = ("check_positive_only_tag_during_fit", "check_estimators_dtypes")
    return dict.fromkeys(checks, "not a kernel matrix") if estimator.base_kernel == "precomputed" else {}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:the first batch has")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [
        KernelSpectral(),
        KernelSpectral(base_kernel="precomputed"),
        KernelVICReg(basis="uniform", basis_size=20, extension_ridge=0.01),
        KernelBarlowTwins(basis="fourier", basis_size=20, center=True),
        KernelBarlowTwins(time=2.0),
        KernelVICReg(time=2.0, basis="uniform", basis_size=20),
        KernelSimCLR(),
    ],
    expected_failed_checks=no_kernel_matrices,
)
def test_scikit_learn_finds_nothing_to_object_to(estimator, check):
    """A check asserts by itself: it raises where it objects."""
    check(estimator)


@EVERY_LOSS
def test_a_fitted_estimator_is_pickled_cloned_and_fitted_again_to_the_same_bits(cls, problem):
    given = problem()
    estimator = cls(base_kernel=given.kernel).fit(given.rows, groups=given.groups)
    z = estimator.transform(given.new)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(estimator)).transform(given.new), z)
    np.testing.assert_array_equal(clone(estimator).fit(given.rows, groups=given.groups).transform(given.new), z)
    assert not hasattr(clone(estimator), "base_kernel_")


@EVERY_LOSS
def test_fitted_attributes_agree_with_each_other(cls, problem):
    given = problem()
    estimator = cls(base_kernel=given.kernel, basis="rpcholesky", basis_size=12, random_state=0)
    z = estimator.fit_transform(given.rows, groups=given.groups)
    assert estimator.rank_ == z.shape[1] == len(estimator.eigenvalues_) == len(estimator.components_)
    assert (np.diff(estimator.eigenvalues_) <= 1e-12).all()
    assert estimator.landmarks_.shape == (12, 3)
    dual = given.kernel(given.new, estimator.landmarks_) @ estimator.dual_coef_
    np.testing.assert_allclose(estimator.transform(given.new), dual, atol=1e-12)
    np.testing.assert_allclose(estimator.kernel(given.new, given.rows), dual @ z.T, atol=1e-9)
    assert list(estimator.get_feature_names_out())[:1] == [f"{cls.__name__.lower()}0"]


@EVERY_LOSS
def test_a_centred_embedding_has_mean_zero_on_the_training_rows(cls, problem):
    given = problem()
    z = cls(base_kernel=given.kernel, center=True).fit_transform(given.rows, groups=given.groups)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("basis", ["exact", "uniform", "rpcholesky"])
@EVERY_LOSS
def test_a_precomputed_kernel_gives_what_the_kernel_gives(cls, basis, problem):
    given = problem()
    kwargs = {"basis": basis, "basis_size": 10, "random_state": 0}
    direct = cls(base_kernel=given.kernel, **kwargs).fit(given.rows, groups=given.groups)
    precomputed = cls(base_kernel="precomputed", **kwargs).fit(given.gram, groups=given.groups)
    np.testing.assert_array_equal(given.rows[precomputed.landmarks_], direct.landmarks_)
    tolerance = 1e-5 if cls is KernelSimCLR else 1e-9  # an iteration stops a little elsewhere after other rounding
    induced = precomputed.kernel(given.kernel(given.new, given.rows))
    np.testing.assert_allclose(induced, direct.kernel(given.new), atol=tolerance)


def test_a_callable_kernel_gives_what_the_value_gives(problem):
    given = problem()
    kwargs = {"basis": "rpcholesky", "basis_size": 10, "random_state": 0}
    value = KernelSpectral(base_kernel=RBF(0.7), **kwargs).fit(given.rows, groups=given.groups)
    function = KernelSpectral(base_kernel=lambda x, y: RBF(0.7)(x, y), **kwargs).fit(given.rows, groups=given.groups)
    np.testing.assert_allclose(function.transform(given.new), value.transform(given.new), atol=1e-9)


@pytest.mark.parametrize("kernel", ["rbf", "laplacian", "polynomial", "ntk", Laplacian(0.5), Polynomial(2, coef0=0.1)])
def test_every_named_kernel_fits(kernel, problem):
    given = problem()
    estimator = KernelVICReg(3, base_kernel=kernel, ridge=0.01).fit(given.rows, groups=given.groups)
    assert estimator.transform(given.new).shape == (7, 3)


def test_a_rotation_invariant_kernel_is_a_base_kernel(problem):
    from methods.kernels.kernel import exponential, legendre

    given = problem()
    kernel = OnSphere(legendre([1.0, 4.0], dim=3) + 0.5 * exponential(0.5, dim=3))
    estimator = KernelSpectral(3, base_kernel=kernel).fit(given.rows, groups=given.groups)
    np.testing.assert_allclose(estimator.transform(2.5 * given.new), estimator.transform(given.new), atol=1e-12)


@EVERY_LOSS
def test_groups_pairs_and_graph_state_the_same_relation(cls, problem):
    given = problem(n_views=2)
    pairs = np.arange(12).reshape(-1, 2)
    by_groups = cls(base_kernel=given.kernel).fit(given.rows, groups=[f"image {i}" for i in given.groups])
    by_pairs = cls(base_kernel=given.kernel).fit(given.rows, graph=pair_graph(pairs, 12))
    by_graph = cls(base_kernel=given.kernel).fit(given.rows, graph=sp.coo_matrix(given.adjacency))
    np.testing.assert_array_equal(by_pairs.components_, by_groups.components_)
    np.testing.assert_array_equal(by_graph.components_, by_groups.components_)


def test_the_induced_kernel_serves_a_support_vector_machine(problem):
    given = problem(n_images=10)
    estimator = KernelSpectral(5, base_kernel=given.kernel).fit(given.rows, groups=given.groups)
    labels = given.groups % 2
    machine = SVC(kernel="precomputed").fit(estimator.kernel(given.rows), labels)
    assert machine.score(estimator.kernel(given.rows), labels) > 0.6
