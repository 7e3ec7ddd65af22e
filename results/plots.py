"""Figures: accuracy over embedding dimension, time against memory, loss curves; and the kernel regime's own."""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial, reduce
from itertools import pairwise
from operator import getitem
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from results import expectations, ground_truth, regime, regime_width, style
from results.collect import PROTOCOL, SUBJECT, Collection, short_source
from results.formats import MIB
from results.regime_rows import shots_text
from results.runs import Records
from results.summary import COSTS, configurations, headline, metric_title, natural, protocol_columns, summarise

# The part of its protocol that a metric is known by.
_SHOTS = "labels_per_class"
_KNOWN_BY = {"knn_top1": "k", "logistic_top1": "C", "fewshot_top1": _SHOTS}
_BARS = 4  # seeds from which on intervals are drawn
_NAMED = 10  # lines at most that have their names at their ends


def write(collection: Collection, folder: Path) -> list[Path]:
    """Write every figure that the collection holds data for, as PNG and PDF, into ``folder``; returns the files.

    Where it holds several data sets, each has its own files, named after it.
    """
    style.use_style()
    summary = summarise(collection)
    datasets = list(dict.fromkeys([*collection.runs["dataset"], *summary["dataset"]]))
    paths = []
    for dataset in datasets:
        closed_form = summary.loc[summary["dataset"] == dataset, "kind"].isin(("kernel", "wide")).any()
        for name, draw in (_KERNEL_FIGURES if closed_form else _FIGURES).items():
            file_name = name if len(datasets) == 1 else f"{style.file_name(short_source(dataset))}_{name}"
            paths += style.save(partial(draw, collection, summary, dataset), folder, file_name)
    return paths


