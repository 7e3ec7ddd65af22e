"""A cell of scope ``fit``: the kernel regime's estimators, beside scikit-learn's nearest."""

from __future__ import annotations

from typing import Any

from benchmark.cost.cell import Cell
from benchmark.cost.regime import measure_regime
from results.cell import Measurement
from results.record import Quartiles

# Fits that are measured, and scikit-learn's nearest to each.
REFERENCES = {"exact": "sklearn_kernel_pca", "streaming": "sklearn_nystroem_pca"}
PRECISION = "fp64"
TITLES = {"exact": "Kernel spectral, exact", "streaming": "Kernel spectral, streamed on landmarks"}


def costs(cell: Cell) -> dict[str, Any]:
    """The figures of a cell of scope ``fit``: N rows, D components; where asked for, scikit-learn's beside them."""
    ours = measure_regime(cell.method, cell.batch_size, n_components=cell.embedding_dim)
    found = {"status": ours["status"], "message": ours.get("message", ""), "memory_counter": "numpy arrays"}
    found |= {"measured": _measurement(ours)}
    if cell.reference:
        theirs = measure_regime(REFERENCES[cell.method], cell.batch_size, n_components=cell.embedding_dim)
        found |= {"reference": _measurement(theirs), "reference_status": theirs["status"]}
    return found


def _measurement(figures: dict[str, Any]) -> Measurement | None:
    if figures["status"] != "done":
        return None
    seconds = Quartiles(median=figures["seconds"], q1=figures["seconds"], q3=figures["seconds"], n=1)
    return Measurement(seconds=seconds, peak_bytes=figures["peak_bytes"], peak_rss_bytes=figures["peak_rss_bytes"])
