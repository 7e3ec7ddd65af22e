"""Figures of a cost sweep: time and memory over D and over N with their slopes, and the trade-off of both."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise, product, starmap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from results import style
from results.cell import CostCell
from results.formats import MIB

# A slope is fitted to the last points only: where the fixed cost of a call no longer counts.
SLOPE_POINTS = 4
# Where the values of an axis span more, its ticks are powers of ten and not the values.
_WIDE = 1000
_TICKS = 8  # at most, of such an axis
_VALUES = {"milliseconds": "Time (ms)", "mib": "Extra memory (MiB)"}
_SLICED = ", sliced"  # what the labels of sliced forms end with
# By scope: what the lines are of, what stands beside them, and what the axes and values are called.
_AXES = {"embedding_dim": "Embedding dimension $D$", "batch_size": "Batch size $N$"}
_FIT_AXES = {"embedding_dim": "Components $D$", "batch_size": "Rows $N$"}
_TOLD = {
    "loss": ("Loss and gradient", "the textbook form", _AXES, _VALUES),
    "step": (
        "Training step",
        "the textbook form in a step written plainly",
        _AXES,
        _VALUES | {"mib": "Peak memory (MiB)"},
    ),
    "fit": ("Fit in the kernel regime", "scikit-learn's nearest", _FIT_AXES, _VALUES),
}


def write(cells: Sequence[CostCell], folder: Path) -> list[Path]:
    """Write every figure that the sweep holds data for, as PNG and PDF; returns the files."""
    style.use_style()
    losses, steps, fits = (_points([cell for cell in cells if cell.scope == scope]) for scope in _TOLD)
    figures = {
        "step_over_embedding_dim": partial(_over, steps, "embedding_dim", "step"),
        "fit_over_rows": partial(_over, fits, "batch_size", "fit"),
        "over_embedding_dim": partial(_over, losses, "embedding_dim", "loss"),
        "over_batch_size": partial(_over, losses, "batch_size", "loss"),
        "tradeoff": partial(_tradeoff, losses),
        "crossovers": partial(_crossovers, times_over_rows(cells)),
    }
    return [path for name, draw in figures.items() for path in style.save(draw, folder, name)]


def _points(cells: Sequence[CostCell]) -> pd.DataFrame:
    """A row a cell and implementation that was measured; of the precisions, the one that most cells have.

    A method that was measured in several forms at one shape is a method a form.
    """
    forms = Counter(shape for shape, _ in {(cell.shape, cell.form) for cell in cells})
    rows = []
    for cell in cells:
        apart = cell.form in ("primal", "dual") and forms[cell.shape] > 1
        label = f"{cell.title}, {cell.form}" if apart else cell.title
        for by, measured in (("spherebench", cell.measured), ("reference", cell.reference)):
            if measured is not None:
                values = 1e3 * measured.seconds.median, max(measured.peak_bytes, 1) / MIB
                rows.append((label, by, cell.embedding_dim, cell.batch_size, cell.precision, *values))
    points = pd.DataFrame(rows, columns=["label", "by", "embedding_dim", "batch_size", "precision", *_VALUES])
    return points[points["precision"] == points["precision"].mode().get(0)]


def _at_one(points: pd.DataFrame, axis: str, fixed: str) -> pd.DataFrame:
    """The points along ``axis`` at the value of ``fixed`` with most values of it, then points; none if all alone."""
    counts = points.groupby(fixed)[axis].agg(["nunique", "size"])
    if counts.empty or counts["nunique"].max() < 2:
        return points.head(0)
    most = counts.sort_values(["nunique", "size"], ascending=False, kind="stable").index[0]
    return points[points[fixed] == most].sort_values(axis)


def _over(points: pd.DataFrame, axis: str, scope: str) -> Figure | None:
    """Time and memory over one axis, the other fixed where most of it was measured: a line a method."""
    what, reference, names, titles = _TOLD[scope]
    (fixed,) = names.keys() - {axis}
    own = _at_one(points, axis, fixed)
    # No ends of lines between others: at least half of the values that most have.
    values = own.groupby("label")[axis].transform("nunique")
    own = own[(values > 1) & (values >= values.max() / 2)]
    if own.empty:
        return None
    looks = style.looks(sorted(own["label"].unique()), dash="-")
    ticks = sorted(own[axis].unique())
    figure, panels = style.grid(2, columns=2, height=2.6)
    for panel, (column, title) in zip(panels, titles.items(), strict=True):
        for keywords, line in _lines(own, looks):
            panel.plot(line[axis], line[column], **keywords)
        panel.set(xscale="log", yscale="log", xlabel=names[axis], ylabel=title)
        if ticks[-1] > _WIDE * ticks[0]:
            style.plain_numbers(panel.xaxis)
        else:
            style.fixed_ticks(panel.xaxis, ticks[:: -(-len(ticks) // _TICKS)])
        style.plain_numbers(panel.yaxis)
    told, powers = {}, scope != "step"  # most of a step is the network's, whatever D
    for label, look in looks.items():
        # ``SFRIK, L = 3: 1.02, 1.00``: the exponents of time and memory.
        ours = own[(own["label"] == label) & (own["by"] == "spherebench")].tail(SLOPE_POINTS)
        slopes = [f"{slope(ours[axis], ours[column]):.2f}" for column in _VALUES if powers and len(ours) > 1]
        told[f"{label}: {', '.join(slopes)}" if slopes else label] = look
    beside = f"; faint, dotted: {reference}" if "reference" in set(own["by"]) else ""
    cut = f" over the last {SLOPE_POINTS} points" if len(ticks) > SLOPE_POINTS else ""
    at = f"${'N' if fixed == 'batch_size' else 'D'}={own[fixed].iloc[0]}$"
    exponents = f"; exponents of time and memory{cut}" if powers else ""
    return style.finish(figure, told, f"{what} at {at}{exponents}{beside}")


def slope(x: pd.Series, y: pd.Series) -> float:
    """The exponent p of y ∝ xᵖ, by least squares on the logarithms."""
    return float(np.polyfit(np.log(x.astype(float)), np.log(y.astype(float)), 1)[0])


def times_over_rows(cells: Sequence[CostCell]) -> dict[int, dict[str, pd.Series]]:
    """By D, of methods with their defaults: seconds over N of each method and form.

    Where a sliced form and another were measured at several N, and at those N that all of them were measured at.
    """
    rows = [
        (cell.embedding_dim, cell.batch_size, f"{cell.title}, {cell.form}", cell.measured.seconds.median)
        for cell in cells
        if cell.scope == "loss" and cell.measured and not cell.settings
    ]
    found = {}
    for dim, own in pd.DataFrame(rows, columns=["dim", "N", "label", "seconds"]).groupby("dim"):
        table = own.pivot_table("seconds", "N", "label")
        table = table.loc[:, table.count() > 1].dropna()
        if 0 < sum(str(label).endswith(_SLICED) for label in table) < table.shape[1]:
            found[int(str(dim))] = {str(label): table[label] for label in table}
    return found


def crossing(first: pd.Series, second: pd.Series) -> float | None:
    """The N at which the first ceases to take less time than the second; None where it takes less at all N or at none.

    Between two N times are taken for powers of N.
    """
    counts, ahead = np.log(first.index.to_numpy(float)), np.log((first / second).to_numpy())
    for before, after in pairwise(range(len(ahead))):
        if ahead[before] < 0 <= ahead[after]:
            return float(np.exp(np.interp(0.0, ahead[[before, after]], counts[[before, after]])))
    return None


def _crossovers(tables: Mapping[int, Mapping[str, pd.Series]]) -> Figure | None:
    """Time over N of exact and sliced tests, a panel a D; where one overtakes a sliced one, its N."""
    if not tables:
        return None
    looks = style.looks(sorted({label for table in tables.values() for label in table}), dash="-")
    figure, panels = style.grid(len(tables), columns=2, height=2.6)
    for panel, (dim, lines) in zip(panels, tables.items(), strict=True):
        for label, line in lines.items():
            panel.plot(line.index, 1e3 * line, **looks[label].line())
        panel.set(xscale="log", yscale="log", xlabel=_AXES["batch_size"], title=f"$D = {dim}$")
        style.fixed_ticks(panel.xaxis, [*line.index])
        style.plain_numbers(panel.yaxis)
        pairs = [(lines[label], lines[other]) for label, other in product(lines, lines) if other.endswith(_SLICED)]
        for step, count in enumerate(sorted(filter(None, starmap(crossing, pairs)))):
            panel.axvline(count, **style.grey(1).line(), zorder=0)
            place = panel.get_xaxis_transform()  # in steps: two lines may be close
            panel.text(count, 0.02 + 0.06 * step, f"{count:.0f}", transform=place, **style.REMARK)
    panels[0].set_ylabel(_VALUES["milliseconds"])
    return style.finish(figure, looks, "Loss and gradient; grey: the $N$ from which slices take less time")


def _tradeoff(points: pd.DataFrame) -> Figure | None:
    """Memory over time at the N that most was measured at: where there is a textbook form, from it to ours, or over D.

    Of a textbook form the largest D counts at which most methods have both.
    """
    own = _at_one(points, "embedding_dim", "batch_size")
    if own.empty:
        return None
    both = own.groupby(["embedding_dim", "label"])["by"].nunique().gt(1).groupby("embedding_dim").sum()
    compared = both[both == both.max()].index.max() if both.any() else None
    own = own if compared is None else own[own["embedding_dim"] == compared].sort_values("by")
    looks = style.looks(sorted(own["label"].unique()), dash="-" if compared is None else "none")
    figure, (panel,) = style.grid(1, height=3.2)
    at = f"$N={own['batch_size'].iloc[0]}$"
    if compared is None:
        dimensions = sorted(own["embedding_dim"].unique())
        style.tradeoff(panel, _lines(own, looks), style.sizes(dimensions), _VALUES["mib"])
        span = f"$D={dimensions[0]}$ to ${dimensions[-1]}$, which marks grow with, {at}"
        return style.finish(figure, looks, f"Loss and gradient, {span}")
    for label, line in own.groupby("label", sort=False):
        look = looks[str(label)]
        ends = line[[*_VALUES]].to_numpy()
        if len(ends) > 1:
            arrow = {"arrowstyle": "->", "color": look.color, "linewidth": 0.9, "shrinkA": 5, "shrinkB": 5}
            panel.annotate("", xy=ends[1], xytext=ends[0], arrowprops=arrow)
        for (x, y), by in zip(ends, line["by"], strict=True):
            fill = {} if by == "spherebench" else {"markerfacecolor": "white"}
            panel.plot(x, y, **look.line(markersize=6, markeredgecolor=look.color, **fill))
    panel.set(xscale="log", yscale="log", xlabel=_VALUES["milliseconds"], ylabel=_VALUES["mib"])
    for scale in (panel.xaxis, panel.yaxis):
        style.plain_numbers(scale)
    shown = f"Loss and gradient at $D={compared}$, {at}; open: the textbook form; filled: spherebench"
    return style.finish(figure, looks, shown)


def _lines(own: pd.DataFrame, looks: Mapping[str, style.Look]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Each method's line with keywords of ``Axes.plot``; faint and dotted what stands beside it."""
    for (label, by), line in own.groupby(["label", "by"], sort=False):
        beside = {} if by == "spherebench" else {"linestyle": ":", "alpha": 0.55, "markersize": 3}
        yield looks[str(label)].line(**beside), line
