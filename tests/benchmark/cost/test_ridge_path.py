"""Cost of transfer's fits: the path is the probe's, scikit-learn's is no better, and each is measured apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmark.cli import main
from benchmark.cost import ridge_path, sweep
from benchmark.cost.ridge_path import CLASSES, synthetic
from benchmark.cost.runner import Ended
from benchmark.cost.sweep import Cell, measured
from results.cell import render


def test_the_rows_are_centred_of_mean_square_one_and_always_the_same() -> None:
    x_NF, labels_N = synthetic(600, 8)
    assert x_NF.dtype == np.float32
    assert float((x_NF**2).mean()) == pytest.approx(1, rel=1e-5)
    assert np.abs(x_NF.mean(axis=0)).max() < 1e-5
    assert np.bincount(labels_N).tolist() == [6] * CLASSES
    np.testing.assert_array_equal(x_NF, synthetic(600, 8)[0])


def test_a_path_is_a_cell_beside_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def small(function: Callable[..., dict[str, Any]], **shape: Any) -> Ended:
        asked.append(shape)
        return Ended("done", result=function(**shape, ridges=5))

    monkeypatch.setattr(sweep, "alone", small)
    found = measured(Cell(scope="probe", method="ridge_path", embedding_dim=8, batch_size=300, reference=True))
    ours, theirs = asked
    assert ours == {"method": "ridge_path", "n": 300, "features": 8}
    assert (theirs["method"], len(theirs["targets"])) == ("sklearn_path", 5)
    assert (found.status, found.reference_status, found.precision) == ("done", "done", "fp32")
    row = found.row()
    assert row["time_ratio"] == pytest.approx(row["reference_seconds"] / row["seconds"])
    assert 0.999 < row["objective_ratio"] < 1.1  # no lower, and as near as float32 lets it come
    assert 1 <= row["reference_ridges"] <= row["ridges"] == 5
    assert row["peak_rss_bytes"] > row["peak_bytes"] >= 0
    assert "Objective" in render([found], "md")


def test_a_reference_is_ended_when_its_time_is_over() -> None:
    found = ridge_path.fit("sklearn_path", 300, 4, ridges=5, targets=[0.0] * 5, budget=0.0)
    assert len(found["objectives"]) == 1


def test_a_method_that_a_probe_has_not_is_refused() -> None:
    done = CliRunner().invoke(main, ["cost", "--scope", "probe", "--method", "simclr"])
    assert done.exit_code == 2
    assert "--method: is 'simclr', which --scope probe has not; it has ridge_path" in " ".join(done.output.split())
