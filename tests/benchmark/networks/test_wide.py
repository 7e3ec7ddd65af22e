"""Wide networks: what gradient descent finds is the closed form for their tangent kernel, the more so the wider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data import DataSet, DataSpec, load
from benchmark.networks.base import WEIGHTS_NAME, Diverged, Job
from benchmark.networks.wide import FrozenWide, WideNetwork
from benchmark.probes.tangent import KernelLimit, distance
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution
from benchmark.suite.config import Settings, merge, nest
from benchmark.suite.run import compose
from tests.benchmark.probes.subjects import make_subject

CPU = torch.device("cpu")
SETTINGS: Settings = {
    "method": "wide_vicreg",
    "embedding_dim": 4,
    "data": {"source": "digits", "limit": 20},
    "regime": {"n_views": 2, "ridge": 0.5},
    "mlp": {"width": 512},
    "descent": {"steps": 300, "rate": 0.4},
}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load(DataSpec(source="digits", limit=20), Path("nowhere"))


def network(**changed: Any) -> WideNetwork:
    settings = merge(SETTINGS, nest({key.replace("__", "."): value for key, value in changed.items()}))
    made = compose(settings, lambda data: data).network
    assert isinstance(made, WideNetwork)
    return made


def made(settings: WideNetwork, data: DataSet, folder: Path) -> FrozenWide:
    folder.mkdir(exist_ok=True)
    settings.make(data, Job(folder, Process(CPU), Requests(), Execution()))
    return settings.load(folder, data, CPU)


@pytest.mark.parametrize("method", ["wide_spectral", "wide_vicreg", "wide_barlow_twins"])
def test_the_wider_the_nearer_to_the_closed_form(method: str, data: DataSet, tmp_path: Path) -> None:
    distances = {}
    for width in (16, 1024):
        frozen = made(network(method=method, mlp__width=width), data, tmp_path / str(width))
        found = KernelLimit(limit_images=20).measure(make_subject(frozen, data, tmp_path))
        distances[width] = np.array([metric.value for metric in found.metrics])
        assert {(metric.protocol["kernel"], metric.protocol["of"]) for metric in found.metrics} == {
            (kernel, of) for kernel in ("own", "infinite") for of in ("gram", "predictions")
        }
    assert (distances[1024] < 0.5 * distances[16]).all()
    assert (distances[1024] < 0.4).all()


def test_the_modes_follow_the_flow_of_barlow_twins(data: DataSet, tmp_path: Path) -> None:
    frozen = made(network(method="wide_barlow_twins", mlp__width=2048, descent__rate=0.2), data, tmp_path)
    told = KernelLimit().measure(make_subject(frozen, data, tmp_path)).details
    flow, modes = np.array(told["flow"]), np.array(told["network"])
    assert modes[0, 0] < 1e-5 < 0.3 < modes[-1, 0]
    for mode in (0, 1):
        of_network, of_flow = (np.interp(0.5, way[:, mode] / way[-1, mode], told["time"]) for way in (modes, flow))
        np.testing.assert_allclose(of_network, of_flow, rtol=0.15)
        np.testing.assert_allclose(told["learned_at"][mode], of_flow, rtol=0.05)


def test_what_is_loaded_is_what_was_left(data: DataSet, tmp_path: Path) -> None:
    settings = network(mlp__depth=2, mlp__width=64, descent__steps=20)
    frozen = made(settings, data, tmp_path)
    again = settings.load(tmp_path, data, CPU)
    assert torch.equal(again.extract(data.test), frozen.extract(data.test))
    rows, _ = settings.rows(data.train)
    np.testing.assert_allclose(frozen.embed(rows).mean(axis=0), 0, atol=1e-5)
    assert distance(frozen.embed(rows), frozen.embed(rows), again.embed(rows), again.embed(rows)) == 0
    (tmp_path / WEIGHTS_NAME).write_bytes((tmp_path / WEIGHTS_NAME).read_bytes()[:200])
    with pytest.raises(UserError, match=r"weights\.safetensors: is damaged"):
        settings.load(tmp_path, data, CPU)


def test_steps_that_are_too_long_diverge_in_a_sentence(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"not finite at step \d+: lower descent\.rate"):
        made(network(method="wide_spectral", mlp__width=16, descent__rate=50.0), data, tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"regime__n_views": 1}, "is 1, must be 2 or more for wide_vicreg"),
        ({"loss": {"target": "graph"}}, "option 'target' is not known to kernel_vicreg"),
        ({"regime__ridge": 0.0}, "is 0.0"),
        ({"mlp__width": 0}, "is 0"),
    ],
)
def test_bad_settings_are_one_sentence(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        network(**changed)
