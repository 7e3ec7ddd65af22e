"""The training step: compiled, and with one forward pass over both views, it is the same step; fp16 is scaled."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from benchmark.networks.step import TrainingStep
from benchmark.networks.trained import Trained
from benchmark.runtime.process import Process
from benchmark.suite.expand import load_suite

TINY = ("data.source=digits", "data.image_size=null", "backbone.name=small_cnn", "backbone.width=8")
SHAPE = (32, 1, 8, 8)


def _network(*settings: str) -> Trained:
    small = ("method=sfrik_l3", "embedding_dim=32", "batch_size=32", "projector.hidden=16", "precision=fp32", "seed=0")
    network = load_suite("cifar10", [*TINY, *small, *settings]).cells[0].run.network
    assert isinstance(network, Trained)
    return network


def _after_two_steps(network: Trained, views: tuple[Tensor, ...]) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of two steps, and the parameters and statistics after them."""
    step = TrainingStep(network, 1, Process(torch.device("cpu")))
    for group in step.optimizer.param_groups:
        group["lr"] = 0.1
    return [step(views).value.item() for _ in range(2)], step.encoder.state_dict()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_step_is_the_eager_one_and_another_network() -> None:
    eager, compiled = _network(), _network("compile=true")
    assert eager.digest != compiled.digest
    views = tuple(torch.randn(SHAPE, generator=torch.Generator().manual_seed(view)) for view in range(2))
    (expected, states), (found, compiled_states) = _after_two_steps(eager, views), _after_two_steps(compiled, views)
    assert found == pytest.approx(expected, rel=1e-5)
    assert compiled_states.keys() == states.keys(), "a checkpoint of one could not be read by the other"
    torch.testing.assert_close(compiled_states, states, rtol=1e-3, atol=1e-5)


def test_a_joint_forward_pass_normalises_over_both_views() -> None:
    same = tuple([torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))] * 2)
    (apart, _), (joint, _) = (_after_two_steps(_network(f"joint_forward={value}"), same) for value in ("false", "true"))
    assert joint == pytest.approx(apart, rel=1e-5), "two equal views have the statistics of either"
    other = (same[0], same[0] + 1)
    (apart, _), (joint, _) = (
        _after_two_steps(_network(f"joint_forward={value}"), other) for value in ("false", "true")
    )
    assert joint != pytest.approx(apart, rel=1e-3)


def test_in_fp16_a_step_that_overflows_is_skipped_and_the_scale_is_part_of_the_state() -> None:
    network = _network("precision=fp16", "optimizer.name=sgd")
    step = TrainingStep(network, 1, Process(torch.device("cpu")))
    assert step.scaler.get_scale() == 2.0**16
    views = tuple(torch.randn(SHAPE, generator=torch.Generator().manual_seed(view)) for view in range(2))
    before = [param.detach().clone() for param in step.encoder.parameters()]
    step.backward(step.forward(views))
    next(step.encoder.parameters()).grad[0] = torch.inf
    step.update()
    assert all(torch.equal(param, old) for param, old in zip(step.encoder.parameters(), before, strict=True))
    assert step.scaler.get_scale() == 2.0**15
    again = TrainingStep(network, 1, Process(torch.device("cpu")))
    again.scaler.load_state_dict(step.scaler.state_dict())
    assert again.scaler.get_scale() == 2.0**15
    step.scaler.update(1.0)
    step(views)
    assert not all(torch.equal(param, old) for param, old in zip(step.encoder.parameters(), before, strict=True))


@pytest.mark.parametrize("optimizer", ["lars", "adamw", "sgd"])
def test_a_first_step_that_overflows_leaves_nothing_behind(optimizer: str) -> None:
    views = tuple(torch.randn(SHAPE, generator=torch.Generator().manual_seed(view)) for view in range(2))
    after = []
    for first_scale in (2.0**127, 1.0):  # the one overflows, the other does not
        network = _network("precision=fp16", f"optimizer.name={optimizer}", "method=vicreg")
        step = TrainingStep(network, 1, Process(torch.device("cpu")))
        if first_scale > 1:
            step.scaler = torch.amp.GradScaler("cpu", init_scale=first_scale)
            step(views)
            assert step.scaler.get_scale() < first_scale
        step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        step(views)
        after.append([param.detach().clone() for param in step.encoder.parameters()])
    torch.testing.assert_close(after[0], after[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["sigreg", "susreg", "visreg"])
def test_a_loss_draws_by_the_seed_and_the_steps_number_alone(method: str) -> None:
    views = tuple(torch.randn(SHAPE, generator=torch.Generator().manual_seed(view)) for view in range(2))
    first = TrainingStep(_network(f"method={method}"), 1, Process(torch.device("cpu")))
    again = TrainingStep(_network(f"method={method}"), 1, Process(torch.device("cpu")))
    other = TrainingStep(_network(f"method={method}", "seed=1"), 1, Process(torch.device("cpu")))
    other.encoder = first.encoder
    other.views = first.views
    state = torch.get_rng_state()
    losses = [first.forward(views, number).value.item() for number in (0, 1, 2)]
    assert len(set(losses)) == 3
    assert again.forward(views, 2).value.item() == losses[2], "whatever was drawn before"
    assert other.forward(views, 2).value.item() != losses[2]
    assert torch.equal(torch.get_rng_state(), state)
