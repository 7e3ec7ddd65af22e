"""The picture of a kernel in the plane: what is like one point, by the base kernel and by the induced ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from results import style
from results.collect import Collection

_AXIS = "regime.n_neighbors"


@dataclass(frozen=True, eq=False)
class Picture:
    """Cosines (G, G) with one point (2,) over a square of half-side ``edge``, of the base kernel and the induced one.

    ``points`` (N, 2) with ``labels`` (N,) are the training set.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.float64]
    origin: NDArray[np.float64]
    edge: float
    base: NDArray[np.float64]
    induced: NDArray[np.float64]

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Picture | None:
        """The picture that a measurement's details hold; None where they hold none."""
        try:
            names = ("points", "labels", "origin", "base", "induced")
            arrays = {name: np.asarray(details[name], dtype=float) for name in names}
            return cls(**arrays, edge=float(details["edge"]))
        except (KeyError, TypeError, ValueError):
            return None


def neighbourhoods(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """The cosine of k(x₀, x) over the plane: the base kernel, then the induced one by the number of neighbours related.

    A row a method that was run with several. The star is x₀; points of other classes are lighter.
    """
    found = {name: Picture.of(details) for name, details in collection.details("kernel_picture").items()}
    pictures = {name: picture for name, picture in found.items() if picture}
    runs = collection.runs
    if _AXIS not in runs:
        return None
    runs = runs[(runs["dataset"] == dataset) & runs["id"].isin(pictures.keys()) & runs[_AXIS].notna()]
    runs = runs.sort_values([_AXIS, "seed"]).drop_duplicates(["title", _AXIS])
    rows = [(title, own) for title, own in runs.groupby("title", sort=True) if len(own) > 1]
    if not rows:
        return None
    columns = 1 + max(len(own) for _, own in rows)
    figure, axes = style.grid(columns * len(rows), columns=columns, height=1.6)
    for row, (title, own) in enumerate(rows):
        first, *across = axes[row * columns : (row + 1) * columns]
        base = pictures[own["id"].iloc[0]]
        _draw(first, base, base.base, "" if row else "Base kernel")
        first.set_ylabel(str(title))
        for axis, name, neighbours in zip(across, own["id"], own[_AXIS], strict=False):
            _draw(axis, pictures[name], pictures[name].induced, "" if row else f"{int(neighbours)} neighbours")
        for unused in across[len(own) :]:
            unused.remove()
    figure.colorbar(axes[0].images[0], ax=axes, shrink=0.6, label="Cosine with the point marked by a star")
    return figure


def _draw(axis: Axes, picture: Picture, cosines: NDArray[np.float64], title: str) -> None:
    edge = picture.edge
    axis.imshow(cosines, extent=(-edge, edge, -edge, edge), origin="lower", cmap="PuOr", vmin=-1, vmax=1)
    same = picture.labels == picture.labels[np.linalg.norm(picture.points - picture.origin, axis=1).argmin()]
    for which, color in ((same, "black"), (~same, "0.55")):
        axis.plot(*picture.points[which].T, linestyle="none", marker=".", markersize=1.6, color=color)
    axis.plot(*picture.origin, marker="*", markersize=7, color="black", markeredgecolor="white", markeredgewidth=0.5)
    axis.set(title=title, xticks=[], yticks=[])
