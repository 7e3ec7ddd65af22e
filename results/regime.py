"""Figures of the kernel regime: few labels by method, over views, images, ridge and rank; spectra; neighbourhoods."""

import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from results import style
from results.collect import Collection
from results.regime_rows import OVER, few_label_rows, largest, pictures, several_ranks, shots_text, spectra
from results.summary import is_reference, natural

# What the heat maps have across, beside the ridge.
ACROSS = {"embedding_dim": "Rank limit $d$", "regime.time": "Time, relative"}


def few_labels(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """Few-label accuracy, a row a method and a panel a number of labels: means and 95 % intervals, a mark a probe.

    Of the numbers of views and of images the largest that a method was run with; none where it had several ranks or
    times, of which there is a heat map.
    """
    found = few_label_rows(summary, dataset)
    chosen = largest(found)
    if chosen.empty or several_ranks(chosen) or ("regime.time" in chosen and chosen["regime.time"].nunique() > 1):
        return None
    order = chosen.assign(reference=is_reference(chosen), natural=natural(chosen["name"]))
    names = list(dict.fromkeys(order.sort_values(["reference", "natural"])["name"]))[::-1]
    looks = style.looks(chosen["probe"].unique(), dash="none")
    figure, axes = style.grid(chosen["shots"].nunique(), height=0.5 + 0.2 * len(names))
    for (shots, own), axis in zip(chosen.groupby("shots"), axes, strict=True):
        for place, (probe, look) in enumerate(looks.items()):
            points = own[own["probe"] == probe]
            rows = [names.index(name) + 0.22 * ((len(looks) - 1) / 2 - place) for name in points["name"]]
            axis.errorbar(100 * points["mean"], rows, xerr=100 * points["half_width"].fillna(0), **look.bars())
        axis.set(title=shots_text(shots), xlabel="Top-1 accuracy (%)")
        style.named_rows(axis, names)
    limits = found["data.limit"].dropna().astype(int) if "data.limit" in found else pd.Series(dtype=int)
    most = f"; {limits.max()} training images" if limits.nunique() > 1 else ""
    if len(looks) > 1:
        return style.finish(figure, looks, f"Mean and 95 % interval over seeds, by probe{most}")
    return style.captioned(figure, f"{chosen['probe'].iloc[0]}: mean and 95 % interval over seeds{most}")


def over(collection: Collection, summary: pd.DataFrame, dataset: str, column: str) -> Figure | None:
    """Few-label accuracy over the number of views of an image, or of training images: a ``column`` of ``OVER``.

    A panel a number of labels, a line a method, for the first probe there is; what has no such axis is level.
    A method that was run in several variants (augmentations, say) has a row of panels of its own, each with the methods
    that were not in grey.
    """
    rows = few_label_rows(summary, dataset)
    if column not in rows or rows.empty:
        return None
    rows = largest(rows[rows["probe"] == rows["probe"].iloc[0]], but=column)
    several = rows.groupby("name")[column].transform("nunique") > 1
    lines, levels = rows[several], rows[~several & ((rows["method"] == "base_kernel") | (rows["kind"] != "kernel"))]
    if lines.empty:
        return None
    variants = lines.groupby("title", sort=False)["name"].nunique()
    families = [str(title) for title in variants.index[variants > 1]]
    if families:
        # What tells a variant from the others of its method is enough beside the title of its panel.
        named = lines["name"].str.extract(f"^({'|'.join(map(re.escape, families))}), (.*)")
        lines = lines.assign(title=named[0].fillna(lines["title"]), name=named[1].fillna(lines["name"]))
    beside = lines[~lines["title"].isin(families)] if families else lines.head(0)
    ours = lines.drop(beside.index)
    looks = style.looks(ours["name"].unique())
    greys = dict.fromkeys([*beside["name"], *levels["name"]])
    looks |= {name: style.grey(place + 1) for place, name in enumerate(greys)}
    shots = sorted(lines["shots"].unique())
    figure, axes = style.grid(max(len(families), 1) * len(shots), columns=len(shots), height=2.3)
    for axis, (family, count) in zip(axes, product(families or [""], shots), strict=True):
        shown = pd.concat([ours[ours["title"] == family] if family else ours, beside])
        for name, points in shown[shown["shots"] == count].sort_values(column).groupby("name", sort=False):
            x, bars = points[column].astype(float), looks[str(name)].bars()
            widths = None if str(name) in greys else 100 * points["half_width"]
            axis.errorbar(x, 100 * points["mean"], widths, **bars)
        for _, level in levels[levels["shots"] == count].iterrows():
            axis.axhline(100 * level["mean"], zorder=0, **looks[level["name"]].line())
        axis.set_xscale("log", base=2)
        style.fixed_ticks(axis.xaxis, sorted(lines[column].astype(int).unique()))
        axis.set_title("\n".join(filter(None, [family, shots_text(count)])))
        axis.set(xlabel=OVER[column], ylabel="Top-1 accuracy (%)")
    style.outer_labels(axes)
    grey = "; grey: for comparison" if greys else ""
    return style.finish(figure, looks, f"{lines['probe'].iloc[0]}: mean and 95 % interval over seeds{grey}")


def heat_map(collection: Collection, summary: pd.DataFrame, dataset: str, across: str) -> Figure | None:
    """Few-label accuracy over the ridge and a column ``across`` of ``ACROSS``; white is the base kernel's accuracy.

    A panel a method and number of labels. Only methods that were run with three ridges or more, and as many others.
    """
    rows = few_label_rows(summary, dataset)
    if rows.empty or not {"regime.ridge", across} <= set(rows):
        return None
    own = rows["kind"].eq("kernel") & rows["regime.ridge"].notna() & (rows["probe"] == rows["probe"].iloc[0])
    # What is not limited stands last.
    values = {"ridge": rows["regime.ridge"], "place": rows[across]}
    cells = rows.assign(**{name: own.astype(float).fillna(np.inf) for name, own in values.items()})[own]
    wide = cells.groupby("title")[["ridge", "place"]].transform("nunique").min(axis=1) >= 3
    cells = cells[wide]
    if cells.empty:
        return None
    base = rows[(rows["method"] == "base_kernel") & (rows["probe"] == cells["probe"].iloc[0])]
    several = cells["title"].nunique() > 1
    figure, axes = style.grid(cells.groupby(["title", "shots"]).ngroups, columns=2, height=2.7)
    for ((title, shots), panel), axis in zip(cells.groupby(["title", "shots"], sort=False), axes, strict=True):
        table = 100 * panel.pivot_table(index="ridge", columns="place", values="mean", observed=True)
        level = 100 * base.loc[base["shots"] == shots, "mean"].mean()
        _heat(axis, table, level)
        axis.set(xlabel=ACROSS[across], ylabel="Ridge, relative")
        named = f"{shots_text(shots)}; base kernel {level:.1f}" if level == level else shots_text(shots)
        axis.set_title(f"{title}\n{named}" if several else named)
    style.outer_labels(axes)
    title, probe = cells[["title", "probe"]].iloc[0]
    told = f"top-1 accuracy (%), {probe}, mean over {cells['n'].max()} seeds"
    figure.suptitle(told[0].upper() + told[1:] if several else f"{title}: {told}", fontsize=8)
    return figure


def _heat(axis: Axes, table: pd.DataFrame, level: float) -> None:
    """One panel: every cell with its value, white at ``level``, or where that is none at the median."""
    values = table.to_numpy()
    middle = level if level == level else float(np.nanmedian(values))
    reach = max(float(np.nanmax(np.abs(values - middle))), 1e-9)
    axis.imshow(
        values, cmap="PuOr", norm=TwoSlopeNorm(middle, middle - reach, middle + reach), origin="lower", aspect="auto"
    )
    for (row, column), value in np.ndenumerate(values):
        color = "white" if abs(value - middle) > 0.6 * reach else "black"
        axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color=color)
    axis.set_xticks(range(values.shape[1]), ["∞" if place == np.inf else f"{place:g}" for place in table.columns])
    axis.set_yticks(range(values.shape[0]), [f"{ridge:g}" for ridge in table.index])


