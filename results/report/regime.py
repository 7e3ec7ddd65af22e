"""What the page draws of the kernel regime: spectra and neighbourhoods; the rest is of the suite's tables."""

from base64 import b64encode
from typing import Any

import numpy as np
import pandas as pd

from results.collect import Collection
from results.regime_rows import OVER, largest, pictures, spectra


def regime(collection: Collection, summary: pd.DataFrame) -> dict[str, Any]:
    """``over``, the axes that there are figures of lines over; ``spectra`` by row's name; ``pictures`` by title."""
    axes = {column: text.replace("$", "") for column, text in OVER.items() if column in summary}
    return {"over": axes, "spectra": spectra(collection, largest(summary)), "pictures": _pictures(collection)}


def _pictures(collection: Collection) -> list[dict[str, Any]]:
    """A row a method that was run with several numbers of neighbours: its base kernel, then the induced ones.

    Cosines from −1 to 1 as bytes from 0 to 254, from below.
    """
    rows = []
    for title, own in pictures(collection, collection.runs).items():
        first = next(iter(own.values()))
        points = {key: np.asarray(first[key], dtype=float).tolist() for key in ("points", "labels", "origin", "edge")}
        grids = {"Base kernel": first["base"]} | {f"{n} neighbours": picture["induced"] for n, picture in own.items()}
        rows.append({"title": title, **points, "grids": {key: _bytes(grid) for key, grid in grids.items()}})
    return rows


def _bytes(grid: Any) -> dict[str, Any]:
    values = np.asarray(grid, dtype=float)
    levels = np.round(127 * (1 + np.clip(values, -1, 1))).astype(np.uint8)
    return {"size": len(values), "cosines": b64encode(levels.tobytes()).decode()}
