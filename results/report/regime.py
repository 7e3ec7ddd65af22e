"""What the page draws of the kernel regime: spectra and neighbourhoods; the rest is of the suite's tables."""

from base64 import b64encode
from typing import Any

import numpy as np
import pandas as pd

from results.collect import Collection
from results.regime_rows import FEWEST_EIGENVALUES, MOST_SPECTRA, NEIGHBOURS, OVER, largest, several_ranks
from results.summary import natural


def regime(collection: Collection, summary: pd.DataFrame) -> dict[str, Any]:
    """``over``, the axes that there are figures of lines over; ``spectra`` by row's name; ``pictures`` by title."""
    axes = {column: text.replace("$", "") for column, text in OVER.items() if column in summary}
    return {"over": axes, "spectra": _spectra(collection, summary), "pictures": _pictures(collection)}


def _spectra(collection: Collection, summary: pd.DataFrame) -> dict[str, list[float]]:
    """Shares of the representation's variance by eigenvalue, of each configuration's first seed; none of too many."""
    details = collection.details("spectrum")
    runs = collection.runs[collection.runs["id"].isin(details.keys())]
    names = largest(summary).drop_duplicates("configuration")
    own = runs.sort_values("seed").drop_duplicates("configuration").merge(names[["configuration", "name"]])
    shares = {}
    for network, name in own.sort_values("name", key=natural)[["id", "name"]].to_numpy():
        # What is zero to rounding has no place on a logarithmic axis.
        found = [float(share) for share in details[network].get("eigenvalues", ()) if float(share) > 1e-12]
        if len(found) >= FEWEST_EIGENVALUES:
            shares[name] = found
    return shares if 1 < len(shares) <= MOST_SPECTRA and not several_ranks(names) else {}


def _pictures(collection: Collection) -> list[dict[str, Any]]:
    """A row a method that was run with several numbers of neighbours: its base kernel, then the induced ones.

    Cosines from −1 to 1 as bytes from 0 to 254, from below.
    """
    details = {name: picture for name, picture in collection.details("kernel_picture").items() if picture}
    if NEIGHBOURS not in collection.runs or not details:
        return []
    runs = collection.runs[collection.runs["id"].isin(details.keys()) & collection.runs[NEIGHBOURS].notna()]
    runs = runs.sort_values([NEIGHBOURS, "seed"]).drop_duplicates(["title", NEIGHBOURS])
    rows = []
    for title, own in runs.groupby("title", sort=True):
        if len(own) > 1:
            first, grids = details[own["id"].iloc[0]], {"Base kernel": details[own["id"].iloc[0]]["base"]}
            for name, count in own[["id", NEIGHBOURS]].to_numpy():
                grids[f"{int(count)} neighbours"] = details[name]["induced"]
            points = {
                key: np.asarray(first[key], dtype=float).tolist() for key in ("points", "labels", "origin", "edge")
            }
            rows.append({"title": title, **points, "grids": {key: _bytes(grid) for key, grid in grids.items()}})
    return rows


def _bytes(grid: Any) -> dict[str, Any]:
    values = np.asarray(grid, dtype=float)
    levels = np.round(127 * (1 + np.clip(values, -1, 1))).astype(np.uint8)
    return {"size": len(values), "cosines": b64encode(levels.tobytes()).decode()}
