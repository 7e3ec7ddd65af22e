"""Cost of the kernel regime: figures that grow as they must, in a process of their own where that is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmark.cost import fits, sweep
from benchmark.cost.fits import REFERENCES, SyntheticImages, fit
from benchmark.cost.runner import Ended, alone
from benchmark.cost.sweep import Cell, measured
from results.cell import line, render

SMALL = {"n_views": 4, "side": 8, "basis_size": 40, "n_components": 4}


def test_a_source_gives_a_block_the_same_images_whenever_it_is_asked() -> None:
    images = SyntheticImages(1000, 8)
    np.testing.assert_array_equal(images[512:1024], images[512:1024])
    assert images[512:1024].shape == (488, 8, 8)
    assert not np.array_equal(images[0:8], images[512:520])


def test_the_exact_form_holds_the_kernel_matrix_and_the_streaming_one_a_block_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fits, "SECONDS", 0)  # once is enough here
    ended, streamed = (
        alone(fit, method="exact", n=2400, **SMALL),
        fit(method="streaming", n=2400, **SMALL),
    )
    assert ended.status == "done", ended
    exact = ended.result
    assert exact["peak_rss_bytes"] > exact["peak_bytes"] > 2400**2 * 8 > streamed["peak_bytes"]
    assert min(streamed["seconds"]["median"], exact["seconds"]["median"]) > 0


@pytest.mark.parametrize("method", REFERENCES.values())
def test_the_neighbours_are_measured_alike(method: str) -> None:
    figures = fit(method, n=200, **SMALL)
    assert figures["seconds"]["median"] > 0
    assert figures["peak_bytes"] > 0


def test_what_fails_is_said() -> None:
    failed = alone(json.loads, s="{")
    assert (failed.status, failed.result) == ("failed", {})
    assert "Expecting property name" in failed.message


def test_what_cannot_allocate_is_out_of_memory() -> None:
    assert alone(json.loads, s='{"bytes": 64}') == Ended("done", result={"bytes": 64})
    ended = alone(np.ones, shape=2**50)  # more than any machine has
    assert ended.status == "out-of-memory"
    assert "Unable to allocate" in ended.message


def test_a_fit_is_a_cell_beside_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def small(function: Callable[..., dict[str, Any]], **shape: Any) -> Ended:
        asked.append(shape)
        return Ended("done", result=function(**SMALL | shape))

    monkeypatch.setattr(sweep, "alone", small)
    found = measured(Cell(scope="fit", method="streaming", embedding_dim=4, batch_size=200, reference=True))
    methods = ("streaming", "sklearn_nystroem_pca")
    assert asked == [{"method": method, "n": 200, "n_components": 4} for method in methods]
    assert (found.status, found.reference_status) == ("done", "done")
    assert found.precision == "fp64"
    row = found.row()
    assert row["time_ratio"] == pytest.approx(row["reference_seconds"] / row["seconds"])
    assert line(found).endswith("as fast as scikit-learn")
    assert "Time, scikit-learn" in render([found], "md")
    assert row["peak_rss_bytes"] > 1e7 > row["peak_bytes"] > 0  # what is imported is no part of a fit


def test_a_fit_in_float32_tells_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "alone", lambda function, **shape: Ended("done", result=function(**SMALL | shape)))
    found = measured(Cell(scope="fit", method="exact_float32", embedding_dim=4, batch_size=600))
    assert (found.status, found.precision) == ("done", "fp32")
    assert found.value_error is not None
    assert 0 < found.value_error < 1e-4
    assert f"{found.value_error:.0e}" in render([found], "md")
