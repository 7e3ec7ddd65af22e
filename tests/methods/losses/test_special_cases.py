"""What is a special case of what, in value and in gradient."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from methods import auh, mmd, sfrik, simclr, simclr_sfrik, spectral
from methods.kernels.kernel import legendre, polynomial, quadratic, rbf


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_degree_two_is_the_mean_and_second_moment_penalty(form, make_views, assert_same_derivative):
    views, (b1, b2) = make_views(20, 9), (1.0, 40.0)
    width = views[0].shape[1]

    def penalty(x):
        z = F.normalize(x, dim=1)
        moment = z.T @ z / len(z)
        identity = torch.eye(width, dtype=z.dtype) / width
        return b1 * z.mean(0).square().sum() + b2 * width / (width - 1) * (moment - identity).square().sum()

    ours = sfrik(views, weights=(b1, b2), align_weight=0.0, form=form).value
    assert_same_derivative(views, ours, sum(map(penalty, views)) / 2)


def test_uniformity_is_the_log_of_the_rbf_statistic_up_to_its_constant(make_views, assert_same_derivative):
    views = make_views(20, 9)
    kernel = rbf(2.5, 9)
    ours = auh([views[0], views[0]], align_weight=0.0).value
    statistic = mmd([views[0], views[0]], kernel=kernel, statistic="U", align_weight=0.0).value
    assert_same_derivative(views[:1], ours, (statistic + kernel.constant).log())


def test_u_and_v_statistics_differ_by_the_diagonal(make_views, assert_same_derivative):
    views, kernel, count = make_views(20, 9), rbf(2.0, 9), 20
    v, u = (mmd(views, kernel=kernel, statistic=s, align_weight=0.0).value for s in "VU")
    diagonal = kernel.value_at_one - kernel.constant
    assert_same_derivative(views, u, (count * v - diagonal) / (count - 1))


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_quadratic_kernel_is_the_spectral_contrastive_loss(form, make_views, assert_same_derivative):
    """On views that agree: −2 + mean_{i≠j} (z_i·z_j)² is the U-statistic of t² up to constants."""
    (x, _), kernel = make_views(20, 9), quadratic(9)
    ours = spectral([x, x], form=form).value
    statistic = mmd([x, x], kernel=kernel, statistic="U", align_weight=1.0, form=form).value
    assert_same_derivative([x], ours, statistic + kernel.constant - 2)


def test_quadratic_kernel_over_all_views_is_within_and_across(make_views, assert_same_derivative):
    """The quadratic kernel on the pooled views = its sums within views + the spectral loss's negatives across them."""
    views, count = make_views(15, 7), 15
    kernel = quadratic(7)
    within = mmd(views, kernel=kernel, statistic="U", align_weight=0.0).value + kernel.constant
    z = [F.normalize(view, dim=1) for view in views]
    positives = (z[0] * z[1]).sum(1)
    across = spectral(views).value + 2 * positives.mean()
    pooled = F.normalize(torch.cat(views), dim=1)
    total = (pooled @ pooled.T).square().sum() - 2 * count - 2 * positives.square().sum()
    assert_same_derivative(views, (within + across) * 2 * count * (count - 1), total)


def test_truncated_rbf_tends_to_rbf(make_views):
    views, kernel = make_views(20, 9), rbf(2.5, 9)
    exact = mmd(views, kernel=kernel).value
    (gradient, _) = torch.autograd.grad(exact, views)
    errors = []
    for degree in (2, 6, 12, 30):
        value = mmd(views, kernel=kernel.truncate(degree)).value
        errors.append((value - exact).abs() + (torch.autograd.grad(value, views)[0] - gradient).norm())
    assert all(later < 0.2 * earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 1e-12


def test_sfrik_is_the_mmd_of_its_kernel_and_an_equal_polynomial(make_views, assert_same_derivative):
    views, width = make_views(20, 9), 9
    ours = sfrik(views, weights=(1.0, 40.0), align_weight=0.3).value
    powers = legendre((1.0, 40.0), width).monomials
    shifted = polynomial([powers[0] + 40 / (width - 1), *powers[1:]], width)
    assert_same_derivative(views, ours, mmd(views, kernel=shifted, align_weight=0.3).value)


def test_both_infonce_agree_on_two_views_only(make_views, assert_same_derivative):
    views = make_views(20, 9, views=3)
    assert_same_derivative(views[:2], simclr(views[:2]).value, simclr_sfrik(views[:2], temperature=0.1).value)
    assert simclr(views).value > simclr_sfrik(views, temperature=0.1).value


def test_infonce_is_alignment_and_the_log_of_an_exponential_kernel(make_views):
    """The contrast term is a log mean over rows of the kernel exp((t − 1)/τ)."""
    views, temperature = make_views(20, 9), 0.5
    loss = simclr(views, temperature=temperature)
    z = F.normalize(torch.cat(views), dim=1)
    rows = rbf(1 / (2 * temperature), 9)(z @ z.T).fill_diagonal_(0).sum(1)
    torch.testing.assert_close(loss.terms["contrast"], rows.log().mean().detach())


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 40.0), (1.0, 40.0, 40.0)])
def test_the_range_in_which_the_value_is_read(weights):
    """A collapsed batch gives Σ b_l; N uniform points Σ b_l / N in expectation."""
    count, width = 64, 16
    collapsed = torch.ones(count, width, dtype=torch.float64)
    assert sfrik([collapsed] * 2, weights=weights).value.item() == pytest.approx(sum(weights))
    draws = []
    for seed in range(200):
        z = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        draws.append(sfrik([z, z], weights=weights).value.item())
    mean, error = torch.tensor(draws).mean().item(), torch.tensor(draws).std().item() / math.sqrt(len(draws))
    assert abs(mean - sum(weights) / count) < 4 * error
