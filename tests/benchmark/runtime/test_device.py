"""On a device that is not the CPU: the meta device holds no numbers, so whatever is read back to the host fails here.

So does a tensor made on the CPU where it should lie beside the others. Autocast does not know this device.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.networks.step import TrainingStep
from benchmark.networks.trained import Trained
from benchmark.runtime.process import Process
from benchmark.suite.expand import load_suite
from benchmark.views import batched as batch
from benchmark.views.recipes import PROBE_CROPS, RECIPES
from methods import registry

DEVICE = torch.device("meta")
NETWORKS = [cell.run.network for cell in load_suite("cifar10").cells]
STEPS = {network.method: network for network in NETWORKS if isinstance(network, Trained)}


@pytest.fixture(autouse=True, params=["fp32", "bf16"])
def autocast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off, or on for bf16, as far as the losses ask."""

    def no_autocast(*_: Any, **__: Any) -> nullcontext[None]:
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", no_autocast)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: request.param == "bf16")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.bfloat16)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("sfrik_l2", "primal"),
        ("sfrik_l2", "dual"),
        ("sfrik_l3", "dual"),
        ("auh", "dual"),
        ("simclr", "rowwise"),
        ("spectral", "auto"),
        ("vicreg", "primal"),
        ("vicreg", "dual"),
        ("barlow_twins", "primal"),
        ("barlow_twins", "dual"),
    ],
)
def test_a_loss_and_its_gradient_stay_there(method: str, form: str, count: int) -> None:
    views = [torch.empty(300, 512, device=DEVICE, requires_grad=True) for _ in range(count)]
    loss = registry.get(method)(views, form=form)
    loss.value.backward()
    made = [loss.value, *loss.terms.values(), *(view.grad for view in views)]
    assert {tensor.device for tensor in made if tensor is not None} == {DEVICE}
    assert all(view.grad is not None and view.grad.shape == view.shape for view in views)


@pytest.mark.parametrize("recipe", [*RECIPES.values(), PROBE_CROPS], ids=lambda recipe: recipe.name)
def test_views_are_made_there(recipe: Any) -> None:
    channels = 1 if recipe.name == "grey" else 3
    images = torch.empty(16, channels, 40, 36, dtype=torch.uint8, device=DEVICE)
    for view in recipe.views:
        room = torch.empty(view.count, 16, channels, view.side(32), view.side(32), device=DEVICE)
        batch.views(batch.steps(view, np.arange(16), 32, ("device",), (40, 36)), images, list(room))


@pytest.mark.parametrize("method", STEPS)
def test_a_whole_step_reads_nothing_back(method: str) -> None:
    step = TrainingStep(STEPS[method], 3, Process(DEVICE))
    views = tuple(torch.empty(8, 3, 32, 32, device=DEVICE) for _ in range(2))
    for _ in range(2):  # the second with the momentum of the first
        assert step(views).value.device == DEVICE
    assert {parameter.device for parameter in step.encoder.parameters()} == {DEVICE}
