"""Kernels: coefficients against mpmath, values against series, and the algebra."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kernels.kernel import (
    MAKERS,
    bandlimited,
    distance,
    exponential,
    heat,
    induced,
    legendre,
    make_kernel,
    polynomial,
    quadratic,
    rbf,
)
from methods.kernels.legendre import log_harmonic_dimensions

mpmath.mp.dps = 50
DIMENSIONS = (3, 4, 7, 128, 8192, 10**6)
DEGREES = range(21)


def harmonics(degree, dim):
    """dim(l, D), exactly."""
    if degree == 0:
        return mpmath.mpf(1)
    return mpmath.mpf(2 * degree + dim - 2) / degree * mpmath.binomial(degree + dim - 3, degree - 1)


def leading(degree, dim):
    """dim(l, D) 2^(−l) Γ(D/2)/Γ(l + D/2)."""
    half = mpmath.mpf(dim) / 2
    return harmonics(degree, dim) * mpmath.gamma(half) / mpmath.gamma(degree + half) / mpmath.mpf(2) ** degree


def exponential_coefficient(degree, dim, rate):
    """exp(κ t): MATH in closed form by ₀F₁."""
    rate = mpmath.mpf(rate)
    order = degree + mpmath.mpf(dim) / 2
    return leading(degree, dim) * rate**degree * mpmath.hyp0f1(order, rate**2 / 4)


def mean_power(dim, power):
    """E[t^k] for t = u·v, u and v uniform on S^(D−1)."""
    return (
        mpmath.rf(mpmath.mpf(1) / 2, power // 2) / mpmath.rf(mpmath.mpf(dim) / 2, power // 2) if power % 2 == 0 else 0
    )


def power_coefficient(degree, dim, power):
    if degree > power:
        return mpmath.mpf(0)
    return leading(degree, dim) * mpmath.ff(power, degree) * mean_power(dim + 2 * degree, power - degree)


def distance_coefficient(degree, dim, p, ceiling):
    """c − (2 − 2t)^(p/2), by the beta integral of the l-th derivative."""
    half, side = mpmath.mpf(p) / 2, (mpmath.mpf(dim) - 1) / 2 + degree
    moment = mpmath.mpf(2) ** (half - degree) * mpmath.beta(side + half - degree, side) / mpmath.beta(side, side)
    term = -(mpmath.mpf(2) ** half) * (-1) ** degree * mpmath.ff(half, degree) * moment * leading(degree, dim)
    return term + (mpmath.mpf(ceiling) if degree == 0 else 0)


def induced_power(power, dim):
    """a_k of ₁F₁(½; D/2; −(1 − t)) = Σ a_k t^k, by its k-th derivative at 0 and Kummer's transformation."""
    half = mpmath.mpf(dim) / 2
    leading = mpmath.rf(mpmath.mpf(1) / 2, power) / mpmath.rf(half, power) / mpmath.factorial(power)
    return leading * mpmath.hyp1f1(power + mpmath.mpf(1) / 2, half + power, -1)


def reference_coefficients(dim):
    """(kernel, its coefficients from mpmath) for every member of the family."""
    ceiling, time = 2.5, 1.5 / dim
    yield rbf(2.5, dim), [exponential_coefficient(k, dim, 5) * mpmath.exp(-5) for k in DEGREES]
    yield rbf(50.0, dim), [exponential_coefficient(k, dim, 100) * mpmath.exp(-100) for k in DEGREES]
    yield exponential(0.5, dim), [exponential_coefficient(k, dim, 2) for k in DEGREES]
    yield quadratic(dim), [power_coefficient(k, dim, 2) for k in DEGREES]
    powers = [1.0, 0.5, 0.0, 2.0, 0.0, 0.0, 0.25]
    yield (
        polynomial(powers, dim),
        [sum(a * power_coefficient(k, dim, n) for n, a in enumerate(powers)) for k in DEGREES],
    )
    yield distance(0.5, dim, ceiling), [distance_coefficient(k, dim, 0.5, ceiling) for k in DEGREES]
    yield distance(1.0, dim, ceiling), [distance_coefficient(k, dim, 1, ceiling) for k in DEGREES]
    yield heat(time, dim), [mpmath.exp(-mpmath.mpf(time) * k * (k + dim - 2)) * harmonics(k, dim) for k in DEGREES]
    yield legendre([1.0, 40.0, 40.0], dim), [mpmath.mpf(b) for b in [0, 1, 40, 40] + [0] * 17]
    yield bandlimited(2, dim), [harmonics(k, dim) if k <= 2 else mpmath.mpf(0) for k in DEGREES]
    powers = [induced_power(k, dim) for k in range(60)]
    yield induced(dim), [sum(a * power_coefficient(k, dim, n) for n, a in enumerate(powers) if n >= k) for k in DEGREES]


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_coefficients_agree_with_mpmath(dim):
    for kernel, reference in reference_coefficients(dim):
        for computed, exact in zip(kernel.coefficients(20), reference, strict=True):
            assert abs(mpmath.mpf(computed) - exact) <= 1e-10 * abs(exact), (kernel, exact)


