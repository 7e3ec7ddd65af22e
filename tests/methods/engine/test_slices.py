"""What the sliced tests are made of: multiples of angles, directions, and the target on the sphere."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import roots_legendre

from methods.engine.slices import Directions, Multiples, Waves
from methods.losses.slices import LARGEST_KNOT, uniform_target


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 5))
def test_products_are_all_multiples_and_their_adjoint(highest, directions, rows):
    generator = torch.Generator().manual_seed(highest)
    theta = torch.randn(directions, rows, generator=generator, dtype=torch.float64)
    multiples = Multiples.up_to(highest)
    waves, by_products = Waves(multiples, theta), multiples.by_products(theta)
    waves.fill_(theta)
    k = torch.arange(highest + 1, dtype=torch.float64)
    expected = torch.stack([(theta[..., None] * k).sin(), (theta[..., None] * k).cos()], -1)  # (A, R, K, 2)
    sums = (waves.products().flatten(1) @ by_products).view(directions, -1, 2)
    torch.testing.assert_close(sums, expected.sum(1), rtol=0, atol=1e-12)
    coefficients = torch.randn(directions, highest + 1, 2, generator=generator, dtype=torch.float64)
    out = torch.empty_like(theta)
    waves.combine_(out, (coefficients.flatten(1) @ by_products.T).view_as(waves.products()))
    torch.testing.assert_close(out, torch.einsum("arkx,akx->ar", expected, coefficients), rtol=0, atol=1e-11)


def test_seventeen_knots_need_ten_arrays():
    multiples = Multiples.up_to(16)
    assert 2 * (multiples.small + multiples.large) == 10


ANGLES, WEIGHTS = roots_legendre(3000)


@given(st.integers(2, 20_000), st.floats(0, LARGEST_KNOT))
def test_the_target_is_the_characteristic_function_of_a_coordinate(dim, t):
    """E cos(t c) over the sphere: c = cos θ with density sin^(d − 2) θ."""
    angles = (ANGLES + 1) * math.pi / 2
    density = WEIGHTS * np.sin(angles) ** (dim - 2)
    expected = (density * np.cos(t * np.cos(angles))).sum() / density.sum()
    target = uniform_target(torch.tensor([t], dtype=torch.float64), dim)
    assert target.item() == pytest.approx(expected, abs=1e-10)


def test_directions_are_uniform_and_their_first_do_not_depend_on_how_many():
    view = torch.empty(2, 12)
    few, many = (Directions(count, 3).whole(view) for count in (100, 5000))
    assert few.shape == (12, 100)
    assert torch.equal(few[:, :64], many[:, :64])
    torch.testing.assert_close(many.norm(dim=0), torch.ones(5000))
    second = many @ many.T / 5000
    assert (second - torch.eye(12) / 12).abs().max() < 5 / 12 / math.sqrt(5000) * 2
