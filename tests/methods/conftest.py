"""The losses written plainly, for autograd: what every form of ours is compared with."""

from itertools import combinations, permutations
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F


def normalised(views):
    return [F.normalize(view, dim=1) for view in views]


def alignment(views):
    pairs = list(combinations(views, 2))
    return sum((a - b).square().sum(1).mean() for a, b in pairs) / len(pairs)


def off_diagonal(matrix):
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)]


def kernel_mean(z, kernel, statistic="V"):
    gram = z @ z.T
    return kernel(gram if statistic == "V" else off_diagonal(gram)).mean()


def kernel_loss(views, kernel, align_weight, reg_weight=1.0, statistic="V", log=False):
    zs = normalised(views)
    means = torch.stack([kernel_mean(z, kernel, statistic) for z in zs])
    regulariser = (means.log() if log else means - kernel.constant).mean()
    return align_weight * alignment(zs) + reg_weight * regulariser


def nt_xent(views, temperature):
    """−log of the positive's share among all others, for every ordered pair of views."""
    z, count = torch.cat(normalised(views)), len(views[0])
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    losses = []
    for a, b in permutations(range(len(views)), 2):
        rows = torch.arange(count)
        losses.append(F.cross_entropy(logits[a * count : (a + 1) * count], b * count + rows))
    return torch.stack(losses).mean()


def nt_xent_sfrik(views, temperature):
    """The same with the other views of the image left out of the denominator."""
    z, count = torch.cat(normalised(views)), len(views[0])
    same = torch.eye(count, dtype=torch.bool).repeat(len(views), len(views))
    logits = z @ z.T / temperature
    negatives = logits.masked_fill(same, -torch.inf)
    losses = []
    for a, b in permutations(range(len(views)), 2):
        rows = slice(a * count, (a + 1) * count)
        positive = logits[rows, b * count : (b + 1) * count].diagonal()
        losses.append(torch.cat([positive[:, None], negatives[rows]], 1).logsumexp(1) - positive)
    return torch.stack(losses).mean()


def spectral(views, reg_weight=1.0):
    """HaoChen et al. 2021, averaged over ordered pairs of views."""
    pairs = list(permutations(normalised(views), 2))
    losses = [-2 * (a * b).sum(1).mean() + reg_weight * off_diagonal(a @ b.T).square().mean() for a, b in pairs]
    return sum(losses) / len(losses)


def vicreg(views, align_weight, variance_weight=25.0, covariance_weight=1.0):
    count, width = views[0].shape
    variance = covariance = 0
    for view in views:
        centred = view - view.mean(0)
        matrix = centred.T @ centred / (count - 1)
        variance = variance + F.relu(1 - (matrix.diagonal() + 1e-4).sqrt()).mean() / len(views)
        covariance = covariance + off_diagonal(matrix).square().sum() / width * 2 / len(views)
    return align_weight * alignment(views) + variance_weight * variance + covariance_weight * covariance


def barlow_twins(views, weight=0.0051):
    standard = [(view - view.mean(0)) / (view.var(0, unbiased=False) + 1e-5).sqrt() for view in views]
    losses = []
    for a, b in combinations(standard, 2):
        matrix = a.T @ b / len(a)
        losses.append((1 - matrix.diagonal()).square().sum() + weight * off_diagonal(matrix).square().sum())
    return sum(losses) / len(losses)


@pytest.fixture
def textbook():
    return SimpleNamespace(
        kernel_loss=kernel_loss,
        nt_xent=nt_xent,
        nt_xent_sfrik=nt_xent_sfrik,
        spectral=spectral,
        vicreg=vicreg,
        barlow_twins=barlow_twins,
    )


@pytest.fixture
def make_views():
    """(N, D, V) -> views that agree in part, float64, wanting their gradient."""

    def make(count, width, views=2, seed=0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        shared = torch.randn(count, width, generator=generator, dtype=torch.float64)
        noise = torch.randn(views, count, width, generator=generator, dtype=torch.float64)
        return [(shared + 0.5 * one + 0.1).to(dtype).requires_grad_() for one in noise]

    return make


@pytest.fixture
def assert_same_derivative():
    """Two losses of the same views have the same value and the same gradients."""

    def check(views, ours, reference, rtol=1e-9):
        torch.testing.assert_close(ours, reference, rtol=rtol, atol=rtol)
        got = torch.autograd.grad(ours, views, retain_graph=True)
        expected = torch.autograd.grad(reference, views, retain_graph=True)
        for one, other in zip(got, expected, strict=True):
            assert (one - other).norm() <= rtol * other.norm() + 1e-15

    return check
