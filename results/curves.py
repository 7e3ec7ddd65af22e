"""Loss curves, from the lines that each network logged as it was trained."""

from __future__ import annotations

import math
from contextlib import suppress

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results import style
from results.collect import Collection
from results.runs import Records
from results.summary import configurations, natural


def curve(records: Records) -> pd.Series:
    """The loss by step that a network logged; empty where it logged nothing.

    Of a step that was logged twice (before and after a resumption) the later line counts. A loss that is not finite
    stays, as ``nan``.
    """
    losses = {}
    for line in records.curve():
        with suppress(ValueError, KeyError, TypeError):
            losses[int(line["step"])] = float(line["loss"])
    found = pd.Series(losses, dtype=float).sort_index()
    return found.where(found.abs() != math.inf)


def loss_curves(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """The training loss over steps: a panel a method, a line an embedding dimension, a band from seed to seed.

    Each panel has its own scale: losses of two methods are not comparable. A cross marks the last finite loss of a
    network that diverged.
    """
    curves = _curves(collection, dataset)
    if curves.empty:
        return None
    dimensions = sorted(curves["embedding_dim"].unique())
    colors = style.shades(len(dimensions))
    looks = {dim: style.Look(colors[place], "", style.dash(place)) for place, dim in enumerate(dimensions)}
    panels = list(curves.groupby("label", sort=False))
    figure, axes = style.grid(len(panels), height=1.55)
    for (label, own), axis in zip(panels, axes, strict=True):
        for dimension, look in looks.items():
            _line(axis, own[own["embedding_dim"] == dimension], look)
        axis.set(title=str(label), xlabel="Step", ylabel="Loss")
    style.outer_labels(axes)
    return style.finish(figure, {f"$D={dim}$": look for dim, look in looks.items()}, "Mean and range over seeds")


def _curves(collection: Collection, dataset: str) -> pd.DataFrame:
    """Every logged loss of one data set's trained networks: ``label, embedding_dim, id, diverged, step, loss``."""
    runs = collection.runs.merge(configurations(collection)[["configuration", "label"]], on="configuration")
    runs = runs[(runs["dataset"] == dataset) & (runs["kind"] == "trained")]
    runs = runs.assign(place=natural(runs["label"])).sort_values(["place", "embedding_dim"])
    parts = []
    for _, run in runs.iterrows():
        losses = curve(collection.records[run["id"]]).rename_axis("step").reset_index(name="loss")
        parts.append(losses.assign(**run[["label", "embedding_dim", "id"]], diverged=run["status"] == "diverged"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _line(axis: Axes, own: pd.DataFrame, look: style.Look) -> None:
    by_step = own.groupby("step")["loss"]
    mean = by_step.mean()
    axis.plot(mean.index, mean, **look.line())
    axis.fill_between(mean.index, by_step.min(), by_step.max(), color=look.color, alpha=0.2, linewidth=0)
    for _, run in own[own["diverged"] & own["loss"].notna()].groupby("id"):
        last = run.iloc[-1]
        axis.plot(last["step"], last["loss"], **style.cross(look.color))
