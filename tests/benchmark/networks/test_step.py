"""The training step: compiled, and with one forward pass over both views, it is the same step; fp16 is scaled."""

from __future__ import annotations

from functools import partialmethod

import pytest
import torch
from torch import Tensor

from benchmark.networks.step import TrainingStep, Views
from benchmark.networks.trained import Trained
from benchmark.runtime.process import Process
from benchmark.suite.expand import load_suite
from benchmark.views import recipe
from methods import Pairing, registry

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


def test_a_compiled_step_is_the_eager_one_and_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the last stage, which is torch's alone: a C++ compiler, a second a kernel.
    graphs = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", graphs)
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


class Passes(torch.nn.Module):
    """An encoder that keeps the shapes it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        self.shapes.append(tuple(x_NCHW.shape))
        features_NF = x_NCHW.mean((2, 3))
        return features_NF, 2 * features_NF


@pytest.mark.parametrize(
    ("name", "joint", "expected"),
    [
        ("vicreg", False, [(4, 32), (4, 32)]),
        ("vicreg", True, [(8, 32)]),
        ("obow", True, [(4, 32), (8, 23), (20, 14)]),
        ("swav", True, [(8, 32), (24, 14)]),
        ("lejepa", True, [(8, 32), (24, 14)]),
    ],
)
def test_one_forward_pass_a_view_or_one_a_size(name: str, joint: bool, expected: list[tuple[int, int]]) -> None:
    assert recipe(name).joint is (joint and name != "vicreg")
    views = tuple(torch.randn(4, 3, side, side) for side in recipe(name).sides(32))
    encoder = Passes()
    embeddings, first = Views(encoder, joint)(views)
    assert encoder.shapes == [(count, 3, side, side) for count, side in expected]
    for view, embedding in zip(views, embeddings, strict=True):
        torch.testing.assert_close(embedding, 2 * view.mean((2, 3)))
    torch.testing.assert_close(first, views[0].mean((2, 3)))


def test_the_pairing_of_the_recipe_reaches_the_loss() -> None:
    step = TrainingStep(_network("augmentation=swav"), 1, Process(torch.device("cpu")))
    views = tuple(torch.randn(32, 1, side, side) for side in recipe("swav").sides(8))
    found, (embeddings, _) = step.forward(views), step.views(views)
    expected = registry.get("sfrik_l3").loss(embeddings, **step.network.loss, pairing=Pairing.swav())
    torch.testing.assert_close(found.value, expected.value, rtol=1e-4, atol=0)


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
