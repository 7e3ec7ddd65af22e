"""The textbook forms say the same as ours: what is compared is how, not what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark.cost.textbook import TEXTBOOKS, textbook_loss
from methods import registry


def _views(seed: int, count: int, dim: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(count, dim, dtype=torch.float64, generator=draws).requires_grad_() for _ in range(2))
    return first, second


@pytest.mark.parametrize("shape", [(20, 8), (12, 40)])
@pytest.mark.parametrize("name", TEXTBOOKS)
def test_value_and_gradient_are_ours(name: str, shape: tuple[int, int]) -> None:
    method = registry.get(name)
    options = method.resolve({}, shape[1])
    ours, theirs = _views(0, *shape), _views(0, *shape)
    value = method(ours, **options).value
    expected = textbook_loss(name, theirs, options)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    gradients = zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True)
    for gradient, their_gradient in gradients:
        torch.testing.assert_close(gradient, their_gradient, rtol=1e-9, atol=1e-14)


def test_every_method_with_options_of_its_own_has_one() -> None:
    # `mmd` takes any kernel: there is no one form to compare it with.
    assert set(registry.names()) - set(TEXTBOOKS) == {"mmd"}
