"""Figures of networks in the kernel regime: how far they are from it over their width, and modes learned in steps."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from results import style
from results.cell_plots import slope
from results.collect import PROTOCOL, Collection
from results.summary import of_metric

WIDTH = "mlp.width"
_KERNEL, _OF = f"{PROTOCOL}kernel", f"{PROTOCOL}of"
_PANELS = {"gram": "Inner products of training images", "predictions": "Inner products of new with training images"}


def exponents(summary: pd.DataFrame, dataset: str) -> dict[tuple[str, str, str], float]:
    """By method, kernel ("own" or "infinite") and what is compared: p of distance ∝ widthᵖ, on the means over seeds."""
    groups = of_metric(summary, dataset, "kernel_distance").groupby(["title", _KERNEL, _OF], sort=True)
    return {(str(title), str(kernel), str(of)): slope(own[WIDTH], own["mean"]) for (title, kernel, of), own in groups}


def width(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """Relative distance from the closed form over the width: a line a method and kernel, exponents in the legend."""
    rows = of_metric(summary, dataset, "kernel_distance")
    if rows.empty or rows[WIDTH].nunique() < 3:
        return None
    found = exponents(summary, dataset)
    titles = list(dict.fromkeys(title for title, _, _ in found))
    looks = {}
    for title, one in style.looks(titles).items():
        for kernel, dash in (("own", "-"), ("infinite", (0, (3, 1.5)))):
            told = ", ".join(f"{found[title, kernel, of]:.2f}".replace("-", "−") for of in _PANELS)
            name = f"{title.removeprefix('Wide network, ')}, {kernel} NTK ({told})"
            looks[title, kernel] = name, style.Look(one.color, one.marker, dash)
    figure, axes = style.grid(len(_PANELS), columns=2, height=2.5)
    for (of, heading), axis in zip(_PANELS.items(), axes, strict=True):
        for (title, kernel), (_, look) in looks.items():
            own = rows[(rows[_OF] == of) & (rows["title"] == title) & (rows[_KERNEL] == kernel)].sort_values(WIDTH)
            axis.errorbar(own[WIDTH].astype(float), own["mean"], style.ranges(own), **look.bars())
        widths = np.array(sorted(rows[WIDTH].astype(float).unique()))
        top = rows.loc[rows[_OF] == of, "mean"].max()
        axis.plot(widths, 1.3 * top * (widths / widths[0]) ** -0.5, color=style.GREY, linewidth=0.8, linestyle=":")
        axis.annotate("width$^{-1/2}$", (widths[-1], 1.5 * top * (widths[-1] / widths[0]) ** -0.5), **style.REMARK)
        axis.set(xscale="log", yscale="log", title=heading, xlabel="Width", ylabel="Relative distance")
        style.fixed_ticks(axis.xaxis, [int(value) for value in widths])
        style.plain_numbers(axis.yaxis)
    style.outer_labels(axes)
    n = int(rows["n"].max())
    shown = f"From the closed form on the network's own NTK or the infinite one; mean and range of {n} seeds"
    return style.finish(figure, dict(looks.values()), f"{shown}; exponents of both panels in brackets")


def stepwise(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """The eigenvalues of Barlow Twins' Γ over time, a panel a width: a network's, and the linear flow on its NTK."""
    details = {name: told for name, told in collection.details("kernel_limit").items() if told}
    runs = collection.runs[(collection.runs["dataset"] == dataset) & collection.runs["id"].isin(details.keys())]
    if runs.empty:
        return None
    runs = runs.sort_values([WIDTH, "seed"]).drop_duplicates(WIDTH)
    figure, axes = style.grid(len(runs), columns=2, height=1.9)
    shown = max(len(details[name]["learned_at"]) for name in runs["id"])
    looks = style.shades([f"Mode {mode + 1}" for mode in range(shown)], dash="none")
    for (name, units), axis in zip(runs[["id", WIDTH]].to_numpy(), axes, strict=True):
        told = {key: np.array(values) for key, values in details[name].items()}
        for mode, look in enumerate(looks.values()):
            axis.plot(told["time"], told["flow"][:, mode], color=look.color, linewidth=1.0)
            some = np.unique(np.geomspace(1, len(told["time"]) - 1, 40).astype(int))
            axis.plot(told["time"][some], told["network"][some, mode], **look.line(markersize=3.5))
        for moment, look in zip(told["learned_at"], looks.values(), strict=False):
            axis.axvline(moment, color=look.color, linestyle=":", linewidth=0.8, zorder=0)
        axis.set(xscale="log", title=f"Width {units}", xlabel="Time, relative", ylabel="Eigenvalue of $\\Gamma_z$")
        axis.set_xlim(told["time"][1], told["time"][-1])
        style.plain_numbers(axis.xaxis)
    style.outer_labels(axes)
    told_apart = "Marks: the network; lines: gradient flow on its NTK from the same start; dotted: the predicted times"
    return style.finish(figure, looks, f"{told_apart}, of the first seed")
