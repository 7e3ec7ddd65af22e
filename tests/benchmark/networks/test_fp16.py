"""Training in half precision: the gradient scaler's state is a part of where a run is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.data import load
from benchmark.networks.base import Job, load_weights
from benchmark.networks.trained import Pretraining, Trained
from benchmark.runtime import checkpoints
from benchmark.runtime.signals import Interrupted, Requests
from benchmark.runtime.spec import Execution
from benchmark.suite.expand import load_suite
from tests.benchmark.probes.subjects import ALONE, AskedAfter


def fp16(tiny: Path) -> Trained:
    network = load_suite(str(tiny), ["method=vicreg", "precision=fp16", "epochs=3"]).cells[0].run.network
    assert isinstance(network, Trained)
    return network


def train(network: Trained, folder: Path, requests: Requests) -> dict[str, Any]:
    """To the end or to the stop; the newest checkpoint."""
    folder.mkdir(exist_ok=True)
    job = Job(folder, ALONE, requests, Execution(checkpoint_seconds=1e9, log_every=1))
    with suppress(Interrupted):
        network.make(load(network.data, Path("nowhere")), job)
    newest = checkpoints.newest_whole(folder / "checkpoints")
    assert newest is not None
    return checkpoints.load(newest, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _a_scale_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """It doubles every two steps, and begins where the first ones overflow: a scale that is lost is another one."""
    scaler = torch.amp.GradScaler

    def restless(device: str, enabled: bool = True) -> Any:
        return scaler(device, init_scale=2.0**12, growth_interval=2, enabled=enabled)

    monkeypatch.setattr(torch.amp, "GradScaler", restless)


def test_a_run_in_fp16_goes_on_with_its_scale(tiny: Path, tmp_path: Path) -> None:
    network = fp16(tiny)
    whole = train(network, tmp_path / "whole", Requests())
    stopped = train(network, tmp_path / "parts", AskedAfter(4))
    assert stopped["state"]["step"] == 5
    assert stopped["scaler"]["scale"] != 2.0**12
    on = train(network, tmp_path / "parts", Requests())
    assert on["scaler"] == whole["scaler"]
    expected, _ = load_weights(tmp_path / "whole")
    found, _ = load_weights(tmp_path / "parts")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_it_goes_on_where_the_restored_scaler_says(tiny: Path, tmp_path: Path) -> None:
    network = fp16(tiny)
    stopped = train(network, tmp_path, AskedAfter(4))
    job = Job(tmp_path, ALONE, Requests(), Execution())
    training = Pretraining(network, load(network.data, Path("nowhere")), job)
    assert training.step.scaler.state_dict() == stopped["scaler"]
