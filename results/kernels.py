"""The picture of a kernel in the plane: what is like one point, by the base kernel and by the induced ones."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from results import style
from results.collect import Collection
from results.record import KERNEL_NAME

_AXIS = "regime.n_neighbors"


@dataclass(frozen=True, eq=False)
class Picture:
    """Cosines (G, G) with one point over a square of half-side ``edge``, of the base kernel and the induced one."""

    points: NDArray[np.float32]
    labels: NDArray[np.int8]
    origin: NDArray[np.float32]
    edge: float
    base: NDArray[np.float16]
    induced: NDArray[np.float16]

    @classmethod
    def read(cls, folder: Path) -> Picture | None:
        """What the run in ``folder`` wrote as ``kernel.npz``; None where it did not, or it is damaged."""
        try:
            # From memory: of a damaged file NumPy leaves the handle open.
            with np.load(io.BytesIO((folder / KERNEL_NAME).read_bytes())) as found:
                parts = {name: found[name] for name in ("points", "labels", "origin", "base", "induced")}
                return cls(**parts, edge=float(found["edge"]))
        except (OSError, ValueError, KeyError, BadZipFile):
            return None


def neighbourhoods(collection: Collection, summary: pd.DataFrame, source: str) -> Figure | None:
    """The cosine of k(x₀, x) over the plane: the base kernel, then the induced one by the number of neighbours related.

    A row a method that was run with several. The star is x₀; points of other classes are lighter.
    """
    runs = collection.runs[(collection.runs["data.source"] == source) & (collection.runs["status"] == "done")]
    if _AXIS not in runs or runs.empty:
        return None
    runs = runs[runs[_AXIS].notna()].sort_values([_AXIS, "seed"]).drop_duplicates(["title", _AXIS])
    rows = {str(title): _pictures(own) for title, own in runs.groupby("title", sort=True)}
    rows = {title: pictures for title, pictures in rows.items() if len(pictures) > 1}
    if not rows:
        return None
    columns = 1 + max(map(len, rows.values()))
    figure, axes = style.grid(columns * len(rows), columns=columns, height=1.6)
    for row, (title, pictures) in enumerate(rows.items()):
        own = axes[row * columns : (row + 1) * columns]
        first = next(iter(pictures.values()))
        _draw(own[0], first, first.base, "Base kernel" if row == 0 else "")
        own[0].set_ylabel(title)
        for axis, (neighbours, picture) in zip(own[1:], pictures.items(), strict=False):
            _draw(axis, picture, picture.induced, f"{neighbours} neighbours" if row == 0 else "")
        for unused in own[1 + len(pictures) :]:
            unused.remove()
    figure.colorbar(axes[0].images[0], ax=axes, shrink=0.6, label="Cosine with the point marked by a star")
    return figure


def _pictures(runs: pd.DataFrame) -> dict[int, Picture]:
    read = {int(row[_AXIS]): Picture.read(Path(row["folder"])) for _, row in runs.iterrows()}
    return {neighbours: picture for neighbours, picture in read.items() if picture is not None}


def _draw(axis: Axes, picture: Picture, cosines: NDArray[np.float16], title: str) -> None:
    edge = picture.edge
    shown = cosines.astype(np.float32)
    axis.imshow(shown, extent=(-edge, edge, -edge, edge), origin="lower", cmap="PuOr", vmin=-1, vmax=1)
    same = picture.labels == picture.labels[np.linalg.norm(picture.points - picture.origin, axis=1).argmin()]
    for which, color in ((same, "black"), (~same, "0.55")):
        axis.plot(*picture.points[which].T, linestyle="none", marker=".", markersize=1.6, color=color)
    axis.plot(*picture.origin, marker="*", markersize=7, color="black", markeredgecolor="white", markeredgewidth=0.5)
    axis.set(title=title, xticks=[], yticks=[])