def accuracy(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """The figures that a suite begins with over the embedding dimension, a panel each: means, and every seed.

    From ``_BARS`` seeds on, 95 % intervals too: of fewer they would be wider than the panel. What was not trained here
    has no embedding dimension to speak of: it is a horizontal line. A cross at the foot stands for a configuration of
    which no run came to an end. Lines of a single panel have their names at their ends.
    """
    chosen = headline(summary[(summary["dataset"] == dataset) & ~summary["metric"].isin(COSTS)])
    trained = chosen[chosen["kind"] == "trained"]
    shown = set(trained[trained["n"] > 0].groupby(["metric", "key"]).groups)
    if not shown:
        return None
    panels = [own for place, own in chosen.groupby(["metric", "key"], sort=False) if place in shown]
    looks = style.looks(trained["label"].unique())
    figure, axes = style.grid(len(panels), height=2.0 if len(panels) > 1 else 3.0)
    for own, axis in zip(panels, axes, strict=True):
        _accuracy_panel(axis, own, looks)
        # ``Weighted kNN`` above the panel, ``Top-1 accuracy (%)`` beside it.
        name, _, what = metric_title(own["metric"].iloc[0], own["unit"].iloc[0]).partition(", ")
        axis.set_title("\n".join(filter(None, [name, _particular(own, chosen)])))
        axis.set_ylabel(what[:1].upper() + what[1:])
    style.outer_labels(axes)
    lost = "; ×: no run finished" if (chosen["n"] == 0).any() else ""
    bars = " and 95 % interval" if (trained["n"] >= _BARS).any() else ""
    what = f"Mean{bars} over seeds; points: each seed{lost}"
    if len(panels) > 1 or len(looks) > _NAMED:
        return style.finish(figure, looks, what)
    last = trained[trained["n"] > 0].sort_values("embedding_dim").groupby("label", sort=False)["mean"].last()
    style.name_ends(axes[0], last * (100.0 if (trained["unit"] == "fraction").all() else 1.0), looks)
    return style.captioned(figure, what)


def _accuracy_panel(axis: Axes, own: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    scale = 100.0 if (own["unit"] == "fraction").all() else 1.0
    trained = own[own["kind"] == "trained"].sort_values("embedding_dim").astype({"embedding_dim": float})
    dimensions = sorted(map(int, trained["embedding_dim"].unique()))
    axis.set_xscale("log", base=2)
    style.fixed_ticks(axis.xaxis, dimensions)
    axis.set(xlim=(dimensions[0] / 1.35, dimensions[-1] * 1.35), xlabel="Embedding dimension $D$")
    axis.set_ylim(*(scale * limit for limit in _limits(trained)))
    gap = min((high / low for low, high in pairwise(dimensions)), default=2.0)
    for place, (label, look) in enumerate(looks.items()):
        aside = gap ** (0.2 * (place / max(1, len(looks) - 1) - 0.5))  # so that intervals stand side by side
        points = trained[trained["label"] == label]
        points = points.assign(x=points["embedding_dim"] * aside)
        found, lost = points[points["n"] > 0], points[points["n"] == 0]
        widths = found["half_width"].where(found["n"] >= _BARS, 0.0).fillna(0.0)
        axis.errorbar(found["x"], found["mean"] * scale, widths * scale, **look.bars())
        for x, seeds in zip(found["x"], found["by_seed"], strict=True):
            values = [scale * float(values.mean()) for values in seeds.values()]
            axis.scatter([x] * len(values), values, s=5, color=look.color, alpha=0.45, linewidths=0, zorder=1.5)
        for x in lost["x"]:
            axis.plot(x, 0.02, transform=axis.get_xaxis_transform(), **style.cross(look.color))
    _references(axis, own[own["kind"] != "trained"], scale)


def _limits(own: pd.DataFrame) -> tuple[float, float]:
    """Room for every seed and the intervals, but no interval may shrink the seeds to less than a third.

    Nothing above 1 is shown of fractions, whatever a t-interval says.
    """
    values = [float(values.mean()) for seeds in own["by_seed"] for values in seeds.values()]
    span = max(max(values) - min(values), 0.02 * abs(max(values)), 1e-9)
    ends = own.loc[own["n"] >= _BARS, ["low", "high"]].to_numpy(dtype=float).ravel()
    bottom, top = style.limits(values, ends[np.isfinite(ends)].tolist(), span, 0.08)
    return bottom, min(top, 1 + 0.08 * span) if (own["unit"] == "fraction").all() else top


def _particular(own: pd.DataFrame, chosen: pd.DataFrame) -> str:
    """The part of a panel's protocol that tells it from its metric's other panels, or that its metric is known by."""
    metric, key = own[["metric", "key"]].iloc[0]
    panels = chosen[chosen["metric"] == metric]
    panels = panels.loc[(panels["n"] == 0).sort_values(kind="stable").index].drop_duplicates("key").set_index("key")
    for name in SUBJECT:
        # What a panel's rows may differ in is no part of what its figures share.
        panels[PROTOCOL + name] = panels.get(PROTOCOL + name, panels[name]).where(panels[name].isna())
    protocol = panels[protocol_columns(panels)].rename(columns=lambda name: name.removeprefix(PROTOCOL))
    told = protocol.nunique(dropna=False) > 1 if len(panels) > 1 else protocol.columns == _KNOWN_BY.get(metric)
    shown = protocol.loc[key, told].dropna()
    if _SHOTS in shown:
        shown[_SHOTS] = shots_text(shown[_SHOTS])
    return ", ".join(v if n == _SHOTS else f"{n}={v}".replace("_", " ") for n, v in shown.items())


def _references(axis: Axes, others: pd.DataFrame, scale: float) -> None:
    """What was not trained here: a line, or its value at the edge of the panel beyond which it lies."""
    levels = {str(label): scale * own["mean"].mean() for label, own in others.groupby("label", sort=False)}
    bottom, top = axis.get_ylim()
    below = [f"↓ {label} {level:.1f}" for label, level in levels.items() if level <= bottom]
    above = [f"↑ {label} {level:.1f}" for label, level in levels.items() if level >= top]
    for label, level in levels.items():
        if bottom < level < top:
            axis.axhline(level, color=style.GREY, linestyle=":", linewidth=0.9, zorder=1)
            place = axis.get_yaxis_transform()  # x in parts of the panel, y in data
            x, side = (0.99, "right") if _nearest(axis, level, -1) > _nearest(axis, level, 1) else (0.01, "left")
            remark = {**style.REMARK, "ha": side, "va": "bottom"}
            axis.annotate(label, (x, level), (0, 1.5), place, "offset points", **remark)
    axis.annotate("\n".join(below), (0.99, 0.01), xycoords="axes fraction", **style.REMARK, va="bottom")
    axis.annotate("\n".join(above), (0.99, 0.99), xycoords="axes fraction", **style.REMARK, va="top")


def _nearest(axis: Axes, level: float, half: int) -> float:
    """How far the nearest point of the right half of a panel, or of the left (1), lies from a level, in data."""
    middle = math.sqrt(math.prod(axis.get_xlim()))
    points = np.concatenate([found.get_offsets() for found in axis.collections if isinstance(found, PathCollection)])
    return float(min((abs(y - level) for x, y in points if half * (middle - x) >= 0), default=math.inf))


def tradeoff(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """Peak memory over time, a point a method and dimension: of the whole step, and of the loss and its gradient.

    Times of two machines are not comparable: each machine has its own panels.
    """
    costs = summary[(summary["dataset"] == dataset) & (summary["n"] > 0) & (summary["kind"] == "trained")]
    wide = costs.pivot(index=["label", "embedding_dim", "configuration", "key"], columns="metric", values="mean")
    panels = {}
    step, loss = ("step_seconds", "peak_bytes_step"), ("loss_seconds", "peak_bytes_loss")
    for name, (seconds, peak) in {"Training step": step, "Loss and its gradient": loss}.items():
        if {seconds, peak} <= set(wide.columns):
            points = wide.assign(milliseconds=wide[seconds] * 1e3, mib=wide[peak] / MIB).reset_index()
            points = points.dropna(subset=["milliseconds", "mib"])
            for key, own in points.groupby("key", sort=False):
                panels[f"{name}\n{fill(str(key), 50)}" if points["key"].nunique() > 1 else name] = own
    if not panels:
        return None
    looks, sizes = style.looks(costs["label"].unique()), style.sizes(sorted(costs["embedding_dim"].unique()))
    figure, axes = style.grid(len(panels), columns=2, height=2.6)
    for (title, points), axis in zip(panels.items(), axes, strict=True):
        groups = points.sort_values("embedding_dim").groupby("label", sort=False)
        lines = [(looks[str(label)].line(), own) for label, own in groups]
        style.tradeoff(axis, lines, sizes, "Peak memory (MiB)", alpha=0.6, zorder=1)
        axis.set_title(title)
    grown = f"; marks grow with $D$ = {', '.join(map(str, sizes))}" if len(sizes) > 1 else ""
    jobs = collection.runs.loc[collection.runs["dataset"] == dataset, "provenance.jobs"].max()
    shared = f"; of up to {jobs:.0f} runs side by side, which lengthens times" if jobs > 1 else ""
    return style.finish(figure, looks, f"Mean over seeds of each run's median time and peak memory{grown}{shared}")


def curve(records: Records, *path: str) -> pd.Series:
    """The loss, or what lies at ``path``, by the step at which a network logged it; empty where it logged nothing.

    Of a step that was logged twice (before and after a resumption) the later line counts. A loss that is not finite
    stays, as ``nan``.
    """
    losses = {}
    for line in records.curve():
        with suppress(ValueError, KeyError, TypeError):
            found: Any = reduce(getitem, path or ("loss",), line)
            losses[int(line["step"])] = float(found)
    by_step = pd.Series(losses, dtype=float).sort_index()
    return by_step.where(by_step.abs() != math.inf)


def loss_curves(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """The training loss over steps: a panel a method, a line an embedding dimension, a band from seed to seed.

    Each panel has its own scale: losses of two methods are not comparable. A cross marks the last finite loss of a
    network that diverged. Dashed, on the right: the accuracy of a linear probe that was trained beside.
    """
    runs = collection.runs.merge(configurations(collection)[["configuration", "label"]], on="configuration")
    runs = runs[(runs["dataset"] == dataset) & (runs["kind"] == "trained")]
    runs = runs.assign(place=natural(runs["label"])).sort_values(["place", "embedding_dim"])
    parts = []
    for _, run in runs.iterrows():
        logged = {"loss": curve(records := collection.records[run["id"]])}
        logged["online"] = curve(records, "online_probe", "top1")
        lines = pd.DataFrame(logged).rename_axis("step").reset_index()
        parts.append(lines.assign(**run[["label", "embedding_dim", "id"]], diverged=run["status"] == "diverged"))
    if not any(map(len, parts)):
        return None
    curves = pd.concat(parts, ignore_index=True)
    dimensions = sorted(curves["embedding_dim"].unique())
    looks = style.shades([f"$D={dim}$" for dim in dimensions], marker="")
    panels = list(curves.groupby("label", sort=False))
    figure, axes = style.grid(len(panels), height=1.55)
    for (label, own), axis in zip(panels, axes, strict=True):
        beside = axis.twinx() if own["online"].notna().any() else None
        if beside is not None:
            beside.set_ylabel("Online top-1 (%)")
        for dimension, look in zip(dimensions, looks.values(), strict=True):
            points = own[own["embedding_dim"] == dimension]
            by_step = points.groupby("step")["loss"]
            mean = by_step.mean()
            axis.plot(mean.index, mean, **look.line())
            axis.fill_between(mean.index, by_step.min(), by_step.max(), color=look.color, alpha=0.2, linewidth=0)
            if beside is not None:
                accuracy = 100 * points.groupby("step")["online"].mean()
                beside.plot(accuracy.index, accuracy, **{**look.line(), "linestyle": "--"})
            last = points[points["diverged"] & points["loss"].notna()].groupby("id").tail(1)
            for _, point in last.iterrows():
                axis.plot(point["step"], point["loss"], **style.cross(look.color))
        axis.set(title=str(label), xlabel="Step", ylabel="Loss")
    style.outer_labels(axes)
    return style.finish(figure, looks, "Mean and range over seeds")


_Draw = Callable[[Collection, pd.DataFrame, str], Figure | None]
_FIGURES: dict[str, _Draw] = {"accuracy": accuracy, "tradeoff": tradeoff, "loss_curves": loss_curves}
_KERNEL_FIGURES: dict[str, _Draw] = {
    "few_labels": regime.few_labels,
    "views": partial(regime.over, column="regime.n_views"),
    "images": partial(regime.over, column="data.limit"),
    "ridge_rank": partial(regime.heat_map, across="embedding_dim"),
    "ridge_time": partial(regime.heat_map, across="regime.time"),
    "spectrum": regime.spectrum,
    "neighbourhoods": regime.neighbourhoods,
    "width": regime_width.width,
    "stepwise": regime_width.stepwise,
    "recovery": ground_truth.recovery,
    "expectations": expectations.expectations,
    "loss_curves": loss_curves,
}
