"""What the estimators say about input they cannot serve, or can serve less well than it looks."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from methods.regime import ESTIMATORS, KernelBarlowTwins, KernelSimCLR, KernelSpectral, KernelVICReg, Polynomial


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "n_components == 0, must be >= 1"),
        ({"ridge": 1.0}, "ridge == 1.0, must be < 1"),
        ({"ridge": -0.1}, "ridge == -0.1, must be >= 0"),
        ({"extension_ridge": -1.0}, "extension_ridge == -1.0, must be >= 0"),
        (
            {"basis": "kmeans"},
            r"basis='kmeans' is unknown: give one of exact, uniform, k-means\+\+, rpcholesky, fourier",
        ),
        ({"basis_size": 0}, "basis_size == 0, must be >= 1"),
        ({"base_kernel": "gauss"}, "base_kernel='gauss' is unknown"),
        ({"base_kernel": "precomputed"}, r"fitted on a square kernel matrix, not on \(24, 3\)"),
    ],
)
@pytest.mark.parametrize("cls", ESTIMATORS.values())
def test_a_parameter_out_of_range_names_itself_and_its_range(cls, parameters, message, problem):
    given = problem()
    with pytest.raises(ValueError, match=message):
        cls(**parameters).fit(given.rows, groups=given.groups)


def test_parameters_of_one_loss_are_checked_too(problem):
    given = problem()
    with pytest.raises(ValueError, match=r"beta == -1\.0, must be >= 0"):
        KernelVICReg(beta=-1.0).fit(given.rows, groups=given.groups)
    with pytest.raises(ValueError, match="target='laplacian' is unknown: give adjacency, normalised or graph"):
        KernelSpectral(target="laplacian").fit(given.rows, groups=given.groups)
    with pytest.raises(ValueError, match="target='graph' takes the target matrix from fit's graph"):
        KernelSpectral(target="graph").fit(given.rows, groups=given.groups)


@pytest.mark.parametrize("cls", ESTIMATORS.values())
def test_components_beyond_the_rank_are_told(cls, problem):
    given = problem()
    with pytest.warns(UserWarning, match=r"n_components=20 is beyond the rank of the solution: \d+ directions") as told:
        estimator = cls(20, base_kernel=given.kernel, ridge=0.1).fit(given.rows, groups=given.groups)
    assert estimator.transform(given.new).shape == (7, estimator.rank_)
    assert estimator.rank_ < 20
    assert f"returns {estimator.rank_} columns" in str(told[0].message)


@pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg])
@pytest.mark.parametrize("repeat", [False, True])
def test_an_ill_conditioned_kernel_is_told_where_no_ridge_tames_it(cls, repeat, problem):
    given = problem()
    rows, groups = (np.tile(given.rows, (2, 1)), np.tile(given.groups, 2)) if repeat else (given.rows, given.groups)
    kernel = given.kernel if repeat else Polynomial(2)
    with pytest.warns(UserWarning, match=r"the kernel matrix of \d+ rows is ill-conditioned \(numerical rank"):
        estimator = cls(3, base_kernel=kernel, ridge=0.0).fit(rows, groups=groups)
    assert np.isfinite(estimator.transform(given.new)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cls(3, base_kernel=kernel, ridge=1e-3).fit(rows, groups=groups)


@pytest.mark.parametrize("cls", [KernelVICReg, KernelBarlowTwins, KernelSimCLR])
@pytest.mark.parametrize("value", [1.0, 0.1])
@pytest.mark.parametrize("ridge", [1e-3, 1e-8])
def test_rows_that_are_all_alike_leave_nothing_to_embed(cls, value, ridge):
    with pytest.raises(ValueError, match="has no direction to embed"):
        cls(ridge=ridge).fit(np.full((6, 2), value), groups=[0, 0, 1, 1, 2, 2])


def test_a_target_without_positive_part_leaves_nothing_to_embed(problem):
    given = problem()
    with pytest.raises(ValueError, match="has no direction to embed"):
        KernelSpectral(target="graph").fit(given.rows, graph=-np.eye(24))


@pytest.mark.parametrize("attribute", ["components_", "dual_coef_", "landmarks_", "eigenvalues_", "rank_", "loss_"])
def test_nothing_is_known_before_fit(attribute):
    assert not hasattr(KernelSpectral(), attribute)
    with pytest.raises(NotFittedError):
        KernelSpectral().transform([[0.0]])


def test_random_features_have_no_landmarks(problem):
    given = problem()
    estimator = KernelSpectral(base_kernel=given.kernel, basis="fourier", basis_size=10).fit(given.rows)
    assert not hasattr(estimator, "landmarks_")
    with pytest.raises(AttributeError, match="basis='fourier' has no dual_coef_"):
        _ = estimator.dual_coef_


def test_a_kernel_matrix_that_is_asymmetric_is_refused_and_one_rounded_to_single_precision_is_not(problem):
    given = problem()
    learner = KernelSpectral(3, base_kernel="precomputed")
    reached = learner.fit(given.gram, groups=given.groups).loss_
    single = given.gram.astype(np.float32).astype(float)
    single[3, 1] += 1e-6
    assert learner.fit(single, groups=given.groups).loss_ == pytest.approx(reached, rel=1e-4)
    for scale in (1e-8, 1.0, 1e8):  # the tolerance is relative to the entries
        skewed = scale * given.gram
        skewed[1, 3] += 1e-4 * scale
        with pytest.raises(
            ValueError, match=r"kernel matrix is asymmetric \(\|K_ij − K_ji\| up to .*, more than 1e-05"
        ):
            learner.fit(skewed, groups=given.groups)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("cls", ESTIMATORS.values())
def test_what_is_not_finite_is_refused_wherever_it_is_given(cls, value, problem):
    given = problem()
    rows, graph = given.rows.copy(), given.adjacency.copy()
    rows[3, 1] = graph[0, 1] = graph[1, 0] = value
    with pytest.raises(ValueError, match="Input X contains"):
        cls().fit(rows, groups=given.groups)
    with pytest.raises(ValueError, match="Input X contains"):
        cls(base_kernel=given.kernel).fit(given.rows, groups=given.groups).transform(rows)
    with pytest.raises(ValueError, match="Input graph contains"):
        cls().fit(given.rows, graph=graph)
    with pytest.raises(ValueError, match=f"groups has the label {value} at row 5: give every row a label"):
        cls().fit(given.rows, groups=np.where(np.arange(24) == 5, value, given.groups))
    with pytest.raises(ValueError, match="Input basis contains"):
        cls(base_kernel=given.kernel, basis=rows).fit(given.rows, groups=given.groups)
    with pytest.raises(ValueError, match=f"extension_ridge == {value}, must be finite"):
        cls(extension_ridge=value).fit(given.rows, groups=given.groups)