def spectrum(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """The share of the representation's variance by eigenvalue, a line a method, for the first seed of each.

    A few eigenvalues are no spectrum: they have no line.
    """
    rows = largest(summary[summary["dataset"] == dataset])
    shares = spectra(collection, rows)
    if not shares:
        return None
    references = {*rows.loc[is_reference(rows), "name"]}
    looks = style.looks([name for name in shares if name not in references])
    looks |= {name: style.grey(place) for place, name in enumerate(name for name in shares if name in references)}
    figure, (axis,) = style.grid(1, height=2.8)
    figure.set_figwidth(style.PAGE)
    for name, values in shares.items():
        every = max(1, len(values) // 8)
        axis.plot(range(1, len(values) + 1), values, **looks[name].line(markevery=every))
    axis.set(xscale="log", yscale="log", xlabel="Eigenvalue", ylabel="Share of the variance")
    axis.set_ylim(bottom=1e-5)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return style.finish(figure, looks, "Spectrum of the representation's covariance, first seed")


def neighbourhoods(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """The cosine of k(x₀, x) over the plane: the base kernel, then the induced one by the number of neighbours related.

    A row a method that was run with several. The star is x₀; points of other classes are lighter. A picture is
    ``base``, ``induced``: cosines (G, G) by either kernel with one point, ``origin`` (2,), over a square of half-side
    ``edge``; ``points`` (N, 2) with ``labels`` (N,) are the training set.
    """
    rows = pictures(collection, collection.runs[collection.runs["dataset"] == dataset])
    if not rows:
        return None
    columns = 1 + max(map(len, rows.values()))
    figure, axes = style.grid(columns * len(rows), columns=columns, height=1.6)
    for row, (title, own) in enumerate(rows.items()):
        first, *across = axes[row * columns : (row + 1) * columns]
        _draw(first, next(iter(own.values())), "base", "" if row else "Base kernel")
        first.set_ylabel(title)
        for axis, (neighbours, picture) in zip(across, own.items(), strict=False):
            _draw(axis, picture, "induced", "" if row else f"{neighbours} neighbours")
        for unused in across[len(own) :]:
            unused.remove()
    figure.colorbar(axes[0].images[0], ax=axes, shrink=0.6, label="Cosine with the point marked by a star")
    return figure


def _draw(axis: Axes, picture: Mapping[str, Any], kernel: str, title: str) -> None:
    points, origin, labels = (np.asarray(picture[name]) for name in ("points", "origin", "labels"))
    edge = picture["edge"]
    axis.imshow(picture[kernel], extent=(-edge, edge, -edge, edge), origin="lower", cmap="PuOr", vmin=-1, vmax=1)
    same = labels == labels[np.linalg.norm(points - origin, axis=1).argmin()]
    for which, color in ((same, "black"), (~same, "0.55")):
        axis.plot(*points[which].T, linestyle="none", marker=".", markersize=1.6, color=color)
    axis.plot(*origin, marker="*", markersize=7, color="black", markeredgecolor="white", markeredgewidth=0.5)
    axis.set(title=title, xticks=[], yticks=[])
