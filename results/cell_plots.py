"""Figures of a cost sweep: time and memory over D and over N with their slopes, and the trade-off of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from results import style
from results.cell import CostCell
from results.tables import MIB

# A slope is fitted to the last points only: where the fixed cost of a call no longer counts.
SLOPE_POINTS = 4
# Where the values of an axis span more, its ticks are powers of ten and not the values.
_WIDE = 1000
_VALUES = {"milliseconds": "Time (ms)", "mib": "Extra memory (MiB)"}


class _Told(NamedTuple):
    """What the lines are of, in words."""

    what: str
    reference: str
    axes: dict[str, str]


_LOSS = _Told(
    "Loss and gradient",
    "the textbook form",
    {"embedding_dim": "Embedding dimension $D$", "batch_size": "Batch size $N$"},
)
_FIT = _Told(
    "Fit in the kernel regime", "scikit-learn's nearest", {"embedding_dim": "Components $D$", "batch_size": "Rows $N$"}
)


def write(cells: Sequence[CostCell], folder: Path) -> list[Path]:
    """Write every figure that the sweep holds data for, as PNG and PDF; returns the files."""
    style.use_style()
    folder.mkdir(parents=True, exist_ok=True)
    points, fits = (_points([cell for cell in cells if cell.scope == scope]) for scope in ("loss", "fit"))
    figures = {
        "fit_over_rows": _over(fits, "batch_size", "embedding_dim", _FIT),
        "over_embedding_dim": _over(points, "embedding_dim", "batch_size", _LOSS),
        "over_batch_size": _over(points, "batch_size", "embedding_dim", _LOSS),
        "tradeoff": _tradeoff(points),
    }
    return [path for name, figure in figures.items() for path in style.save(figure, folder, name)]


def _points(cells: Sequence[CostCell]) -> pd.DataFrame:
    """A row a cell and implementation that was measured; of the precisions, the one that most cells have."""
    rows = [
        {
            "label": cell.title
            + (f", {cell.form}" if cell.form in ("primal", "dual") and _several(cell, cells) else ""),
            "by": by,
            "embedding_dim": cell.embedding_dim,
            "batch_size": cell.batch_size,
            "precision": cell.precision,
            "milliseconds": 1e3 * measured.seconds.median,
            "mib": max(measured.peak_bytes, 1) / MIB,
        }
        for cell in cells
        for by, measured in (("spherebench", cell.measured), ("reference", cell.reference))
        if measured is not None
    ]
    points = pd.DataFrame(rows, columns=["label", "by", *_LOSS.axes, "precision", *_VALUES])
    return points[points["precision"] == points["precision"].mode().get(0)]


def _several(cell: CostCell, cells: Sequence[CostCell]) -> bool:
    """Whether the sweep holds this method in several forms at one shape."""
    shape = (cell.method, cell.embedding_dim, cell.batch_size, cell.precision)
    forms = {
        other.form for other in cells if (other.method, other.embedding_dim, other.batch_size, other.precision) == shape
    }
    return len(forms) > 1


def _over(points: pd.DataFrame, axis: str, fixed: str, told: _Told) -> Figure | None:
    """Time and memory over one axis, the other fixed where most of it was measured: a line a method."""
    counts = points.groupby(fixed)[axis].nunique()
    if counts.empty or counts.max() < 2:
        return None
    value = _largest(counts)
    own = points[points[fixed] == value].sort_values(axis)
    own = own[own.groupby("label")[axis].transform("nunique") > 1]
    labels = sorted(own["label"].unique())
    looks = style.looks(labels)
    figure, panels = style.grid(2, columns=2, height=2.6)
    for panel, (column, title) in zip(panels, _VALUES.items(), strict=True):
        for (label, by), line in own.groupby(["label", "by"], sort=False):
            panel.plot(line[axis], line[column], **_look(looks[str(label)], str(by)))
        _log(panel, sorted(own[axis].unique()), told.axes[axis], title)
    handles = [Line2D([], [], **_look(looks[label], "spherebench")) for label in labels]
    names = [_with_slopes(label, own[(own["label"] == label)], axis) for label in labels]
    beside = f"; faint, dotted: {told.reference}" if "reference" in set(own["by"]) else ""
    cut = f" over the last {SLOPE_POINTS} points" if own[axis].nunique() > SLOPE_POINTS else ""
    shown = f"{told.what} at ${'N' if fixed == 'batch_size' else 'D'}={value}$; exponents of time and memory{cut}"
    return style.finish(figure, handles, names, f"{shown}{beside}")


def _largest(counts: pd.Series) -> int:
    """The index of the largest of these counts."""
    return int(str(counts.idxmax()))


def _look(look: style.Look, by: str) -> dict[str, Any]:
    return look.line(linestyle="-") if by == "spherebench" else look.line(linestyle=":", alpha=0.55, markersize=3)


def _log(panel: Axes, ticks: Sequence[int], name: str, title: str) -> None:
    panel.set(xscale="log", yscale="log", xlabel=name, ylabel=title)
    if ticks[-1] > _WIDE * ticks[0]:
        style.plain_numbers(panel.xaxis)
    else:
        panel.xaxis.set_major_locator(FixedLocator(ticks))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.tick_params(axis="x", rotation=45)
    style.plain_numbers(panel.yaxis)


def _with_slopes(label: str, own: pd.DataFrame, axis: str) -> str:
    """``SFRIK, L = 3: 1.02, 1.00``: the exponents of time and memory."""
    ours = own[own["by"] == "spherebench"].tail(SLOPE_POINTS)
    if len(ours) < 2:
        return label
    return f"{label}: " + ", ".join(f"{slope(ours[axis], ours[column]):.2f}" for column in _VALUES)


def slope(x: pd.Series, y: pd.Series) -> float:
    """The exponent p of y ∝ xᵖ, by least squares on the logarithms."""
    return float(np.polyfit(np.log(x.astype(float)), np.log(y.astype(float)), 1)[0])


def _tradeoff(points: pd.DataFrame) -> Figure | None:
    """Memory over time: a line a method over D at the N that most was measured at, the textbook form beside ours."""
    counts = points.groupby("batch_size")["embedding_dim"].nunique()
    if counts.empty or counts.max() < 2:
        return None
    count = _largest(counts)
    own = points[points["batch_size"] == count].sort_values("embedding_dim")
    labels = sorted(own["label"].unique())
    looks, dimensions = style.looks(labels), sorted(own["embedding_dim"].unique())
    sizes = dict(zip(dimensions, style.sizes(len(dimensions)), strict=True))
    figure, (panel,) = style.grid(1, height=3.2)
    for (label, by), line in own.groupby(["label", "by"], sort=False):
        look = _look(looks[str(label)], str(by))
        panel.plot(line["milliseconds"], line["mib"], **{**look, "marker": "", "linewidth": 0.8})
        for _, point in line.iterrows():
            panel.plot(
                point["milliseconds"],
                point["mib"],
                **{**look, "linestyle": "none", "markersize": sizes[point["embedding_dim"]]},
            )
    style.log_axes(panel)
    panel.set(xlabel=_VALUES["milliseconds"], ylabel=_VALUES["mib"])
    handles = [Line2D([], [], **_look(looks[label], "spherebench")) for label in labels]
    span = f"$D={dimensions[0]}$ to ${dimensions[-1]}$, $N={count}$"
    return style.finish(figure, handles, labels, f"Loss and gradient, {span}; faint, dotted: the textbook form")
