"""Legendre polynomials in dimension D, and the logarithms of gamma ratios they rest on."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kernels.legendre import (
    legendre_series,
    log_gamma_ratio,
    log_harmonic_dimensions,
    series_to_monomials,
)

T = torch.linspace(-1, 1, 21, dtype=torch.float64)


def legendre(degree, dim, t=T):
    """P_l(D; t) and its derivative, as the series of one term."""
    return legendre_series([0.0] * degree + [1.0], dim, t)


@pytest.mark.parametrize("dim", [3, 4, 9, 100])
@pytest.mark.parametrize("degree", range(9))
def test_is_the_normalised_gegenbauer_polynomial(degree, dim):
    half = mpmath.mpf(dim) / 2 - 1
    at_one = mpmath.gegenbauer(degree, half, 1)
    exact = [mpmath.gegenbauer(degree, half, t, zeroprec=60) / at_one for t in T.tolist()]
    np.testing.assert_allclose(legendre(degree, dim)[0], [float(value) for value in exact], atol=1e-12)


def test_low_degrees_in_closed_form():
    dim = 17
    torch.testing.assert_close(legendre(2, dim)[0], (dim * T**2 - 1) / (dim - 1))
    torch.testing.assert_close(legendre(3, dim)[0], ((dim + 2) * T**3 - 3 * T) / (dim - 1))


def test_on_the_circle_it_is_chebyshev():
    for degree in range(7):
        torch.testing.assert_close(legendre(degree, 2)[0], torch.cos(degree * torch.acos(T)), atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(2, 10**6))
def test_is_one_at_one_and_never_more(degree, dim):
    values, _ = legendre(degree, dim)
    assert values[-1].item() == pytest.approx(1, abs=1e-9)
    assert values.abs().max().item() <= 1 + 1e-9


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(3, 5000))
def test_derivative_is_of_the_degree_below_in_two_more_dimensions(degree, dim):
    _, derivative = legendre(degree, dim, T)
    below, _ = legendre(degree - 1, dim + 2, T)
    torch.testing.assert_close(derivative, below * (degree * (degree + dim - 2) / (dim - 1)), rtol=1e-9, atol=1e-8)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=7), st.integers(2, 10**5))
def test_series_and_monomials_agree(weights, dim):
    powers = series_to_monomials(weights, dim)
    value, _ = legendre_series(weights, dim, T)
    np.testing.assert_allclose(np.polynomial.polynomial.polyval(T.numpy(), powers), value, atol=1e-10)


@pytest.mark.parametrize("dim", [2, 3, 8192, 10**6])
def test_harmonic_dimensions(dim):
    exact = [1] + [(2 * k + dim - 2) * mpmath.binomial(k + dim - 3, k - 1) / k for k in range(1, 12)]
    exact = [1, *([2] * 11)] if dim == 2 else [float(value) for value in exact]
    np.testing.assert_allclose(log_harmonic_dimensions(11, dim), np.log(exact), rtol=1e-13, atol=1e-14)


@settings(deadline=None, max_examples=200)
@given(st.floats(0.5, 10**6), st.floats(0.01, 3))
def test_log_gamma_ratio_does_not_cancel(x, shift):
    with mpmath.workdps(40):
        exact = mpmath.loggamma(mpmath.mpf(x) + mpmath.mpf(shift)) - mpmath.loggamma(x)
        assert abs(log_gamma_ratio(x, shift) - exact) < 1e-12
