"""Time as a regulariser: the flow is that of gradient descent in fine steps, and ends where the closed forms are."""

import numpy as np
import pytest

from methods.regime import KernelBarlowTwins, KernelSpectral, KernelVICReg
from methods.regime.flow import learned_at, logistic

EVERY_FLOW = pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg, KernelBarlowTwins])


def loss_of(cls, reference, adjacency):
    """A loss written plainly (conftest.py): z -> (value, gradient)."""
    if cls is KernelSpectral:
        return lambda z: reference.spectral(z, np.eye(len(z)) + adjacency)
    if cls is KernelVICReg:
        return lambda z: reference.vicreg(z, adjacency, 0.1)
    return lambda z: reference.barlow_twins(z, adjacency)


def descended(loss, phi, w, ridge, t, steps):
    """W(t) of Ẇ = −∇(loss(ΦWᵀ) + λ‖W‖²), in ``steps`` steps of the classical Runge-Kutta method."""

    def velocity(w):
        return -loss(phi @ w.T)[1].T @ phi - 2 * ridge * w

    step = t / steps
    for _ in range(steps):
        a = velocity(w)
        b = velocity(w + step / 2 * a)
        c = velocity(w + step / 2 * b)
        w = w + step / 6 * (a + 2 * b + 2 * c + velocity(w + step * c))
    return w


def small_start(cls, given, phi, n_components, scale):
    """(W(0), first eigenvalue of M): its leading eigenvectors, each s₀ long, by the definitions of flow.py."""
    n_rows, adjacency = len(phi), given.adjacency
    centred = np.eye(n_rows) - 1 / n_rows
    if cls is KernelSpectral:
        s, m = phi.T @ phi, phi.T @ (np.eye(n_rows) + adjacency) @ phi
    elif cls is KernelVICReg:
        target = centred - 0.05 * (np.diag(adjacency.sum(1)) - adjacency)
        s, m = phi.T @ centred @ phi, phi.T @ target @ phi
    else:
        s = m = phi.T @ centred @ adjacency @ centred @ phi / adjacency.sum()
    values, vectors = np.linalg.eigh(m)
    first = vectors[:, -1]
    length = np.sqrt(scale * values[-1]) / (first @ s @ first)
    return length * vectors[:, ::-1][:, :n_components].T, values[-1]


@pytest.mark.parametrize(("ridge", "time"), [(0.0, 1.0), (0.05, 2.5)])
@EVERY_FLOW
def test_stopped_in_time_it_is_gradient_descent_in_fine_steps(cls, ridge, time, problem, reference):
    given = problem(n_images=5, n_views=3)
    learner = cls(3, base_kernel=given.kernel, ridge=ridge, time=time, init_scale=1e-2)
    z = learner.fit_transform(given.rows, groups=given.groups)
    phi = np.linalg.cholesky(given.gram + 1e-13 * np.eye(len(z)))
    w, first = small_start(cls, given, phi, 3, 1e-2)
    loss = loss_of(cls, reference, given.adjacency)
    absolute = 2 * ridge * first
    t = -time * np.log(1e-2) / (8 * first)
    w = descended(loss, phi, w, absolute, t, 4000)
    np.testing.assert_allclose(learner.ridge_, absolute, rtol=1e-8)
    np.testing.assert_allclose(z @ z.T, phi @ w.T @ w @ phi.T, rtol=0, atol=1e-6 * np.abs(z @ z.T).max())
    np.testing.assert_allclose(learner.loss_, loss(phi @ w.T)[0] + absolute * (w**2).sum(), rtol=1e-6)


@EVERY_FLOW
def test_in_the_end_it_is_the_minimum(cls, problem):
    given = problem()
    at_last, late, early = (
        cls(4, base_kernel=given.kernel, ridge=0.1, time=time).fit(given.rows, groups=given.groups)
        for time in (None, 500.0, 1.0)
    )
    scale = np.abs(at_last.kernel(given.rows)).max()
    np.testing.assert_allclose(late.kernel(given.new), at_last.kernel(given.new), atol=1e-6 * scale)
    np.testing.assert_allclose(late.loss_, at_last.loss_, rtol=1e-8)
    np.testing.assert_allclose(late.eigenvalues_, at_last.eigenvalues_, rtol=1e-6)
    assert early.loss_ > late.loss_


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_barlow_twins_learns_its_modes_in_steps(ridge):
    """Of its limit a mode has half at τ, a hundredth a little before and 99 % a little later (Simon et al. 2023)."""
    gamma, start = np.array([1.0, 0.4, 0.1]), 1e-9
    tau = learned_at(gamma, start, ridge)
    if ridge == 0:
        np.testing.assert_allclose(tau, -np.log(gamma * start) / (8 * gamma))
    width = np.log(99) / (8 * gamma - 4 * ridge)
    for moment, part in ((-width, 0.01), (0 * width, 0.5), (width, 0.99)):
        q = [logistic(gamma[i : i + 1], start, ridge, t)[0] for i, t in enumerate(tau + moment)]
        np.testing.assert_allclose(q, part * (1 - ridge / (2 * gamma)) / gamma, rtol=1e-5)
    assert (width < 0.3 * tau).all()


def test_a_unit_of_time_half_learns_the_first_mode(problem):
    given = problem()
    learner = KernelBarlowTwins(1, base_kernel=given.kernel, ridge=0.0, time=1.0, init_scale=1e-6)
    learner.fit(given.rows, groups=given.groups)
    half = learner.eigenvalues_ * (learner.components_**2).sum()
    np.testing.assert_allclose(half, 0.5, atol=1e-6)


def test_streamed_rows_are_stopped_at_the_same_time(problem):
    given = problem()
    whole = KernelVICReg(3, base_kernel=given.kernel, basis=given.rows[::2], time=2.0)
    streamed = KernelVICReg(3, base_kernel=given.kernel, basis=given.rows[::2], time=2.0)
    whole.fit(given.rows, groups=given.groups)
    for rows in (slice(0, 8), slice(8, 24)):
        streamed.partial_fit(given.rows[rows], groups=given.groups[rows])
    np.testing.assert_allclose(streamed.kernel(given.new), whole.kernel(given.new), atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"time": 0.0}, "time == 0.0"), ({"time": np.inf}, "time == inf"), ({"init_scale": 1.0}, "init_scale == 1.0")],
)
def test_a_time_that_is_none_is_refused(settings, said, problem):
    given = problem()
    with pytest.raises(ValueError, match=said):
        KernelSpectral(base_kernel=given.kernel, **settings).fit(given.rows, groups=given.groups)