@pytest.mark.parametrize("degree", range(5))
def test_distance_coefficients_are_the_projection_integrals(degree):
    dim, p, half = 5, 1.3, mpmath.mpf(3) / 2  # half = D/2 − 1

    def weight(t):
        return (1 - t**2) ** (half - mpmath.mpf(1) / 2)

    def integrand(t):
        basis = mpmath.gegenbauer(degree, half, t) / mpmath.gegenbauer(degree, half, 1)
        return (3 - (2 - 2 * t) ** (mpmath.mpf(p) / 2)) * basis * weight(t)

    exact = harmonics(degree, dim) * mpmath.quad(integrand, [-1, 0, 1]) / mpmath.quad(weight, [-1, 1])
    assert distance(p, dim, 3.0).coefficients(degree)[degree] == pytest.approx(float(exact), rel=1e-9)


def test_rbf_weights_become_poisson_in_high_dimension():
    published = [0.00675, 0.0337, 0.0843, 0.1405, 0.1756, 0.1755]
    np.testing.assert_allclose(rbf(2.5, 8192).coefficients(5), published, atol=5e-5)


FAMILY = {
    "legendre": {"weights": [1.0, 40.0, 40.0]},
    "rbf": {"s": 2.5},
    "exponential": {"tau": 0.5},
    "quadratic": {},
    "polynomial": {"coefficients": [0.5, 0.0, 1.0, 0.25]},
    "distance": {"p": 1.0},
    "heat": {"tau": 0.05},
    "bandlimited": {"degree": 2},
    "induced": {},
}
SMOOTH = [name for name in MAKERS if name != "distance"]  # whose slope at 1 is finite


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dim", [3, 64])
def test_value_at_one_constant_and_derivative(name, dim):
    kernel = make_kernel(name, dim, **FAMILY[name])
    t = torch.linspace(-0.999, 0.999, 41, dtype=torch.float64)
    step = 1e-6
    slope = (kernel(t + step) - kernel(t - step)) / (2 * step)
    torch.testing.assert_close(kernel.derivative(t), slope, rtol=1e-5, atol=1e-6)
    assert kernel.value_at_one == pytest.approx(kernel(torch.ones(1, dtype=torch.float64)).item(), rel=1e-7, abs=1e-7)
    assert kernel.constant == pytest.approx(kernel.coefficients(3)[0])
    assert (kernel.coefficients(20) >= -1e-12).all()


