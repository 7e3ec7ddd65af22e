"""Figures of paired differences: each method's to one that is named, by embedding dimension."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results import style
from results.collect import Collection, short_source
from results.inference import LEVEL
from results.paired import Difference, against
from results.summary import headline, is_reference, metric_title, summarise
from results.tables import tests_text

_AROUND = 0.6  # of the range of the differences, on either side: room for their intervals


def write(collection: Collection, folder: Path, method: str) -> list[Path]:
    """Write the differences to ``method`` in the tables that the suite begins with, a figure each; returns the files.

    Raises ``ValueError`` as :func:`results.paired.against` does.
    """
    style.use_style()
    tables = against(headline(summarise(collection)), method)
    paths = []
    for place, table in enumerate(tables):
        name = f"against_{style.file_name(method)}" + (f"_{place + 1}" if len(tables) > 1 else "")
        paths += style.save(partial(draw, table.found), folder, name)
    return paths


def draw(found: list[Difference]) -> Figure:
    """Mean paired differences of one table with their 95 % intervals: a row a method, a panel an embedding dimension.

    Filled marks differ from zero by a test, open ones by none. What lies beyond the panel, and pairs with no seed in
    common, are said in words.
    """
    rows = pd.DataFrame([item.row for item in found]).drop_duplicates("label")
    own = rows.assign(reference=is_reference(rows)).set_index("label")["reference"]
    names = [*own.index[~own], *own.index[own]][::-1]
    looks = style.looks([name for name in names[::-1] if not own[name]])
    looks |= {name: style.grey(0, marker="o") for name in names if own[name]}
    panels: dict[Any, list[Difference]] = {}
    for item in found:
        dim = item.base["embedding_dim"] if pd.notna(item.base["embedding_dim"]) else item.row["embedding_dim"]
        panels.setdefault(None if pd.isna(dim) else int(dim), []).append(item)
    figure, axes = style.grid(len(panels), height=0.75 + 0.22 * len(names))
    scale = 100.0 if rows["unit"].iloc[0] == "fraction" else 1.0
    low, high = _limits([item for item in found if not own[item.row["label"]]] or found)
    for axis, (dim, items) in zip(axes, sorted(panels.items(), key=lambda panel: panel[0] or 0), strict=True):
        axis.set_xlim(scale * low, scale * high)
        axis.axvline(0, color=style.GREY, linewidth=0.8, zorder=0)
        for item in items:
            _difference(axis, item, names.index(item.row["label"]), looks, scale)
        style.named_rows(axis, names)
        axis.set(title=f"$D={dim}$" if dim else "", xlabel="Difference (points)" if scale > 1 else "Difference")
    row, base = found[0].row, found[0].base["label"]
    name = metric_title(row["metric"], row["unit"]).rpartition(" (")[0]
    figure.suptitle(f"{name}: difference to {base}", fontsize=8)
    return style.captioned(figure, f"{short_source(row['dataset'])}: {row['key']}. {_shown(found)}")


def _difference(axis: Axes, item: Difference, row: int, looks: Mapping[str, style.Look], scale: float) -> None:
    look, paired = looks[item.row["label"]], item.paired
    if paired is None:
        axis.annotate(item.missing, (0.98, row), xycoords=axis.get_yaxis_transform(), **style.REMARK, va="center")
        return
    mean, (left, right) = scale * paired.difference, axis.get_xlim()
    if left <= mean <= right:
        ends = np.nan_to_num(scale * np.array([[paired.difference - paired.low], [paired.high - paired.difference]]))
        marks = {**look.bars(), "linestyle": "none", "markeredgecolor": look.color}
        marks |= {} if paired.p_holm <= LEVEL else {"markerfacecolor": "white"}
        axis.errorbar([mean], [row], xerr=ends, **marks)
    else:
        text, x = (f"← {mean:.1f}", 0.02) if mean < left else (f"{mean:.1f} →", 0.98)
        remark = {**style.REMARK, "ha": "left" if mean < left else "right", "va": "center"}
        axis.annotate(text.replace("-", "−"), (x, row), xycoords=axis.get_yaxis_transform(), **remark)


def _limits(found: list[Difference]) -> tuple[float, float]:
    """Room for zero, the differences and their intervals, but no interval may shrink the differences to a half."""
    pairs = [item.paired for item in found if item.paired]
    middle = [0.0, *(pair.difference for pair in pairs)]
    ends = [end for pair in pairs for end in (pair.low, pair.high) if np.isfinite(end)]
    return style.limits(middle, ends, _AROUND * (max(middle) - min(middle) or 1e-3), 0.1)


def _shown(found: list[Difference]) -> str:
    """What the marks say."""
    tests = [item.paired for item in found if item.paired and item.paired.test]
    if not tests:
        return "Mean over seeds; one seed: no test"
    level = f"filled: differs from zero at the {100 * LEVEL:.0f} % level; open: not significant"
    return f"Mean and 95 % interval; {level} ({tests_text(tests)})"
