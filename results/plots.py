"""Figures: accuracy over embedding dimension, time against memory, loss curves; and the kernel regime's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results import regime, style
from results.collect import Collection
from results.curves import loss_curves
from results.kernels import neighbourhoods
from results.summary import COSTS, metric_title, select, summarise
from results.tables import MIB, short_source

_KNOWN_BY = {"knn_top1": "k=", "logistic_top1": "C="}


def write(collection: Collection, folder: Path) -> list[Path]:
    """Write every figure that the collection holds data for, as PNG and PDF, into ``folder``; returns the files.

    Where it holds several data sets, each has its own files, named after it.
    """
    style.use_style()
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(collection)
    sources = list(dict.fromkeys(collection.runs["data.source"]))
    return [
        path
        for source in sources
        for name, draw in (_KERNEL_FIGURES if regime.concerns(summary, source) else _FIGURES).items()
        for path in style.save(draw(collection, summary, source), folder, _file_name(name, source, len(sources)))
    ]


def _file_name(name: str, source: str, sources: int) -> str:
    return name if sources == 1 else f"{re.sub(r'[^A-Za-z0-9.-]+', '-', short_source(source))}_{name}"


def accuracy(collection: Collection, summary: pd.DataFrame, source: str) -> Figure | None:
    """Headline metrics over the embedding dimension, a panel each: means and 95 % intervals over seeds.

    A network that was not trained has no embedding dimension to speak of: it is a horizontal line. An interval that
    leaves its panel has no cap there; a cross at the foot stands for a configuration of which no run came to an end.
    """
    here = summary[(summary["data.source"] == source) & ~summary["metric"].isin(COSTS)]
    if here[(here["epochs"] > 0) & (here["n"] > 0)].empty:
        return None
    chosen = select(here)
    panels = [own for _, own in chosen.groupby(["metric", "key"], sort=False) if own[own["epochs"] > 0]["n"].any()]
    labels = list(dict.fromkeys(chosen.loc[chosen["epochs"] > 0, "label"]))
    looks = style.looks(labels)
    figure, axes = style.grid(len(panels))
    for own, axis in zip(panels, axes, strict=True):
        _accuracy_panel(axis, own, looks)
        axis.set_title("\n".join(filter(None, [_names(own)[0], _particular(own, chosen)])))
        axis.set_ylabel(_names(own)[1])
    style.outer_labels(axes)
    handles = [Line2D([], [], **looks[label].line()) for label in labels]
    lost = "; ×: no run finished" if (chosen["n"] == 0).any() else ""
    return style.finish(figure, handles, labels, f"Mean and 95 % interval over seeds{lost}")


def _accuracy_panel(axis: Axes, own: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    scale = 100.0 if (own["unit"] == "fraction").all() else 1.0
    trained = own[own["epochs"] > 0].sort_values("embedding_dim").astype({"embedding_dim": float})
    style.dimension_axis(axis, sorted(map(int, trained["embedding_dim"].unique())))
    axis.set_ylim(*(scale * limit for limit in _limits(trained)))
    for (label, look), step in zip(looks.items(), _steps_aside(trained, len(looks)), strict=True):
        points = trained[trained["label"] == label]
        points = points.assign(x=points["embedding_dim"] * step)
        found, lost = points[points["n"] > 0], points[points["n"] == 0]
        axis.errorbar(found["x"], found["mean"] * scale, found["half_width"].fillna(0) * scale, **look.bars())
        for x in lost["x"]:
            axis.plot(x, 0.02, transform=axis.get_xaxis_transform(), **style.cross(look.color))
    _references(axis, own[own["epochs"] == 0], scale)


def _steps_aside(own: pd.DataFrame, count: int) -> list[float]:
    """A factor in x for each method, so that intervals at one dimension stand side by side."""
    dimensions = sorted(own["embedding_dim"].unique())
    gap = min((high / low for low, high in pairwise(dimensions)), default=2.0)
    return [gap ** (0.2 * (place / max(1, count - 1) - 0.5)) for place in range(count)]


def _limits(own: pd.DataFrame) -> tuple[float, float]:
    """Room for the means and their intervals, but no interval may shrink the means to less than a third.

    Nothing above 1 is shown of fractions, whatever a t-interval says.
    """
    low, high = own["mean"].min(), own["mean"].max()
    span = max(high - low, 0.02 * abs(high), 1e-9)
    bottom = max(low - span, own["low"].fillna(low).min()) - 0.08 * span
    top = min(high + span, own["high"].fillna(high).max()) + 0.08 * span
    return bottom, min(top, 1 + 0.08 * span) if (own["unit"] == "fraction").all() else top


def _names(own: pd.DataFrame) -> tuple[str, str]:
    """A panel's title and the label of its y axis: ``Weighted kNN`` and ``Top-1 accuracy (%)``."""
    name, _, what = metric_title(own["metric"].iloc[0], own["unit"].iloc[0]).partition(", ")
    return name, what[:1].upper() + what[1:]