@pytest.mark.parametrize("name", MAKERS)
def test_value_is_the_sum_of_its_legendre_series(name):
    kernel = make_kernel(name, 16, **FAMILY[name])
    t = torch.linspace(-0.9, 0.6, 31, dtype=torch.float64)
    tolerance = 2e-3 if name == "distance" else 1e-9  # its coefficients decay slowly
    torch.testing.assert_close(kernel.truncate(60)(t), kernel(t), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dim", [3, 12, 256, 8192, 32768])
def test_the_induced_kernel_is_the_mean_over_slices(dim):
    """∫ exp(−(1 − t) a²) ρ_D(a) da with 64 Gauss nodes, its derivative, and ₁F₁."""
    t = np.linspace(-1, 1, 9)
    nodes, quadrature = scipy.special.roots_gegenbauer(64, (dim - 2) / 2)
    slices = np.exp(-np.outer(1 - t, nodes**2)) * quadrature / quadrature.sum()
    value, derivative = induced(dim).value_and_derivative(torch.tensor(t))
    np.testing.assert_allclose(value, slices.sum(1), rtol=1e-13)
    np.testing.assert_allclose(derivative, slices @ nodes**2, rtol=1e-12)
    exact = [float(mpmath.hyp1f1(0.5, mpmath.mpf(dim) / 2, c - 1)) for c in t]
    np.testing.assert_allclose(value, exact, rtol=1e-14)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dim", [2, 3, 64])
def test_the_stein_transform_is_that_of_the_gegenbauer_equation(name, dim):
    kernel = make_kernel(name, dim, **FAMILY[name])
    stein, step = kernel.stein(), 1e-5
    t = torch.linspace(-0.99, 0.99, 41, dtype=torch.float64)
    curvature = (kernel.derivative(t + step) - kernel.derivative(t - step)) / (2 * step)
    expected = ((t**2 - 1) * curvature + (dim - 1) * t * kernel.derivative(t)) / 2
    scale = stein.value_at_one
    torch.testing.assert_close(stein(t) / scale, expected / scale, rtol=1e-7, atol=1e-9)
    slope = (stein(t + step) - stein(t - step)) / (2 * step)
    torch.testing.assert_close(stein.derivative(t) / scale, slope / scale, rtol=1e-7, atol=1e-8)
    degrees = np.arange(21.0)
    halves = kernel.coefficients(20) * degrees * (degrees + dim - 2) / 2
    np.testing.assert_allclose(stein.coefficients(20), halves, rtol=1e-10, atol=1e-15 * scale)
    at_one = (dim - 1) / 2 * kernel.derivative(torch.ones(1, dtype=torch.float64)).item()
    assert stein.value_at_one == pytest.approx(at_one, rel=1e-12)


@pytest.mark.parametrize("name", MAKERS)
def test_normalised_kernels(name):
    kernel, t = make_kernel(name, 16, **FAMILY[name]), torch.linspace(-1, 1, 21, dtype=torch.float64)
    normalised, unit = kernel.normalised(), kernel.unit_mmd()
    assert normalised.value_at_one == pytest.approx(1)
    torch.testing.assert_close(normalised(t) * kernel.value_at_one, kernel(t))
    assert unit.value_at_one - unit.constant == pytest.approx(1)
    spread = kernel.value_at_one - kernel.constant
    torch.testing.assert_close((unit.value_at_one - unit(t)) * spread, kernel.value_at_one - kernel(t))


def test_a_heat_kernel_is_normalised_where_its_value_at_one_overflows():
    dim = 8192
    kernel = heat(2 / dim, dim)
    with pytest.raises(ValueError, match="too small"):
        _ = kernel.value_at_one
    normalised = kernel.normalised()
    assert normalised.value_at_one == pytest.approx(1)
    logs = [mpmath.log(harmonics(k, dim)) - mpmath.mpf(2) / dim * k * (k + dim - 2) for k in range(2000)]
    total = mpmath.log(mpmath.fsum(mpmath.exp(log) for log in logs))
    for degree in (0, 500, 1000, 1100):
        exact = float(mpmath.exp(logs[degree] - total))
        assert normalised.coefficients(1100)[degree] == pytest.approx(exact, rel=1e-9)


def test_truncated_rbf_tends_to_rbf():
    kernel = rbf(2.5, 64)
    t = torch.linspace(-1, 1, 101, dtype=torch.float64)
    errors = [(kernel.truncate(degree)(t) - kernel(t)).abs().max().item() for degree in (2, 5, 10, 20, 40)]
    assert all(after < before for before, after in itertools.pairwise(errors))
    assert errors[-1] < 1e-12


def test_distance_kernel_is_the_distance():
    u, v = torch.nn.functional.normalize(torch.randn(2, 9, 6, dtype=torch.float64), dim=-1)
    kernel = distance(1.5, 6, 4.0)
    torch.testing.assert_close(kernel((u * v).sum(1)), 4 - (u - v).norm(dim=1) ** 1.5)


def test_default_ceiling_of_the_distance_kernel_removes_its_constant():
    assert abs(distance(1.0, 300).constant) < 1e-14


def test_value_at_one_is_the_sum_of_all_coefficients():
    assert heat(0.02, 20).value_at_one == pytest.approx(heat(0.02, 20).coefficients(60).sum(), rel=1e-12)
    assert rbf(3.0, 20).value_at_one == pytest.approx(rbf(3.0, 20).coefficients(80).sum(), rel=1e-12)


weights = st.lists(st.floats(0, 100), min_size=1, max_size=9)
dimensions = st.integers(2, 2000)
factors = st.floats(0, 50, allow_subnormal=False)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-8)


