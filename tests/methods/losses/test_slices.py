"""The sliced tests: published values and gradients, what is drawn, and what they tend to."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import hyp1f1

from methods import Pairing, sigreg, susreg, visreg

FIXTURES = Path(__file__).parents[2] / "fixtures"
SLICED = {"sigreg": sigreg, "susreg": susreg, "visreg": visreg}
TERMS = ("centre", "scale", "shape")


def only(term):
    """This term of VISReg alone."""
    return partial(visreg, weight=1.0, **{f"{name}_weight": float(name == term) for name in TERMS})


# Beginning of a case -> the loss, and how close.
CASES = {
    "sigreg,": (partial(sigreg, weight=1.0), 1e-9),
    "lejepa:": (sigreg, 1e-9),
    "susreg ": (partial(susreg, weight=1.0), 1e-9),
    "visreg centre": (only("centre"), 1e-9),
    "visreg scale": (only("scale"), 1e-9),
    "visreg shape (quantiles in float32)": (only("shape"), 1e-6),
    "LeJEPA ": (partial(sigreg, pairing=Pairing.centre(2, 6)), 1e-9),
}


def published():
    """(case, its loss, its views and directions, value, gradients) of both fixtures."""
    for file in ("frontier_losses.npz", "multicrop_losses.npz"):
        with np.load(FIXTURES / file) as stored:
            for entry in json.loads(str(stored["meta"])):
                for beginning, (loss, tolerance) in CASES.items():
                    if entry["case"].startswith(beginning):
                        shape, views = entry["shape"], range(entry["views"])
                        arrays = [stored[f"view{v}_{shape}"] for v in views], stored[f"directions{shape}"]
                        gradients = [stored[f"grad{v}_{entry['k']}"] for v in views]
                        name = f"{entry['case']} {entry['N']}x{entry['D']}"
                        yield pytest.param(loss, *arrays, entry["loss"], gradients, tolerance, id=name)


PUBLISHED = list(published())


@pytest.mark.parametrize(("loss", "views", "directions", "value", "gradients", "tolerance"), PUBLISHED)
def test_value_and_gradient_as_published(loss, views, directions, value, gradients, tolerance):
    views = [torch.tensor(view, requires_grad=True) for view in views]
    found = loss(views, directions=torch.tensor(directions))
    found.value.backward()
    assert found.value.item() == pytest.approx(value, abs=tolerance, rel=0)
    for view, gradient in zip(views, gradients, strict=True):
        np.testing.assert_allclose(view.grad, gradient, rtol=0, atol=tolerance)


def test_every_case_is_compared():
    assert len(PUBLISHED) == 3 * 6 + 2


@pytest.mark.parametrize("loss", SLICED.values(), ids=SLICED)
def test_the_weight_leaves_one_part_alone(loss, make_views, assert_same_derivative):
    views = make_views(20, 9)
    invariance, test = loss(views, weight=0.0), loss(views, weight=1.0)
    assert test.terms["alignment"] == 0
    assert invariance.value == invariance.terms["alignment"]
    assert_same_derivative(views, loss(views, weight=0.3).value, 0.7 * invariance.value + 0.3 * test.value)
    squared = (views[0] - views[1]).square().sum(1).mean() / 4
    if loss is susreg:
        squared = (1 - torch.nn.functional.cosine_similarity(*views)).mean() / 2
    assert_same_derivative(views, invariance.value, squared / (1 if loss is susreg else 9))


@pytest.mark.parametrize("loss", SLICED.values(), ids=SLICED)
def test_directions_follow_from_the_seed_and_nothing_else(loss, make_views, monkeypatch):
    views, state = make_views(20, 9), torch.get_rng_state()
    value = partial(loss, weight=1.0, slices=300)
    assert value(views, seed=1).value == value(views, seed=1).value != value(views, seed=2).value
    assert torch.equal(torch.get_rng_state(), state)
    drawn = value(views, seed=1).value
    assert value([view.float() for view in views], seed=1).value.item() == pytest.approx(drawn.item(), rel=1e-5)
    # However many are done at once: three blocks of 128 here, five of 64 above.
    monkeypatch.setattr("methods.engine.slices.LEAST_DIRECTIONS", 128)
    torch.testing.assert_close(value(views, seed=1).value, drawn)


@pytest.mark.parametrize("loss", SLICED.values(), ids=SLICED)
def test_given_directions_count_by_their_direction(loss, make_views, assert_same_derivative):
    views = make_views(20, 9)
    directions = torch.randn(9, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, scaled = (loss(views, directions=d).value for d in (directions, 3 * directions))
    assert_same_derivative(views, ours, scaled)
    halves = [loss(views, directions=half).value for half in directions.split(100, 1)]
    assert_same_derivative(views, ours, sum(halves) / 2)


@pytest.mark.parametrize("parts", [2**6, 2**9])
@pytest.mark.parametrize("loss", SLICED.values(), ids=SLICED)
def test_parts_of_any_size_give_the_same(loss, parts, make_views, monkeypatch, assert_same_derivative):
    views = make_views(50, 9)
    whole = loss(views, slices=100).value
    for name, value in (
        ("ENTRIES", {"cpu": parts, "cuda": parts}),
        ("LEAST_ENTRIES", {"cpu": parts}),
        ("MOST_ROWS", 13),
    ):
        monkeypatch.setattr(f"methods.engine.slices.{name}", value)
    assert_same_derivative(views, loss(views, slices=100).value, whole)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (sigreg, {"weight": 1.5}, r"weight must lie in \[0, 1\], not 1.5"),
        (visreg, {"weight": -0.1}, r"weight must lie in \[0, 1\]"),
        (sigreg, {"slices": 0}, "slices must be a whole number of at least 1, not 0"),
        (susreg, {"knots": 1}, "knots must be a whole number of at least 2, not 1"),
        (susreg, {"t_max": 0.0}, r"t_max must lie in \(0, 10\], not 0.0"),
        (sigreg, {"form": "dual"}, "no form 'dual': it takes auto, sliced"),
        (susreg, {"directions": [[1.0] * 3] * 9}, r"directions must be a tensor \(D, slices\), not list"),
        (visreg, {"directions": torch.ones(8, 3)}, r"directions must be a matrix \(D, slices\), D = 9, not \(8, 3\)"),
    ],
)
def test_what_is_out_of_range_is_refused(loss, options, message, make_views):
    with pytest.raises(ValueError, match=message):
        loss(make_views(12, 9), **options)


def test_susreg_is_noise_on_the_mmd_of_the_kernel_that_slicing_induces():
    """E_a SUSReg/N = √(2π) (E k̄ − b_0), k̄(c) = ₁F₁(½; d/2; −(1 − c)); the variance falls as 1/slices."""
    count, dim, seeds = 20, 12, 64
    x = torch.randn(count, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = partial(susreg, [x, x], weight=1.0, t_max=8.0, knots=65)
    draws = {
        slices: np.array([value(slices=slices, seed=seed).value.item() / count for seed in range(seeds)])
        for slices in (64, 1024)
    }

    def induced(cosine):
        return hyp1f1(0.5, dim / 2, cosine - 1)

    z = torch.nn.functional.normalize(x).numpy()
    # The mean over the sphere: cosines have the density (1 − c²)^((d − 3)/2), and c = cos θ.
    angle, weight = np.polynomial.legendre.leggauss(100)
    angle, weight = (angle + 1) * math.pi / 2, weight * np.sin((angle + 1) * math.pi / 2) ** (dim - 2)
    uniform = (weight * induced(np.cos(angle))).sum() / weight.sum()
    limit = math.sqrt(2 * math.pi) * (induced(z @ z.T).mean() - uniform)
    error = draws[1024].std(ddof=1) / math.sqrt(seeds)
    assert error < 0.02 * limit
    assert abs(draws[1024].mean() - limit) < 4 * error
    # The ratio of two variances of 64 draws is within a factor of two of its expectation, but for one time in 300.
    assert 8 < draws[64].var() / draws[1024].var() < 32


@pytest.mark.parametrize("times", [2, 8])
def test_the_balance_of_sigreg_falls_with_the_batch(times, make_views):
    """T carries N: every row `times` over, the same distribution, weighs `times` as much, and the invariance as before.

    At λ = 1/(1 + N g) the two pull alike, g the ratio of their gradients over the batch at N = 1.
    """

    def pulls(views):
        """Norms of the gradients of the invariance and of the test, by the distribution: summed over equal rows."""
        for weight in (0.0, 1.0):
            gradients = torch.cat(torch.autograd.grad(sigreg(views, weight=weight).value, views))
            yield times_of(views) * gradients.view(2, times_of(views), -1)[:, 0].norm()

    def times_of(views):
        return len(views[0]) // 20

    once = make_views(20, 9)
    often = [view.detach().repeat(times, 1).requires_grad_() for view in once]
    torch.testing.assert_close(sigreg(often, weight=1.0).value, times * sigreg(once, weight=1.0).value)
    (invariance, test), (same_invariance, stronger) = pulls(once), pulls(often)
    torch.testing.assert_close(same_invariance, invariance)
    g = (test / invariance / 20).item()
    balance = 1 / (1 + 20 * times * g)
    torch.testing.assert_close((1 - balance) * same_invariance, balance * stronger)
    assert balance < 1 / (1 + 20 * g)