def _particular(own: pd.DataFrame, chosen: pd.DataFrame) -> str:
    """The part of a panel's protocol that tells it from its metric's other panels, or that its metric is known by."""
    metric, key = own[["metric", "key"]].iloc[0]
    others = [
        set(other.split(", ")) for other in chosen.loc[chosen["metric"] == metric, "key"].unique() if other != key
    ]
    if others:
        parts = [part for part in key.split(", ") if not all(part in other for other in others)]
    else:
        parts = [part for part in key.split(", ") if part.startswith(_KNOWN_BY.get(metric, "\0"))]
    return "\n".join(parts).replace("_", " ")


def _references(axis: Axes, untrained: pd.DataFrame, scale: float) -> None:
    """Untrained networks and raw pixels: a line, or their value at the edge of the panel beyond which they lie."""
    levels = {str(label): scale * own["mean"].mean() for label, own in untrained.groupby("label", sort=False)}
    bottom, top = axis.get_ylim()
    below = [f"↓ {label} {level:.1f}" for label, level in levels.items() if level <= bottom]
    above = [f"↑ {label} {level:.1f}" for label, level in levels.items() if level >= top]
    for label, level in levels.items():
        if bottom < level < top:
            axis.axhline(level, color=style.GREY, linestyle=":", linewidth=0.9, zorder=1)
            place = axis.get_yaxis_transform()  # x in parts of the panel, y in data
            axis.annotate(label, (0.99, level), (0, 1.5), place, "offset points", **style.REMARK, va="bottom")
    axis.annotate("\n".join(below), (0.99, 0.01), xycoords="axes fraction", **style.REMARK, va="bottom")
    axis.annotate("\n".join(above), (0.99, 0.99), xycoords="axes fraction", **style.REMARK, va="top")


def tradeoff(collection: Collection, summary: pd.DataFrame, source: str) -> Figure | None:
    """Peak memory over time, a point a method and dimension: of the whole step, and of the loss and its gradient.

    Times of two machines are not comparable: each machine has its own panels.
    """
    costs = summary[(summary["data.source"] == source) & (summary["n"] > 0) & (summary["epochs"] > 0)]
    panels = {title: points for name, pair in _TRADEOFFS.items() for title, points in _points(costs, name, *pair)}
    if not panels:
        return None
    labels = list(dict.fromkeys(costs["label"]))
    looks, dimensions = style.looks(labels), sorted(costs["embedding_dim"].unique())
    sizes = dict(zip(dimensions, style.sizes(len(dimensions)), strict=True))
    figure, axes = style.grid(len(panels), columns=2, height=2.6)
    for (title, points), axis in zip(panels.items(), axes, strict=True):
        _tradeoff_panel(axis, points, looks, sizes)
        axis.set_title(title)
    dots = [Line2D([], [], color=style.GREY, marker="o", linestyle="", markersize=sizes[dim]) for dim in dimensions]
    figure.legend(dots, [f"$D={dim}$" for dim in dimensions], loc="outside right upper", frameon=False)
    handles = [Line2D([], [], **looks[label].line()) for label in labels]
    return style.finish(figure, handles, labels, "Mean over seeds of each run's median time and peak memory")


def _points(costs: pd.DataFrame, name: str, seconds: str, peak: str) -> list[tuple[str, pd.DataFrame]]:
    """Time and memory side by side, a row a configuration; a table and its title for each machine."""
    wide = costs.pivot(index=["label", "embedding_dim", "configuration", "key"], columns="metric", values="mean")
    if not {seconds, peak} <= set(wide.columns):
        return []
    points = wide.assign(milliseconds=wide[seconds] * 1e3, mib=wide[peak] / MIB).reset_index()
    points = points.dropna(subset=["milliseconds", "mib"])
    several = points["key"].nunique() > 1
    return [(f"{name}\n{key}" if several else name, own) for key, own in points.groupby("key", sort=False)]


def _tradeoff_panel(axis: Axes, points: pd.DataFrame, looks: dict[str, style.Look], sizes: dict[int, float]) -> None:
    for label, own in points.sort_values("embedding_dim").groupby("label", sort=False):
        look = looks[str(label)]
        axis.plot(own["milliseconds"], own["mib"], **look.line(marker="", alpha=0.6, linewidth=0.8, zorder=1))
        for _, point in own.iterrows():
            size = sizes[point["embedding_dim"]]
            axis.plot(point["milliseconds"], point["mib"], **look.line(linestyle="none", markersize=size))
    style.log_axes(axis)
    axis.set_xlabel("Time (ms)")
    axis.set_ylabel("Peak memory (MiB)")


_TRADEOFFS = {
    "Training step": ("step_seconds", "peak_bytes_step"),
    "Loss and its gradient": ("loss_seconds", "peak_bytes_loss"),
}
_Draw = Callable[[Collection, pd.DataFrame, str], Figure | None]
_FIGURES: dict[str, _Draw] = {
    "accuracy": accuracy,
    "tradeoff": tradeoff,
    "loss_curves": loss_curves,
}
_KERNEL_FIGURES: dict[str, _Draw] = {
    "few_labels": regime.few_labels,
    "views": regime.over_views,
    "images": regime.over_images,
    "ridge_rank": regime.ridge_rank,
    "spectrum": regime.spectrum,
    "neighbourhoods": neighbourhoods,
    "loss_curves": loss_curves,
}
