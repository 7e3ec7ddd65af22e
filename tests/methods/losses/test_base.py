"""What every loss takes, and what it hands to autograd."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from methods import auh, barlow_twins, registry, sfrik, sigreg, simclr, spectral, vicreg, zonal_ksd
from tests.methods.small import small


def test_upstream_factors_scale_the_gradient(make_views):
    batch = make_views(20, 8)
    value = sfrik(batch).value
    once = torch.autograd.grad(value, batch, retain_graph=True)
    thrice = torch.autograd.grad(3 * value, batch, retain_graph=True)
    torch.testing.assert_close(thrice, tuple(3 * gradient for gradient in once))
    torch.testing.assert_close(torch.autograd.grad(value, batch), once)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, batch)


@pytest.mark.parametrize("name", registry.names())
def test_second_derivatives_are_refused(name, make_views):
    batch = make_views(12, 6)
    value = small(name)(batch).value
    gradient, *_ = torch.autograd.grad(value, batch, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("name", registry.names())
def test_in_inference_mode_the_value_is_the_same(name, make_views):
    batch = make_views(12, 6)
    with torch.inference_mode():
        found = small(name)(batch).value
    assert found.item() == small(name)(batch).value.item()


@pytest.mark.parametrize("name", registry.names())
def test_only_the_gradients_are_kept_for_backward(name, make_views):
    batch, kept = make_views(12, 6), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        small(name)(batch)
    few = 3 * 12 * 4  # the few numbers an image that the outer function works on
    assert sorted(tensor.numel() for tensor in kept if tensor.numel() > few) == []
    assert [tensor.shape for tensor in kept if tensor.shape == (12, 6)] == [(12, 6)] * 2


@pytest.mark.parametrize("name", registry.names())
def test_runs_without_data(name):
    """Under FakeTensorMode, as memory is predicted: no value is ever looked at."""
    with FakeTensorMode():
        batch = [torch.randn(64, 256, requires_grad=True) for _ in range(2)]
        method = registry.get(name)
        method(batch).value.backward()
        assert batch[0].grad.shape == (64, 256)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([torch.randn(4, 3)], "at least 2 views"),
        ([torch.randn(4, 3), torch.randn(4, 5)], "of one shape"),
        ([torch.randn(4, 3), torch.randn(4, 3).double()], "of one shape, type and device"),
        (torch.randn(4, 3), r"not \(3,\) torch.float32 cpu$"),
        ([[1.0, 2.0]] * 2, r"a view must be a tensor \(N, D\), not list"),
        ([torch.ones(4, 3, dtype=torch.int64)] * 2, "floating-point"),
        ([torch.randn(4, 1)] * 2, "D >= 2"),
        ([torch.randn(1, 3)] * 2, "at least 2 rows"),
    ],
)
@pytest.mark.parametrize("loss", [sfrik, auh, vicreg, barlow_twins, simclr, spectral, zonal_ksd])
def test_views_that_do_not_match_are_refused(loss, views, message):
    with pytest.raises(ValueError, match=message):
        loss(views)


@pytest.mark.parametrize("loss", [sfrik, vicreg, simclr, zonal_ksd, sigreg])
def test_what_is_no_pairing_is_refused(loss, make_views):
    with pytest.raises(ValueError, match=r"a pairing is a Pairing, as of Pairing.centre\(\), not 'centre'"):
        loss(make_views(12, 6), pairing="centre")
