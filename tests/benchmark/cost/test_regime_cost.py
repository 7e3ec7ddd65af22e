"""Cost of the kernel regime: a process a measurement, figures that grow as they must."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.cost import fits
from benchmark.cost.cell import Cell
from benchmark.cost.regime import FITS, Shape, SyntheticImages, measure_regime
from benchmark.cost.sweep import measured
from results.cell_tables import line, render

SMALL = {"n_views": 4, "side": 8, "basis_size": 40, "n_components": 4}


def test_a_source_gives_a_block_the_same_images_whenever_it_is_asked() -> None:
    images = SyntheticImages(1000, 8)
    np.testing.assert_array_equal(images[512:1024], images[512:1024])
    assert images[512:1024].shape == (488, 8, 8)
    assert not np.array_equal(images[0:8], images[512:520])


def test_the_exact_form_holds_the_kernel_matrix_and_the_streaming_one_a_block_of_it() -> None:
    exact, streamed = measure_regime("exact", 2400, **SMALL), FITS["streaming"](Shape(2400, **SMALL))
    assert exact["status"] == "done", exact
    assert exact["n"] == 2400
    assert exact["peak_rss_bytes"] > exact["peak_bytes"] > 2400**2 * 8 > streamed["peak_bytes"]
    assert min(streamed["seconds"], streamed["views_seconds"], exact["seconds"]) > 0


@pytest.mark.parametrize("method", [method for method in FITS if method.startswith("sklearn")])
def test_the_neighbours_are_measured_alike(method: str) -> None:
    figures = FITS[method](Shape(200, **SMALL))
    assert figures["seconds"] > 0
    assert figures["peak_bytes"] > 0


def test_what_fails_is_said() -> None:
    failed = measure_regime("streaming", 64, **{**SMALL, "n_components": 0})
    assert failed["status"] == "failed"
    assert "n_components" in failed["message"]
    with pytest.raises(ValueError, match="there are exact, streaming"):
        measure_regime("approximate", 64)


def test_a_fit_is_a_cell_beside_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int]] = []

    def small(method: str, n: int, n_components: int) -> dict[str, object]:
        asked.append((method, n, n_components))
        return measure_regime(method, n, **{**SMALL, "n_components": n_components})

    monkeypatch.setattr(fits, "measure_regime", small)
    found = measured(Cell(scope="fit", method="streaming", embedding_dim=4, batch_size=200, reference=True))
    assert asked == [("streaming", 200, 4), ("sklearn_nystroem_pca", 200, 4)]
    assert (found.status, found.reference_status) == ("done", "done")
    assert found.precision == "fp64"
    row = found.row()
    assert row["time_ratio"] == pytest.approx(row["reference_seconds"] / row["seconds"])
    assert line(found).endswith("as fast as scikit-learn")
    assert "Time, scikit-learn" in render([found], "md")
    assert row["peak_rss_bytes"] > row["peak_bytes"] > 0
