"""Figures of the kernel regime: few labels by method, over the number of views or images, over ridge and rank."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, ScalarFormatter

from results import style
from results.collect import Collection
from results.record import SPECTRUM_NAME
from results.summary import natural

# Axes over which there is a figure of lines: the column, and what the axis is called.
OVER = {"regime.n_views": "Views of each image $m$", "data.limit": "Training images"}
_KERNEL = "regime.kernel.name"
_MOST_SPECTRA = 12


def concerns(summary: pd.DataFrame, source: str) -> bool:
    """Whether some run on ``source`` is in the kernel regime."""
    return _KERNEL in summary and bool(summary.loc[summary["data.source"] == source, _KERNEL].notna().any())


def few_labels(collection: Collection, summary: pd.DataFrame, source: str) -> Figure | None:
    """Few-label accuracy, a row a method and a panel a number of labels: means and 95 % intervals, a mark a probe.

    Of the numbers of views and of images the largest that a method was run with; none where it had several ranks.
    """
    found = _few_label_rows(summary, source)
    chosen = _largest(found)
    if chosen.empty or _several_ranks(chosen):
        return None
    order = chosen.assign(untrained=chosen["epochs"] == 0, natural=natural(chosen["name"]))
    names = list(dict.fromkeys(order.sort_values(["untrained", "natural"])["name"]))[::-1]
    probes = list(dict.fromkeys(chosen["probe"]))
    looks = style.looks(probes)
    figure, axes = style.grid(chosen["labels"].nunique(), height=0.5 + 0.2 * len(names))
    for (labels, own), axis in zip(chosen.groupby("labels"), axes, strict=True):
        for place, probe in enumerate(probes):
            points = own[own["probe"] == probe]
            rows = [names.index(name) + 0.22 * ((len(probes) - 1) / 2 - place) for name in points["name"]]
            bars = looks[probe].bars() | {"linestyle": "none"}
            axis.errorbar(100 * points["mean"], rows, xerr=100 * points["half_width"].fillna(0), **bars)
        axis.set(title=_labels_text(labels), xlabel="Top-1 accuracy (%)", ylim=(-0.6, len(names) - 0.4))
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names))
        axis.grid(axis="y", linewidth=0.3)
    handles = [Line2D([], [], **looks[probe].line(linestyle="none")) for probe in probes]
    return style.finish(figure, handles, probes, f"Mean and 95 % interval over seeds, by probe{_at_most(found)}")


def over_views(collection: Collection, summary: pd.DataFrame, source: str) -> Figure | None:
    """Few-label accuracy over the number of views of an image."""
    return _over("regime.n_views", summary, source)


def over_images(collection: Collection, summary: pd.DataFrame, source: str) -> Figure | None:
    """Few-label accuracy over the number of training images."""
    return _over("data.limit", summary, source)


def _over(column: str, summary: pd.DataFrame, source: str) -> Figure | None:
    """A panel a number of labels, a line a method, for the first probe there is; what has no such axis is level.

    A method that was run in several variants (augmentations, say) has a row of panels of its own, each with the methods
    that were not in grey.
    """
    rows = _few_label_rows(summary, source)
    if column not in rows or rows.empty:
        return None
    rows = _largest(rows[rows["probe"] == rows["probe"].iloc[0]], but=column)
    several = rows.groupby("name")[column].transform("nunique") > 1
    lines, levels = rows[several], rows[~several & (rows["method"].isin(_LEVELS) | rows[_KERNEL].isna())]
    if lines.empty:
        return None
    families = _varied_titles(lines)
    lines = lines.assign(name=[_less(name, families) for name in lines["name"]])
    beside = lines[~lines["title"].isin(families)] if families else lines.head(0)
    ours = lines.drop(beside.index)
    looks = style.looks(list(dict.fromkeys(ours["name"])))
    greys = dict.fromkeys([*beside["name"], *levels["name"]])
    looks |= {name: style.grey(place + 1) for place, name in enumerate(greys)}
    labels = sorted(lines["labels"].unique())
    figure, axes = style.grid(max(len(families), 1) * len(labels), columns=len(labels), height=2.3)
    for axis, (family, count) in zip(axes, product(families or [""], labels), strict=True):
        shown = pd.concat([ours[ours["title"] == family] if family else ours, beside])
        _draw_over(axis, column, shown[shown["labels"] == count], levels[levels["labels"] == count], looks)
        _log_ticks(axis, sorted(lines[column].astype(int).unique()))
        axis.set_title("\n".join(filter(None, [family, _labels_text(count)])))
        axis.set(xlabel=OVER[column], ylabel="Top-1 accuracy (%)")
    style.outer_labels(axes)
    handles = [Line2D([], [], **look.line()) for look in looks.values()]
    level = "; grey: no such axis" if len(levels) else ""
    told = f"{lines['probe'].iloc[0]}: mean and 95 % interval over seeds{level}"
    return style.finish(figure, handles, list(looks), told)


def _draw_over(
    axis: Axes, column: str, lines: pd.DataFrame, levels: pd.DataFrame, looks: Mapping[str, style.Look]
) -> None:
    """Lines over ``column`` with their intervals, and levels where there is no such axis."""
    for name, points in lines.sort_values(column).groupby("name", sort=False):
        bars = looks[str(name)].bars()
        axis.errorbar(points[column].astype(float), 100 * points["mean"], 100 * points["half_width"], **bars)
    for _, level in levels.iterrows():
        axis.axhline(100 * level["mean"], zorder=0, **looks[level["name"]].line())


def _varied_titles(lines: pd.DataFrame) -> list[str]:
    """Methods that were run in several variants."""
    names = lines.groupby("title", sort=False)["name"].nunique()
    return list(names.index[names > 1])


def _less(name: str, families: Sequence[str]) -> str:
    """What tells a variant from others of its method."""
    return next((name.removeprefix(f"{family}, ") for family in families if name.startswith(f"{family}, ")), name)


# Of the kernel regime, what is the same whatever the number of views.
_LEVELS = ("base_kernel",)


def ridge_rank(collection: Collection, summary: pd.DataFrame, source: str) -> Figure | None:
    """Few-label accuracy over ridge and rank limit, a panel a number of labels; white is the base kernel's accuracy."""
    rows = _few_label_rows(summary, source)
    if not {"regime.ridge"} <= set(rows):
        return None
    cells = rows[rows["embedding_dim"].notna() & (rows["probe"] == rows["probe"].iloc[0])]
    cells = cells.assign(ridge=cells["regime.ridge"].astype(float), rank=cells["embedding_dim"].astype(int))
    wide = cells.groupby("title")[["ridge", "rank"]].transform("nunique").min(axis=1) >= 3
    if not wide.any():
        return None
    cells = cells[wide & (cells["title"] == cells.loc[wide, "title"].iloc[0])]
    base = rows[(rows["method"] == "base_kernel") & (rows["probe"] == cells["probe"].iloc[0])]
    figure, axes = style.grid(cells["labels"].nunique(), columns=2, height=2.7)
    for (labels, own), axis in zip(cells.groupby("labels"), axes, strict=True):
        table = 100 * own.pivot_table(index="ridge", columns="rank", values="mean", observed=True)
        level = 100 * base.loc[base["labels"] == labels, "mean"].mean()
        _heat(axis, table, level)
        axis.set_title(f"{_labels_text(labels)}; base kernel {level:.1f}" if level == level else _labels_text(labels))
    style.outer_labels(axes)
    title = (
        f"{cells['title'].iloc[0]}: top-1 accuracy (%), {cells['probe'].iloc[0]}, mean over {cells['n'].max()} seeds"
    )
    figure.suptitle(title, fontsize=8)
    return figure


