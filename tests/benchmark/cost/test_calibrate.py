"""The constants of the cost model: measured, kept by the device's name, and read by what runs there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.cost import calibrate
from benchmark.cost.calibrate import Choice, choices, entry
from benchmark.runtime.calibration import constants_of, constants_path, keep_constants
from benchmark.runtime.process import process
from benchmark.runtime.provenance import now, provenance
from methods.engine.forms import Constants, calibrated, constants, covariance_costs
from results.record import Quartiles
from tests.benchmark.conftest import Command

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_constants_are_those_of_the_device_that_they_were_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert constants_of(CPU) == Constants()
    path = keep_constants(CPU, Constants(7.0, 9.0))
    assert path == constants_path(CPU)
    assert constants_of(CPU) == Constants(7.0, 9.0)
    with process("cpu") as this:
        assert constants() == Constants(7.0, 9.0)
        record = provenance(this, now(), 1, 0.0)
    assert record.cost_model == {"entry": 7.0, "eigen": 9.0}
    assert constants() == Constants()
    monkeypatch.setattr("benchmark.runtime.calibration.device_name", lambda device: "another")
    assert constants_of(CPU) == Constants()
    path.with_name("another.json").write_text("{}")
    with pytest.warns(UserWarning, match="is left out"):
        assert constants_of(CPU) == Constants()


def test_entry_is_what_makes_the_model_say_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(calls: object, device: object, budget: float) -> list[Quartiles]:
        return [Quartiles(median=seconds, q1=0, q3=0, n=1) for seconds in (3.0, 2.0)]

    monkeypatch.setattr(calibrate, "in_turns", taken)
    found = {choice.method: choice for choice in choices(CPU, [(64, 48)])}
    assert found.keys() == {"sfrik_l2", "vicreg", "barlow_twins"}
    with calibrated(Constants(entry=found["vicreg"].entry)):
        costs = covariance_costs(64, 48, 1)
    assert costs["dual"] / costs["primal"] == pytest.approx(1.5)
    assert entry([Choice("vicreg", 1, 1, 2, 1, "dual", value) for value in (-3.0, 5.0, 90.0)]) == 5.0
    assert entry([Choice("vicreg", 1, 1, 2, 1, "dual", -3.0)]) == 0.0
    assert Choice("vicreg", 1, 1, 2, 1, "dual", -3.0).slower_than_best == 2.0


def test_the_command_measures_and_keeps_them(spherebench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SHAPES", {"cpu": ((32, 32),)})
    monkeypatch.setattr(calibrate, "_EIGEN_SIDES", {"cpu": (32,)})
    monkeypatch.setattr(calibrate, "_PRODUCT_SIDE", {"cpu": 64})
    monkeypatch.setattr(calibrate, "_BUDGET", 0.0)
    result = spherebench("cost", "--calibrate", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert str(constants_path(CPU)) in result.output
    kept = constants_of(CPU)
    assert kept != Constants()
    assert kept.eigen > 0
