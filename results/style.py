"""How the figures look: legible in print, in grey and to colour-blind readers."""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, ScalarFormatter
from scipy.optimize import isotonic_regression

from results import palette
from results.record import write_atomically

COLUMN = 3.4  # inches: one column of a two-column page
PAGE = 2 * COLUMN + 0.3  # and the gap
GREY = palette.REFERENCE[0]
REMARK: dict[str, Any] = {
    "fontsize": 6.5,
    "color": GREY,
    "ha": "right",
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
}
_TICK_GAP = 0.1  # of an axis, between labels of five digits
_LEAST_RANGE = 1.02  # of a trade-off's axis, its highest over its lowest: what differs by a byte is drawn as the same
_LINE = 1.1  # points: the width of a line that is not in the background
_DASHES: list[Any] = [(0, dash) if dash else "-" for dash in palette.DASHES]

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
    """Colour, marker and dash of one line."""

    color: Any
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
        return self.line(ecolor=to_rgba(self.color, 0.45), elinewidth=0.7, capsize=1.5, capthick=0.7)


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


def file_name(text: str) -> str:
    """A text as a part of a file's name; parts are joined by underscores."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-")


def cross(color: Any) -> dict[str, Any]:
    """Keywords of ``Axes.plot`` for a run that did not come to its end."""
    return {"color": color, "marker": "x", "markeredgewidth": 1.4, "linestyle": "", "clip_on": False}


def use_style() -> None:
    """Set matplotlib and seaborn up for every figure of this project, whatever a user's ``matplotlibrc`` says."""
    mpl.rcdefaults()
    sns.set_theme(context="paper", style="ticks", rc=_RC)


def looks(names: Iterable[str], **same: Any) -> dict[str, Look]:
    """The look of each method, as :mod:`results.palette` has it; ``same``: what all of them share, ``dash="-"`` say."""
    found = {}
    for name, place in palette.places(names).items():
        (color, _), (marker, _) = (own[place % len(own)] for own in (palette.COLOURS, palette.MARKS))
        found[name] = replace(Look(color, marker, _DASHES[place % len(_DASHES)]), **same)
    return found


def shades(names: Sequence[str], **same: Any) -> dict[str, Look]:
    """A look for each of what has an order of its own, dimensions say: from dark to light, as grey keeps it.

    The colours are viridis without its lightest third, which print loses.
    """
    found = {}
    for place, (name, level) in enumerate(zip(names, np.linspace(0, 0.67, len(names)), strict=True)):
        marker, _ = palette.MARKS[place % len(palette.MARKS)]
        color = mpl.colormaps["viridis"](level)[:3]
        found[name] = replace(Look(color, marker, _DASHES[place % len(_DASHES)]), **same)
    return found


def grey(place: int, marker: str = "") -> Look:
    """A thin line in the background, with a dash of its own."""
    return Look(GREY, marker, _DASHES[place % len(_DASHES)], width=0.8)


def fixed_ticks(scale: Axis, ticks: Sequence[int]) -> None:
    """These rising values as the ticks of a logarithmic axis, but for those whose labels would touch the one before."""
    kept = [ticks[0]]
    for tick in ticks[1:]:
        if math.log(tick / kept[-1]) > _TICK_GAP * math.log(ticks[-1] / ticks[0]):
            kept.append(tick)
    scale.set_major_locator(FixedLocator(kept))
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
    for scale, set_ends in ((axis.xaxis, axis.set_xlim), (axis.yaxis, axis.set_ylim)):
        low, high = scale.get_view_interval()
        room = max(1.0, _LEAST_RANGE * low / high) ** 0.5
        set_ends(low / room, high * room)
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
    width = 1.5 * COLUMN if panels == 1 else PAGE
    figure = Figure(figsize=(width, height * down), layout="constrained")  # no window, and nothing to close
    axes = figure.subplots(down, across, squeeze=False)
    flat = list(axes.flat)
    for unused in flat[panels:]:
        unused.remove()
    return figure, flat[:panels]


def limits(values: Sequence[float], ends: Sequence[float], room: float, margin: float) -> tuple[float, float]:
    """Of an axis: all values, and the ends of their intervals as far as ``room`` beyond; a margin of parts of it."""
    low, high = max(min(values) - room, min([*ends, *values])), min(max(values) + room, max([*ends, *values]))
    return low - margin * room, high + margin * room


def named_rows(axis: Axes, names: Sequence[str]) -> None:
    """A row a name, from below, on each panel; names stand beside those of the first column."""
    first = axis.get_subplotspec().is_first_col()  # type: ignore[union-attr]
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.set_yticks(range(len(names)), names if first else [""] * len(names))
    axis.grid(axis="y", linewidth=0.3)


def name_ends(axis: Axes, ends: pd.Series, looks: Mapping[str, Look]) -> None:
    """Each line's name right of the panel, level with its end (in data) or moved up or down where two would touch."""
    to_panel = axis.transData + axis.transAxes.inverted()
    levels = {str(name): to_panel.transform((axis.get_xlim()[1], end))[1] for name, end in ends.items()}
    for name, (level, place) in apart(pd.Series(levels).sort_values(), 0.0, 1.0).items():
        color, panel = looks[name].color, axis.transAxes
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkB": 0, "relpos": (0, 0.5)}
        named: dict[str, Any] = {"color": color, "fontsize": 7.5, "va": "center", "arrowprops": line}
        axis.annotate(name, (1.0, level), (1.04, place), panel, panel, **named)


def ranges(points: pd.DataFrame, scale: float = 1.0) -> np.ndarray:
    """Error bars (2, N) from the mean of each row of a summary to the least and the most of its seeds."""
    bars = []
    for mean, by_seed in zip(points["mean"], points["by_seed"], strict=True):
        values = [float(own.mean()) for own in by_seed.values()]
        bars.append((mean - min(values), max(values) - mean))
    return scale * np.array(bars).reshape(-1, 2).T


def apart(levels: pd.Series, low: float, high: float) -> dict[Any, tuple[float, float]]:
    """Of rising ``levels`` each with a place where a line of text touches no other, within the panel.

    The places are the nearest in squares: by isotonic regression of the levels less the lines below each.
    """
    line = (high - low) / 16
    below = line * np.arange(len(levels))
    places = isotonic_regression(levels.to_numpy() - below).x
    places = np.clip(places, low + line / 2, high - line / 2 - below[-1]) + below
    return {name: (level, place) for (name, level), place in zip(levels.items(), places, strict=True)}


def captioned(figure: Figure, shown: str) -> Figure:
    """No needless frame lines, and below the panels what is ``shown``: of a figure whose lines have their names."""
    sns.despine(figure)
    figure.supxlabel(fill(shown, int(19 * figure.get_figwidth())), fontsize=7, color=GREY, x=0.01, ha="left")
    return figure


def finish(figure: Figure, looks: Mapping[str, Look], shown: str) -> Figure:
    """Below the panels one legend of ``looks`` by name, under what is ``shown``; no needless frame lines."""
    sns.despine(figure)
    width, height = figure.get_size_inches()
    entry = 0.55 + 0.055 * max(map(len, looks))  # inches that a handle and the longest name take
    rows = -(-len(looks) // max(1, int(width / entry)))
    title = fill(shown, int(19 * width))
    handles = [Line2D([], [], **look.line()) for look in looks.values()]
    more: dict[str, Any] = {"ncols": -(-len(looks) // rows), "frameon": False, "title": title}
    figure.legend(handles, [*looks], loc="outside lower center", **more)
    figure.set_size_inches(width, height + 0.3 + 0.16 * (rows + title.count("\n")))
    return figure