def _heat(axis: Axes, table: pd.DataFrame, level: float) -> None:
    values = table.to_numpy()
    middle = level if level == level else float(np.nanmedian(values))
    reach = max(float(np.nanmax(np.abs(values - middle))), 1e-9)
    norm = TwoSlopeNorm(middle, middle - reach, middle + reach)
    axis.imshow(values, cmap="PuOr", norm=norm, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        strong = abs(value - middle) > 0.6 * reach
        axis.text(
            column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color="white" if strong else "black"
        )
    axis.set_xticks(range(values.shape[1]), [str(rank) for rank in table.columns])
    axis.set_yticks(range(values.shape[0]), [f"{ridge:g}" for ridge in table.index])
    axis.set(xlabel="Rank limit $d$", ylabel="Ridge, relative")


def spectrum(collection: Collection, summary: pd.DataFrame, source: str) -> Figure | None:
    """The share of the representation's variance by eigenvalue, a line a method, for the first seed of each."""
    runs = collection.runs[(collection.runs["data.source"] == source) & (collection.runs["status"] == "done")]
    names = _largest(summary[summary["data.source"] == source]).drop_duplicates("configuration")
    own = runs.sort_values("seed").drop_duplicates("configuration").merge(names[["configuration", "name"]])
    own = own.sort_values("name", key=natural)
    shares = {row["name"]: found for _, row in own.iterrows() if (found := read_spectrum(Path(row["folder"])))}
    if not 1 < len(shares) <= _MOST_SPECTRA or _several_ranks(names):
        return None
    looks = style.looks(list(shares))
    figure, (axis,) = style.grid(1, height=2.6)
    for name, values in shares.items():
        every = max(1, len(values) // 8)
        axis.plot(range(1, len(values) + 1), values, **looks[name].line(markevery=every))
    axis.set(xscale="log", yscale="log", xlabel="Eigenvalue", ylabel="Share of the variance")
    axis.set_ylim(bottom=1e-5)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    handles = [Line2D([], [], **look.line()) for look in looks.values()]
    return style.finish(figure, handles, list(looks), "Covariance of the representation; first seed")


def read_spectrum(folder: Path) -> list[float]:
    """What the run in ``folder`` wrote as ``spectrum.json``, less what is zero to rounding; empty where it did not."""
    try:
        shares = json.loads((folder / SPECTRUM_NAME).read_text(encoding="utf-8"))["eigenvalues"]
        return [float(share) for share in shares if float(share) > 1e-12]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _few_label_rows(summary: pd.DataFrame, source: str) -> pd.DataFrame:
    """Few-label figures on ``source`` with ``labels``, ``probe`` and ``name`` (the label less the axes of ``OVER``)."""
    own = summary[(summary["data.source"] == source) & (summary["metric"] == "fewshot_top1") & (summary["n"] > 0)]
    parts = own["key"].str.extract(r"labels_per_class=(?P<labels>\d+), .*probe=(?P<probe>[^,]+)")
    own = own.assign(labels=parts["labels"].astype(int), probe=parts["probe"], name=_names(own["label"]))
    return own.sort_values("labels", kind="stable")


def _names(labels: pd.Series) -> pd.Series:
    axes = "|".join(re.escape(column.rsplit(".", 1)[-1]) for column in OVER)
    return labels.str.replace(rf", (?:{axes})=[^,]*", "", regex=True)


def _largest(rows: pd.DataFrame, but: str | None = None) -> pd.DataFrame:
    """Of each name the rows with the most views and images, along every axis of ``OVER`` but one."""
    rows = rows.assign(name=_names(rows["label"]))
    for column in OVER:
        if column in rows and column != but:
            values = rows[column].astype(float).fillna(0)
            rows = rows[values == values.groupby(rows["name"]).transform("max")]
    return rows


def _at_most(rows: pd.DataFrame) -> str:
    """The largest number of images, where there are runs of several."""
    limits = rows.get("data.limit", pd.Series(dtype=float)).dropna().astype(int)
    return f"; {limits.max()} training images" if limits.nunique() > 1 else ""


def _several_ranks(rows: pd.DataFrame) -> bool:
    return bool((rows.groupby("name")["embedding_dim"].nunique() > 1).any())


def _labels_text(labels: object) -> str:
    return f"{labels} label{'s' if labels != 1 else ''} a class"


def _log_ticks(axis: Axes, ticks: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())
