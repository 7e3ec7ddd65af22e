"""Where the best representation is known: how much of it was recovered, over noise, images and base kernel."""

import pandas as pd
from matplotlib.figure import Figure

from results import style
from results.collect import PROTOCOL, Collection
from results.summary import natural, of_metric

VIEWS = f"{PROTOCOL}views"
# What recovery is drawn over: the column, and what the axis is called.
OVER = {"regime.noise": "Noise", "data.limit": "Training images", "regime.kernel.name": "Base kernel"}


def recovery(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """The share of the leading eigenfunctions that is linear in z: a panel an axis, a line a method.

    Lines are of fresh views, open marks of the views that were fitted on. In each panel the other axes are at the value
    that most runs have.
    """
    rows = of_metric(summary, dataset, "recovery")
    if rows.empty:
        return None
    rows = rows.assign(title=rows["title"].str.removesuffix(", NTK"))  # the kernel has an axis of its own
    panels = {column: own for column in OVER if column in rows and (own := _along(rows, column))[column].nunique() > 1}
    if not panels:
        return None
    titles = rows.assign(place=natural(rows["title"])).sort_values("place")["title"].unique()
    looks = style.looks(titles, dash="-")
    figure, axes = style.grid(len(panels), height=2.3)
    bottom = 100 * min(own["mean"].min() for own in panels.values()) - 3
    for (column, own), axis in zip(panels.items(), axes, strict=True):
        values = list(dict.fromkeys(own.sort_values(column)[column]))
        for place, (title, look) in enumerate(looks.items()):
            aside = 0.12 * ((len(looks) - 1) / 2 - place)
            line = look.bars() | ({"linestyle": "none"} if column == "regime.kernel.name" else {})  # kernels: no order
            points = own[own["title"] == title].sort_values(column)
            fitted, fresh = (points[points[VIEWS] == views] for views in ("fitted", "fresh"))
            x, open_x = ([values.index(value) - aside for value in part[column]] for part in (fresh, fitted))
            open_ = look.line(markerfacecolor="white", markeredgecolor=look.color, linestyle="none")
            axis.plot(open_x, 100 * fitted["mean"], **open_)
            axis.errorbar(x, 100 * fresh["mean"], style.ranges(fresh, 100), **line)
        axis.set_xticks(range(len(values)), [str(value) for value in values])
        axis.set(xlabel=OVER[column], ylabel="Recovered (%)", ylim=(bottom, 103))
        others = ", ".join(f"{OVER[other].lower()} {_usual(rows, other)}" for other in panels if other != column)
        axis.set_title(others, fontsize=7)
    style.outer_labels(axes)
    shown = f"Mean and range over {rows['n'].max()} seeds, on fresh views; open: on the views that were fitted"
    return style.finish(figure, looks, shown)


def _along(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    others = [other for other in OVER if other != column and other in rows]
    return rows[(rows[others] == [_usual(rows, other) for other in others]).all(axis=1)]


def _usual(rows: pd.DataFrame, column: str) -> object:
    return rows[column].mode().iloc[0]
