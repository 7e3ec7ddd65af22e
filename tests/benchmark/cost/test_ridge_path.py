"""Cost of transfer's fits: the path is the probe's, scikit-learn's is no better, and a process measures each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmark.cli import main
from benchmark.cost import ridge_path, sweep
from benchmark.cost.ridge_path import CLASSES, synthetic
from benchmark.cost.runner import Ended, alone
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
        return alone(function, **shape, ridges=5)

    monkeypatch.setattr(sweep, "alone", small)
    found = measured(Cell(scope="probe", method="ridge_path", embedding_dim=8, batch_size=300, reference=True))
    assert asked == [{"method": method, "n": 300, "features": 8} for method in ("ridge_path", "sklearn_path")]
    assert (found.status, found.reference_status, found.precision) == ("done", "done", "fp32")
    row = found.row()
    assert row["time_ratio"] == pytest.approx(row["reference_seconds"] / row["seconds"])
    assert row["objective_ratio"] > 0.999  # scikit-learn's is no lower at any ridge
    assert row["peak_rss_bytes"] > row["peak_bytes"] >= 0
    assert "Objective" in render([found], "md")


def test_ours_holds_a_few_copies_of_few_rows() -> None:
    ended = alone(ridge_path.fit, method="ridge_path", n=20_000, features=256, ridges=2)
    assert ended.status == "done", ended
    rows = 4 * 20_000 * 256
    assert rows / 2 < ended.result["measured"]["peak_bytes"] < 12 * rows


def test_a_method_that_a_probe_has_not_is_refused() -> None:
    done = CliRunner().invoke(main, ["cost", "--scope", "probe", "--method", "simclr"])
    assert done.exit_code == 2
    assert "--method: is 'simclr', which --scope probe has not; it has ridge_path" in " ".join(done.output.split())
