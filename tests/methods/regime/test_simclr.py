"""SimCLR in the kernel regime: a convex program, its certificate, and its rank-limited form."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from methods.regime import KernelSimCLR
from methods.regime.features import exact_features
from methods.regime.graphs import clique_graph, with_self_pairs
from methods.regime.simclr import InfoNCE, Iterate, minimise_convex, optimality_gap


@pytest.fixture
def loss(problem):
    given = problem()
    _, phi, order = exact_features(given.kernel, given.rows)
    return InfoNCE.of(phi, clique_graph(given.groups[order]))


def test_value_and_gradient_are_those_of_the_plain_loss(loss, reference):
    z = np.random.default_rng(0).normal(size=(24, 3))
    value, share = loss.value_and_share(z @ z.T)
    expected, gradient = reference.infonce(z, loss.weight.toarray())
    assert value == pytest.approx(expected)
    np.testing.assert_allclose(loss.gradient_by_z(share, z), gradient, atol=1e-12)


def test_large_inner_products_do_not_overflow(loss):
    z = 1e3 * np.random.default_rng(0).normal(size=(24, 3))
    value, share = loss.value_and_share(z @ z.T)
    assert np.isfinite(value)
    assert np.isfinite(share).all()


def test_an_image_with_one_view_is_told_apart_from_all_others():
    """No relations: −mean log softmax of a row against every row, itself included."""
    alone = InfoNCE.of(np.eye(3), with_self_pairs(clique_graph(np.arange(3))))
    gram = np.diag([1.0, 2.0, 3.0])
    expected = np.mean([np.log(np.exp(g) + 2) - g for g in (1.0, 2.0, 3.0)])
    assert alone.value_and_share(gram)[0] == pytest.approx(expected)


@pytest.mark.parametrize("ridge", [0.3, 0.03, 0.003])
def test_the_optimum_satisfies_its_conditions(loss, ridge):
    """P = ∂f/∂H + λI is positive semi-definite and vanishes on H: H is the minimiser of a convex function."""
    scale = float(np.linalg.eigvalsh(loss.ascent_at_zero())[-1])
    found = minimise_convex(loss, ridge * scale, tol=1e-7, max_iter=200)
    point = Iterate(found.W.T @ found.W, loss.gram(found.W.T @ found.W))
    gradient = loss.gradient(loss.value_and_share(point.G)[1]) + ridge * scale * np.eye(24)
    assert np.linalg.eigvalsh(gradient)[0] > -1e-6 * ridge * scale
    assert abs(np.vdot(gradient, point.H)) < 1e-7 * found.objective
    assert len(found.W) < 24


def test_the_gap_bounds_the_distance_to_the_optimum(loss):
    ridge = 0.02 * float(np.linalg.eigvalsh(loss.ascent_at_zero())[-1])
    best = minimise_convex(loss, ridge, tol=1e-6, max_iter=200).objective
    rng = np.random.default_rng(0)
    for scale in (0.0, 0.1, 1.0, 10.0):
        factor = scale * rng.normal(size=(3, 24))
        point = Iterate(factor.T @ factor, loss.gram(factor.T @ factor))
        objective = loss.value_and_share(point.G)[0] + ridge * np.trace(point.H)
        assert optimality_gap(loss, point, ridge) >= objective - best - 1e-6


def test_a_ridge_of_one_is_where_learning_begins(problem):
    """z = 0 is optimal from the critical ridge on, and not just below it."""
    given = problem()
    learned = KernelSimCLR(base_kernel=given.kernel, ridge=0.999).fit(given.rows, groups=given.groups)
    assert learned.rank_ >= 1
    _, phi, order = exact_features(given.kernel, given.rows)
    loss = InfoNCE.of(phi, clique_graph(given.groups[order]))
    zero = Iterate(np.zeros((24, 24)), np.zeros((24, 24)))
    assert optimality_gap(loss, zero, learned.ridge_ / 0.999) == pytest.approx(0, abs=1e-12)


def test_few_components_reach_what_many_random_starts_reach(problem, reference):
    given = problem(seed=2)
    estimator = KernelSimCLR(2, base_kernel=given.kernel, ridge=0.05, tol=1e-10, n_init=10, random_state=0)
    estimator.fit(given.rows, groups=given.groups)
    _, phi, order = exact_features(given.kernel, given.rows)
    adjacency = clique_graph(given.groups[order]).toarray()
    found = reference.lbfgs(lambda z: reference.infonce(z, adjacency), phi, 2, estimator.ridge_, seed=0, starts=20)
    assert estimator.loss_ <= found * (1 + 1e-8)
    free = KernelSimCLR(base_kernel=given.kernel, ridge=0.05).fit(given.rows, groups=given.groups)
    assert estimator.loss_ > free.loss_
    assert estimator.transform(given.rows).shape == (24, 2)


def test_as_many_components_as_the_optimum_has_reach_it(problem):
    given = problem()
    free = KernelSimCLR(base_kernel=given.kernel, ridge=0.05).fit(given.rows, groups=given.groups)
    limited = KernelSimCLR(free.rank_, base_kernel=given.kernel, ridge=0.05, tol=1e-10).fit(
        given.rows, groups=given.groups
    )
    assert limited.loss_ == pytest.approx(free.loss_, rel=1e-8)


def test_too_few_iterations_are_told_with_what_they_reached(problem):
    given = problem()
    with pytest.warns(ConvergenceWarning, match="relative above its optimum"):
        KernelSimCLR(base_kernel=given.kernel, tol=1e-30, max_iter=10).fit(given.rows, groups=given.groups)


def test_without_ridge_there_is_no_solution(problem):
    given = problem()
    with pytest.raises(ValueError, match="ridge == 0"):
        KernelSimCLR(ridge=0.0).fit(given.rows, groups=given.groups)