@settings(deadline=None, max_examples=60)
@given(weights, weights, dimensions, factors)
def test_kernels_add_and_scale(first, second, dim, factor):
    k, m = legendre(first, dim), legendre(second, dim, constant=0.5)
    t = torch.linspace(-1, 1, 21, dtype=torch.float64)
    total = factor * (k + m) * 2.0
    close(total(t), 2 * factor * (k(t) + m(t)))
    close(total.derivative(t), 2 * factor * (k.derivative(t) + m.derivative(t)))
    np.testing.assert_allclose(total.coefficients(9), 2 * factor * (k.coefficients(9) + m.coefficients(9)), rtol=1e-12)
    assert total.constant == pytest.approx(factor)
    assert total.value_at_one == pytest.approx(2 * factor * (k.value_at_one + m.value_at_one))


@settings(deadline=None, max_examples=60)
@given(weights, dimensions, st.integers(0, 10))
def test_truncating_keeps_the_first_coefficients(values, dim, degree):
    kernel = legendre(values, dim)
    kept = kernel.truncate(degree).coefficients(12)
    np.testing.assert_array_equal(kept[: degree + 1], kernel.coefficients(degree))
    assert not kept[degree + 1 :].any()
    assert kernel.truncate(20).truncate(degree) == kernel.truncate(degree)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 20), st.integers(3, 10**6))
def test_rbf_coefficients_are_positive_and_sum_to_one(s, dim):
    coefficients = rbf(s, dim).coefficients(200)
    assert (coefficients >= 0).all()
    assert math.fsum(coefficients) == pytest.approx(1, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(weights, dimensions)
def test_a_kernel_is_bounded_by_its_value_at_one(values, dim):
    kernel = legendre(values, dim)
    t = torch.linspace(-1, 1, 33, dtype=torch.float64)
    assert (kernel(t).abs() <= kernel.value_at_one * (1 + 1e-9) + 1e-9).all()


def test_legendre_polynomials_are_orthogonal_with_the_harmonic_dimensions():
    dim, count = 3, 400
    nodes, quadrature = np.polynomial.legendre.leggauss(count)
    t = torch.tensor(nodes)
    basis = np.stack([legendre([0.0] * (k - 1) + [1.0], dim)(t).numpy() for k in range(1, 9)])
    gram = basis * quadrature / 2 @ basis.T
    np.testing.assert_allclose(gram, np.diag(np.exp(-log_harmonic_dimensions(8, dim)[1:])), atol=1e-12)


def test_kernels_are_values():
    assert rbf(2.5, 16) == rbf(2.5, 16)
    assert hash(rbf(2.5, 16)) == hash(rbf(2.5, 16))
    assert rbf(2.5, 16) != rbf(2.5, 17)
    with pytest.raises(AttributeError):
        rbf(2.5, 16).dim = 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_kernel("gauss", 8), "unknown kernel 'gauss': there is legendre, rbf"),
        (lambda: make_kernel("rbf", 8), "missing a required argument: 's'"),
        (lambda: make_kernel("rbf", 8, s=1.0, tau=2.0), "its parameters are s"),
        (lambda: rbf(-1.0, 8), "must be positive"),
        (lambda: rbf(1.0, 1), "at least 2"),
        (lambda: legendre([], 8), "at least one weight"),
        (lambda: legendre([1.0, -2.0], 8), "not negative"),
        (lambda: distance(2.0, 8), "strictly between 0 and 2"),
        (lambda: distance(1.0, 8, 0.1), "ceiling"),
        (lambda: heat(1e-9, 3).value_at_one, "too small"),
        (lambda: heat(1e-6, 10**6)(torch.zeros(1)), "too small"),
        (lambda: polynomial([0.0, 0.0, -1.0], 8), "not a positive definite"),
        (lambda: rbf(1.0, 8) + rbf(1.0, 9), "different dimensions"),
        (lambda: -1.0 * rbf(1.0, 8), "at least 0"),
        (lambda: distance(1.0, 8).stein(), "Distance has no Stein transform"),
        (lambda: bandlimited(0, 8), "whole number of at least 1, not 0"),
        (lambda: bandlimited(1.5, 8), "whole number of at least 1, not 1.5"),
        (lambda: bandlimited(500, 8192), "more harmonics in dimension 8192"),
    ],
)
def test_what_is_no_kernel_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
