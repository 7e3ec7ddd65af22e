"""LARS and the schedule equal the published ones; nothing of one dimension is decayed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.networks.optimizers import LARS, OptimizerSpec, build_optimizer, learning_rate

PUBLISHED = np.load(Path(__file__).parents[2] / "fixtures" / "published_optim.npz")


@pytest.mark.parametrize("weight_decay", ["1e-6", "0.1"])
def test_six_steps_of_lars_are_the_published_ones(weight_decay: str) -> None:
    def published(name: str) -> torch.Tensor:
        return torch.from_numpy(PUBLISHED[f"wd{weight_decay}_{name}"])

    weight, bias = (nn.Parameter(published(name).clone()) for name in ("W0", "b0"))
    optimizer = LARS([weight, bias], lr=0.0, weight_decay=float(weight_decay))
    for lr, weight_gradient, bias_gradient in zip(published("lr"), published("gW"), published("gb"), strict=True):
        weight.grad, bias.grad = weight_gradient.clone(), bias_gradient.clone()
        optimizer.param_groups[0]["lr"] = lr.item()
        optimizer.step()
    torch.testing.assert_close(weight.detach(), published("W6"), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bias.detach(), published("b6"), rtol=1e-12, atol=1e-12)


def test_the_schedule_is_the_published_one() -> None:
    spec = OptimizerSpec(base_lr=0.4)
    rates = [learning_rate(step, steps_per_epoch=7, epochs=20, spec=spec, batch_size=2048) for step in range(20 * 7)]
    published = PUBLISHED["schedule_epochs20_base0.4_batch2048_len7"]
    np.testing.assert_allclose(rates, published, rtol=1e-12, atol=1e-12)


def test_the_schedule_starts_at_its_peak_without_warm_up_and_keeps_rising_in_a_run_within_it() -> None:
    def rates(warmup_epochs: float, epochs: int) -> list[float]:
        spec = OptimizerSpec(base_lr=1.0, warmup_epochs=warmup_epochs)
        steps = range(epochs * 5)
        return [learning_rate(step, steps_per_epoch=5, epochs=epochs, spec=spec, batch_size=512) for step in steps]

    assert rates(0, 3)[0] == 2.0
    assert rates(0, 3) == sorted(rates(0, 3), reverse=True)
    assert rates(10, 2) == pytest.approx([2.0 * step / 50 for step in range(10)])
    assert rates(2, 2) == pytest.approx([2.0 * step / 10 for step in range(10)])


@pytest.mark.parametrize("zero", ["weight", "gradient"])
def test_lars_takes_a_plain_step_where_a_norm_is_zero(zero: str) -> None:
    weight = nn.Parameter(torch.zeros(2, 3) if zero == "weight" else torch.ones(2, 3))
    gradient = torch.ones(2, 3) if zero == "weight" else torch.zeros(2, 3)
    weight.grad = gradient.clone()
    before = weight.detach().clone()
    LARS([weight], lr=0.5).step()
    assert torch.equal(weight.detach(), before - 0.5 * gradient)


def test_lars_leaves_out_what_has_no_gradient() -> None:
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    used.grad = torch.ones(2, 2)
    optimizer = LARS([used, unused], lr=1.0)
    optimizer.step()
    assert torch.equal(unused.detach(), torch.ones(2, 2))
    assert not torch.equal(used.detach(), torch.ones(2, 2))
    assert unused not in optimizer.state
    LARS([unused], lr=1.0).step()


def spec(name: str, weight_decay: float = 0.1) -> OptimizerSpec:
    return OptimizerSpec.model_validate({"name": name, "base_lr": 0.05, "weight_decay": weight_decay})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3, bias=False))


@pytest.mark.parametrize("name", ["lars", "adamw", "sgd"])
def test_parameters_of_one_dimension_are_not_decayed(name: str) -> None:
    def after_one_step(weight_decay: float) -> dict[str, torch.Tensor]:
        module = network()
        for number, param in enumerate(module.parameters()):
            nn.init.constant_(param, 0.5 + number)
            param.grad = torch.linspace(-1, 1, param.numel()).view_as(param)
        build_optimizer(spec(name, weight_decay), module).step()
        return {key: param.detach() for key, param in module.named_parameters()}

    without, decayed = after_one_step(0.0), after_one_step(0.3)
    for key, param in without.items():
        assert torch.equal(param, decayed[key]) == (param.ndim == 1), key


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw", lambda params: torch.optim.AdamW(params, lr=0.05, weight_decay=0.0, foreach=False, fused=False)),
        ("sgd", lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, foreach=False, fused=False)),
    ],
)
def test_the_fused_optimisers_are_the_plain_ones(name: str, make: Callable[..., torch.optim.Optimizer]) -> None:
    ours, plain = network(), network()
    optimizers = build_optimizer(spec(name, 0.0), ours), make(plain.parameters())
    for step in range(5):
        for module, optimizer in zip((ours, plain), optimizers, strict=True):
            for param in module.parameters():
                param.grad = torch.linspace(-1, 2 - step, param.numel()).view_as(param)
            optimizer.step()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lars", "adamw", "sgd"])
def test_a_restored_optimiser_goes_on_bit_by_bit(name: str) -> None:
    def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        module(torch.linspace(-1, 1, 40).view(8, 5)).square().sum().backward()
        optimizer.step()

    module = network()
    optimizer = build_optimizer(spec(name), module)
    step(module, optimizer)
    copy = network()
    copy.load_state_dict(module.state_dict())
    restored = build_optimizer(spec(name), copy)
    restored.load_state_dict(deepcopy(optimizer.state_dict()))
    step(module, optimizer)
    step(copy, restored)
    for one, other in zip(module.parameters(), copy.parameters(), strict=True):
        assert torch.equal(one, other)
