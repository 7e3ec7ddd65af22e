"""Alignment, uniformity and effective rank against their formulas and known cases."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmark.probes.geometry import RANKME_EPSILON, alignment, rankme, uniformity


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_spectrum(sigma: list[float], rows: int, columns: int) -> Tensor:
    """A matrix (rows, columns) with these singular values, the others zero."""
    left = torch.linalg.qr(gaussian(rows, len(sigma), seed=1).double()).Q
    right = torch.linalg.qr(gaussian(columns, len(sigma), seed=2).double()).Q
    return (left * torch.tensor(sigma, dtype=torch.float64)) @ right.T


def test_alignment_between_its_extremes() -> None:
    z_ND = gaussian(8, 5)
    assert alignment([(z_ND, 3 * z_ND)]) == pytest.approx(0, abs=1e-6)
    assert alignment([(z_ND, -z_ND)]) == pytest.approx(4)
    orthogonal = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 7.0]])
    assert alignment([orthogonal]) == pytest.approx(2)


def test_alignment_is_a_mean_over_images_not_over_batches() -> None:
    a_ND, b_ND = gaussian(9, 4), gaussian(9, 4, seed=1)
    whole = alignment([(a_ND, b_ND)])
    assert alignment([(a_ND[:7], b_ND[:7]), (a_ND[7:], b_ND[7:])]) == pytest.approx(whole, rel=1e-6)


def test_uniformity_is_the_published_formula() -> None:
    z_ND = gaussian(50, 6)
    published = F.pdist(F.normalize(z_ND).double()).pow(2).mul(-2).exp().mean().log().item()
    assert uniformity(z_ND) == pytest.approx(published, abs=1e-6)


def test_uniformity_of_one_point_and_of_opposite_points() -> None:
    assert uniformity(gaussian(1, 6).expand(20, 6)) == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(-8)


def test_uniformity_of_uniform_points_in_high_dimension() -> None:
    assert uniformity(gaussian(200, 20_000)) == pytest.approx(-4, abs=0.02)


@pytest.mark.parametrize(("rows", "columns"), [(40, 12), (12, 40), (20, 20)])
def test_rankme_of_equal_singular_values_counts_them(rows: int, columns: int) -> None:
    assert rankme(with_spectrum([3.0] * 5, rows, columns)) == pytest.approx(5, rel=1e-3)


def test_rankme_of_full_and_of_lowest_rank() -> None:
    assert rankme(torch.eye(16)) == pytest.approx(16, rel=1e-4)
    assert rankme(torch.ones(30, 16)) == pytest.approx(1, abs=1e-3)


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=8))
def test_rankme_is_the_published_formula(sigma: list[float]) -> None:
    p = [value / sum(sigma) + RANKME_EPSILON for value in sigma] + [RANKME_EPSILON] * (10 - len(sigma))
    expected = math.exp(-sum(value * math.log(value) for value in p))
    assert rankme(with_spectrum(sigma, 10, 15)) == pytest.approx(expected, rel=1e-5)


def test_rankme_ignores_scale_and_rotation() -> None:
    z_ND = gaussian(60, 10) * torch.linspace(0.01, 2, 10)
    rotation_DD = torch.linalg.qr(gaussian(10, 10, seed=3)).Q
    assert rankme(100 * z_ND @ rotation_DD) == pytest.approx(rankme(z_ND), rel=1e-5)
