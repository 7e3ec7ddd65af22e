"""Cost of the kernel regime: a process a measurement, figures that grow as they must."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.regimecost import FITS, Shape, SyntheticImages, measure_regime

SMALL = {"n_views": 4, "side": 8, "basis_size": 40, "n_components": 4}


def test_a_source_gives_a_block_the_same_images_whenever_it_is_asked() -> None:
    images = SyntheticImages(1000, 8)
    np.testing.assert_array_equal(images[512:1024], images[512:1024])
    assert images[512:1024].shape == (488, 8, 8)
    assert not np.array_equal(images[0:8], images[512:520])


def test_streaming_and_exact_in_their_own_processes() -> None:
    streamed, exact = (measure_regime(method, 2400, **SMALL) for method in ("streaming", "exact"))
    assert streamed["status"] == exact["status"] == "done", (streamed, exact)
    assert streamed["n"] == exact["n"] == 2400
    # The exact one holds the kernel matrix; the streaming one never more than a block of it.
    assert exact["peak_bytes"] > 2400**2 * 8 > streamed["peak_bytes"]
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
