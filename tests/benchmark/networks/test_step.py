"""The training step: compiled, and with one forward pass over both views, it is the same step."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from benchmark.networks.step import TrainingStep
from benchmark.runtime.process import Process
from benchmark.suite.expand import load_suite
from benchmark.suite.run import Run

TINY = ("data.source=digits", "data.image_size=null", "backbone.name=small_cnn", "backbone.width=8")
SHAPE = (32, 1, 8, 8)


def _run(*settings: str) -> Run:
    small = ("method=sfrik_l3", "embedding_dim=32", "batch_size=32", "projector.hidden=16", "precision=fp32", "seed=0")
    return load_suite("cifar10", [*TINY, *small, *settings]).cells[0].run


def _after_two_steps(run: Run, views: tuple[Tensor, ...]) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of two steps, and the parameters and statistics after them."""
    step = TrainingStep(run, 1, Process(torch.device("cpu")))
    for group in step.optimizer.param_groups:
        group["lr"] = 0.1
    return [step(views).value.item() for _ in range(2)], step.encoder.state_dict()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_step_is_the_eager_one_and_another_run() -> None:
    eager, compiled = _run(), _run("compile=true")
    assert eager.digest != compiled.digest
    assert "compile" not in eager.model_dump()
    views = tuple(torch.randn(SHAPE, generator=torch.Generator().manual_seed(view)) for view in range(2))
    (expected, states), (found, compiled_states) = _after_two_steps(eager, views), _after_two_steps(compiled, views)
    assert found == pytest.approx(expected, rel=1e-5)
    assert compiled_states.keys() == states.keys(), "a checkpoint of one could not be read by the other"
    torch.testing.assert_close(compiled_states, states, rtol=1e-3, atol=1e-5)


def test_a_joint_forward_pass_normalises_over_both_views() -> None:
    same = tuple([torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))] * 2)
    (apart, _), (joint, _) = (_after_two_steps(_run(f"joint_forward={value}"), same) for value in ("false", "true"))
    assert joint == pytest.approx(apart, rel=1e-5), "two equal views have the statistics of either"
    other = (same[0], same[0] + 1)
    (apart, _), (joint, _) = (_after_two_steps(_run(f"joint_forward={value}"), other) for value in ("false", "true"))
    assert joint != pytest.approx(apart, rel=1e-3)
