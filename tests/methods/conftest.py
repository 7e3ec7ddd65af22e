"""Views, and what it means that two losses of them are the same."""

import pytest
import torch

from methods import registry
from methods.engine import tiles


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
def small_tiles(monkeypatch):
    """Tiles of 64 rows in place of 1024, each of which is worked on in several blocks."""
    monkeypatch.setattr(tiles, "CPU_TILE", 64)
    monkeypatch.setattr(tiles, "CACHED", 64 * 10)


@pytest.fixture
def assert_same_derivative():
    """Two losses of the same views have the same value and the same gradients."""

    def check(views, ours, reference, rtol=1e-9):
        torch.testing.assert_close(ours, reference, rtol=rtol, atol=rtol)
        got = torch.autograd.grad(ours, views, retain_graph=True)
        expected = torch.autograd.grad(reference, views, retain_graph=True, allow_unused=True, materialize_grads=True)
        for one, other in zip(got, expected, strict=True):
            assert (one - other).norm() <= rtol * other.norm() + 1e-15

    return check


@pytest.fixture
def assert_is_the_textbook(assert_same_derivative):
    """A method's loss has the value and the gradients of its textbook form."""

    def check(name, views, form="auto", pairing=None, **options):
        method = registry.get(name)
        options = method.resolve(options, views[0].shape[1])
        ours = method(views, form=form, pairing=pairing, **options).value
        assert_same_derivative(views, ours, method.textbook(views, pairing=pairing, **options))

    return check
