"""How the figures look: legible in print, in grey and to colour-blind readers."""

import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, ScalarFormatter
from scipy.optimize import isotonic_regression

from results.record import write_atomically

COLUMN = 3.4  # inches: one column of a two-column page; a page's width is twice this and the gap
GREY = "0.45"
REMARK: dict[str, Any] = {
    "fontsize": 6.5,
    "color": GREY,
    "ha": "right",
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
}
_LINE = 1.1  # points: the width of a line that is not in the background
_MARKERS = ("o", "s", "^", "D", "v", "p", "<", ">", "h", "P", "d", "*")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))

_RC = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": _LINE,
    "lines.markersize": 4.5,
    "grid.linewidth": 0.4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text
}


@dataclass(frozen=True)
class Look:
    """Colour, marker and dash of one method: any one of the three tells it apart from its neighbours."""

    color: tuple[float, float, float]
    marker: str
    dash: Any
    width: float = _LINE

    def line(self, **more: Any) -> dict[str, Any]:
        """Keywords of ``Axes.plot``; a white edge keeps crossing markers apart."""
        edge = {"markeredgecolor": "white", "markeredgewidth": 0.5}
        look = {"color": self.color, "marker": self.marker, "linestyle": self.dash, "linewidth": self.width}
        return {**look, **edge, **more}

    def bars(self) -> dict[str, Any]:
        """Keywords of ``Axes.errorbar``: intervals lighter than the line, so that the means stay in front."""
        return self.line(ecolor=(*self.color, 0.45), elinewidth=0.7, capsize=1.5, capthick=0.7)


def save(draw: Callable[[], Figure | None], folder: Path, name: str) -> list[Path]:
    """Write what ``draw`` gives as PNG and PDF, the same bytes for the same figure; nothing where that is None.

    A figure that fails is a warning, and no older one is left in its place; its paths are among those returned.
    """
    contents: dict[Path, bytes] = {}
    try:
        if (figure := draw()) is None:
            return []
        for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, metadata=metadata)
            contents[folder / f"{name}.{kind}"] = content.getvalue()
    except Exception as error:
        warnings.warn(f"figure {folder / name} was not drawn: {type(error).__name__}: {error}", stacklevel=2)
        contents = {folder / f"{name}.{kind}": b"" for kind in ("png", "pdf")}
    folder.mkdir(parents=True, exist_ok=True)
    for path, drawn in contents.items():
        if drawn:
            write_atomically(path, drawn)
        else:
            path.unlink(missing_ok=True)
    return [*contents]


def cross(color: tuple[float, float, float]) -> dict[str, Any]:
    """Keywords of ``Axes.plot`` for a run that did not come to its end."""
    return {"color": color, "marker": "x", "markeredgewidth": 1.4, "linestyle": "", "clip_on": False}


def use_style() -> None:
    """Set matplotlib and seaborn up for every figure of this project, whatever a user's ``matplotlibrc`` says."""
    mpl.rcdefaults()
    sns.set_theme(context="paper", style="ticks", rc=_RC)


def looks(labels: Iterable[str], markers: Sequence[str] = _MARKERS, dashes: Sequence[Any] = _DASHES) -> dict[str, Look]:
    """A look for each method in the order of the tables, dark to light, so that grey keeps the order.

    The colours are viridis without its lightest quarter, which print loses.
    """
    names, palette = list(labels), mpl.colormaps["viridis"]
    return {
        name: Look(palette(0.76 * place / max(1, len(names) - 1))[:3], marker, dash)
        for place, (name, marker, dash) in enumerate(zip(names, cycle(markers), cycle(dashes)))
    }


def grey(place: int) -> Look:
    """A thin line in the background, told apart from others by its dash."""
    return Look((float(GREY),) * 3, "", _DASHES[place % len(_DASHES)], width=0.8)


def fixed_ticks(scale: Axis, ticks: Sequence[int]) -> None:
    """These values as the ticks of an axis, and no others."""
    scale.set_major_locator(FixedLocator(list(ticks)))
    scale.set_minor_locator(NullLocator())
    scale.set_major_formatter(ScalarFormatter())


