"""Loss curves, from the lines that each run logged as it went."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results import style
from results.collect import Collection
from results.summary import configurations, natural

METRICS_NAME = "metrics.jsonl"


def read_curve(folder: Path) -> pd.Series:
    """The loss by step that a run logged in ``metrics.jsonl``; empty where it logged nothing.

    A line that a kill tore is passed over, and of a step that was logged twice (before and after a resumption) the
    later line counts. A loss that is not finite stays, as ``nan``.
    """
    path = folder / METRICS_NAME
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    losses = dict(point for line in lines if (point := _point(line)) is not None)
    curve = pd.Series(losses, dtype=float).sort_index()
    return curve.where(curve.abs() != math.inf)


def _point(line: str) -> tuple[int, float] | None:
    try:
        logged = json.loads(line)
        return int(logged["step"]), float(logged["loss"])
    except (ValueError, KeyError, TypeError):
        return None


def loss_curves(collection: Collection, summary: pd.DataFrame, source: str) -> Figure | None:
    """The training loss over steps: a panel a method, a line an embedding dimension, a band from seed to seed.

    Each panel has its own scale: losses of two methods are not comparable. A cross marks the last finite loss of a run
    that diverged.
    """
    curves = _curves(collection, source)
    if curves.empty:
        return None
    dimensions = sorted(curves["embedding_dim"].unique())
    colors = dict(zip(dimensions, style.shades(len(dimensions)), strict=True))
    panels = list(curves.groupby("label", sort=False))
    figure, axes = style.grid(len(panels), height=1.55)
    for (label, own), axis in zip(panels, axes, strict=True):
        for place, dimension in enumerate(dimensions):
            _line(axis, own[own["embedding_dim"] == dimension], colors[dimension], style.dash(place))
        axis.set(title=str(label), xlabel="Step", ylabel="Loss")
    style.outer_labels(axes)
    handles = [Line2D([], [], color=colors[dim], linestyle=style.dash(place)) for place, dim in enumerate(dimensions)]
    return style.finish(figure, handles, [f"$D={dim}$" for dim in dimensions], "Mean and range over seeds")


def _curves(collection: Collection, source: str) -> pd.DataFrame:
    """Every logged loss of one data set's trained runs: ``label, embedding_dim, id, diverged, step, loss``."""
    runs = collection.runs.merge(configurations(collection)[["configuration", "label"]], on="configuration")
    runs = runs[(runs["data.source"] == source) & (runs["epochs"] > 0)]
    runs = runs.assign(place=natural(runs["label"])).sort_values(["place", "embedding_dim"])
    parts = [_curve_of(run) for _, run in runs.iterrows()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _curve_of(run: pd.Series) -> pd.DataFrame:
    curve = read_curve(Path(run["folder"]))
    table = pd.DataFrame({"step": curve.index, "loss": curve.to_numpy()})
    return table.assign(**run[["label", "embedding_dim", "id"]], diverged=run["status"] == "diverged")


def _line(axis: Axes, own: pd.DataFrame, color: tuple[float, float, float], dash: object) -> None:
    by_step = own.groupby("step")["loss"]
    mean = by_step.mean()
    axis.plot(mean.index, mean, color=color, linestyle=dash)
    axis.fill_between(mean.index, by_step.min(), by_step.max(), color=color, alpha=0.2, linewidth=0)
    for _, run in own[own["diverged"] & own["loss"].notna()].groupby("id"):
        last = run.iloc[-1]
        axis.plot(last["step"], last["loss"], **style.cross(color))
