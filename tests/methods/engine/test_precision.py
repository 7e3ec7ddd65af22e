"""Value and gradient in float32 and in half precision against float64 on the same embeddings."""

from functools import cache

import pytest
import torch

from methods import registry

TWO_FORMS = ("sfrik_l1", "sfrik_l2", "spectral", "vicreg", "barlow_twins", "frossl", "wasserstein", "vne", "mmcr")
CASES = [(name, "auto") for name in registry.names()] + [(name, "primal") for name in TWO_FORMS]


def gradients(name, batch, **options):
    """Value and gradient, the loss scaled as a gradient scaler does: small gradients have no place in float16."""
    loss, scale = registry.get(name)(batch, **options), 2.0**10
    return loss.value, torch.cat(torch.autograd.grad(loss.value * scale, batch)).double() / scale


def embeddings(dtype):
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(256, 512, generator=generator)
    return [(shared + 0.5 * torch.randn(256, 512, generator=generator)).to(dtype) for _ in range(2)]


@cache
def in_float64(name, dtype):
    return gradients(name, [view.double().requires_grad_() for view in embeddings(dtype)])


def error_of(name, dtype, autocast=None, form="auto"):
    """Relative error of value and gradient against float64 for the same embeddings."""
    batch, (exact, expected) = embeddings(dtype), in_float64(name, dtype)
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        value, got = gradients(name, [view.requires_grad_() for view in batch], form=form)
    assert value.dtype == torch.float32
    return (value - exact).abs() / exact.abs(), (got - expected).norm() / expected.norm()


@pytest.mark.parametrize(("name", "form"), CASES)
def test_float32_is_right_to_its_rounding(name, form):
    value, gradient = error_of(name, torch.float32, form=form)
    assert value < 1e-6
    # VISReg's gradient jumps where two projections change places: rounding changes some. Through the inverse root of
    # MMCR's spectrum, of condition 30, eigenvectors bring their own rounding.
    assert gradient < {"visreg": 2e-4, "mmcr": 6e-6}.get(name, 3e-6)


@pytest.mark.parametrize(("name", "form"), CASES)
@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [
        (torch.bfloat16, None),
        (torch.float16, None),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_half_precision_keeps_the_gradient_within_a_percent(name, form, dtype, autocast):
    value, gradient = error_of(name, dtype, autocast, form)
    assert value < 2e-3
    assert gradient < 1e-2


@pytest.mark.parametrize("name", ["sfrik_l3", "simclr", "vicreg"])
def test_small_gradients_survive_float16_with_a_scaled_loss(name):
    """A gradient scaler multiplies the loss so that gradients do not vanish: the product comes before the rounding."""
    views = [torch.randn(64, 256, generator=torch.Generator().manual_seed(seed)).half() for seed in range(2)]
    _, expected = gradients(name, [view.double().requires_grad_() for view in views])
    views = [view.requires_grad_() for view in views]
    method = registry.get(name)
    value = method(views).value
    (value * 2.0**14).backward()
    got = torch.cat([view.grad for view in views]).double() / 2.0**14
    assert (got - expected).norm() < 1e-2 * expected.norm()