def plain_numbers(scale: Axis) -> None:
    """Plain numbers as the ticks of a logarithmic axis, more of them where the range is short."""
    low, high = scale.get_view_interval()
    steps = (1.0,) if high > 500 * low else (1, 2, 5) if high > 8 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)
    scale.set_major_locator(LogLocator(subs=steps))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    scale.set_minor_locator(NullLocator())


def sizes(dimensions: Sequence[int]) -> dict[int, float]:
    """Marker sizes that grow with the embedding dimension, in points."""
    return {dim: 3.5 + 4.5 * place / max(1, len(dimensions) - 1) for place, dim in enumerate(dimensions)}


def tradeoff(
    axis: Axes, lines: Iterable[tuple[Any, pd.DataFrame]], sizes: Mapping[int, float], memory: str, **line: Any
) -> None:
    """``mib`` over ``milliseconds`` for each line and its look: a thin line, and markers sized by embedding dimension.

    Both axes are logarithmic, with plain numbers as ticks.
    """
    for look, points in lines:
        axis.plot(points["milliseconds"], points["mib"], **{**look, "marker": "", "linewidth": 0.8, **line})
        for _, point in points.iterrows():
            dot = {**look, "linestyle": "none", "markersize": sizes[point["embedding_dim"]]}
            axis.plot(point["milliseconds"], point["mib"], **dot)
    axis.set(xscale="log", yscale="log", xlabel="Time (ms)", ylabel=memory)
    for scale in (axis.xaxis, axis.yaxis):
        plain_numbers(scale)


def outer_labels(axes: Sequence[Axes]) -> None:
    """Keep y labels in the first column and x labels on the lowest panel of each column."""
    places = [(spec.rowspan.start, spec.colspan.start) for axis in axes if (spec := axis.get_subplotspec())]
    for (row, column), axis in zip(places, axes, strict=True):
        if column > 0:
            axis.set_ylabel("")
        if (row + 1, column) in places:
            axis.set_xlabel("")


def grid(panels: int, columns: int = 3, height: float = 2.0) -> tuple[Figure, list[Axes]]:
    """A figure of ``panels`` panels, at most ``columns`` in a row, no wider than a page."""
    across = min(panels, columns)
    down = -(-panels // across)
    width = 1.5 * COLUMN if panels == 1 else 2 * COLUMN + 0.3
    figure = Figure(figsize=(width, height * down), layout="constrained")  # no window, and nothing to close
    axes = figure.subplots(down, across, squeeze=False)
    flat = list(axes.flat)
    for unused in flat[panels:]:
        unused.remove()
    return figure, flat[:panels]


def apart(levels: pd.Series, low: float, high: float) -> dict[Any, tuple[float, float]]:
    """Of rising ``levels`` each with a place where a line of text touches no other, within the panel.

    The places are the nearest in squares: by isotonic regression of the levels less the lines below each.
    """
    line = (high - low) / 16
    below = line * np.arange(len(levels))
    places = isotonic_regression(levels.to_numpy() - below).x
    places = np.clip(places, low + line / 2, high - line / 2 - below[-1]) + below
    return {name: (level, place) for (name, level), place in zip(levels.items(), places, strict=True)}


def untitled(figure: Figure, shown: str) -> Figure:
    """No needless frame lines, and below the panels what is ``shown``: of a figure whose lines have their names."""
    sns.despine(figure)
    figure.supxlabel(shown, fontsize=7, color=GREY, x=0.01, ha="left")
    return figure


def finish(figure: Figure, looks: Mapping[str, Look], shown: str) -> Figure:
    """One legend of ``looks`` by name, which also says what is ``shown``; no needless frame lines.

    It lies below the panels, or beside a single one that has no other legend there.
    """
    sns.despine(figure)
    width, height = figure.get_size_inches()
    entry = 0.55 + 0.055 * max(map(len, looks))  # inches that a handle and the longest name take
    beside = len(figure.axes) == 1 and not figure.legends
    columns = 1 if beside else min(len(looks), 4, max(1, int(width / entry)))
    rows = 0.3 + 0.16 * -(-len(looks) // columns)
    figure.set_size_inches(width, max(height, rows) if beside else height + rows)
    handles = [Line2D([], [], **look.line()) for look in looks.values()]
    more: dict[str, Any] = {"ncols": columns, "frameon": False, "title": shown.replace("; ", "\n")}
    figure.legend(handles, [*looks], loc="outside right center" if beside else "outside lower center", **more)
    return figure
