"""What was to be expected of augmentations without labels, against what few labels then found: rank correlations."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import ndtri

from results import style
from results.collect import PROTOCOL, Collection
from results.formats import Table
from results.regime_rows import shots_text
from results.summary import TITLES

# Measures and how axes call them; the last looks at labels.
MEASURES = {
    "augmentation_complexity": "Augmentation complexity $\\kappa^2$",
    "agreeing_dimensions": "Agreeing dimensions $\\Sigma\\lambda$",
    "trace_gap": "Trace gap $\\tau^2$",
    "invariance": "Invariance $\\lambda$",
    "rkhs_norm": "RKHS norm $\\|\\theta\\|^2$",
    "label_alignment": "Kernel-label alignment",
}
AUGMENTATION = "regime.augmentation"
# What a method's augmentations are compared at: else they differ in more than the augmentation.
_SAME = ("embedding_dim", "data.limit", "regime.n_views")
_SHOTS, _PROBE = f"{PROTOCOL}labels_per_class", f"{PROTOCOL}probe"
_COUNTS = ("augmentation_complexity", "agreeing_dimensions", "rkhs_norm")  # over a range of powers of ten
FEWEST = 4  # augmentations: an interval needs more than three


class Correlation(NamedTuple):
    """Spearman's ρ over n pairs with its 95 % interval."""

    rho: float
    low: float
    high: float
    n: int


def rank_correlation(x_n: np.ndarray, y_n: np.ndarray) -> Correlation:
    """Spearman's ρ with the 95 % interval tanh(artanh ρ ± 1.96 √((1 + ρ²/2)/(n − 3))).

    The interval is of Bonett & Wright (Psychometrika 65, 2000), with the pairs as a random sample of others, and wide
    where they are few: with seven, ρ = 0.9 has 0.30 to 0.99. |ρ| = 1, whose interval would be a point, counts as half a
    step of ρ less.
    """
    n = len(x_n)
    rho = float(pd.Series(x_n).rank().corr(pd.Series(y_n).rank()))
    most = 1 - 6 / (n * (n**2 - 1))  # ρ moves in steps of 12 / (n (n² − 1))
    inner = min(max(rho, -most), most)
    half = float(ndtri(0.975)) * math.sqrt((1 + inner**2 / 2) / (n - 3))
    return Correlation(rho, math.tanh(math.atanh(inner) - half), math.tanh(math.atanh(inner) + half), n)


def correlations(summary: pd.DataFrame, dataset: str) -> list[dict[str, Any]]:
    """One row a method, measure, classifier and number of labels: ρ over augmentations of means over seeds."""
    found = []
    for title, wide in _by_augmentation(summary, dataset):
        for probe, shots in (name for name in wide if isinstance(name, tuple)):
            for measure in (name for name in MEASURES if name in wide):
                pairs = wide[[measure, (probe, shots)]].dropna().to_numpy(dtype=float)
                if len(pairs) >= FEWEST and len(np.unique(pairs[:, 0])) > 1 and len(np.unique(pairs[:, 1])) > 1:
                    of = {"dataset": dataset, "title": title, "measure": measure, "probe": probe, "shots": shots}
                    found.append(of | rank_correlation(*pairs.T)._asdict())
    return found


def _by_augmentation(summary: pd.DataFrame, dataset: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Of each method that was run with several augmentations: a row each, a column a measure or (probe, shots)."""
    if AUGMENTATION not in summary or _SHOTS not in summary:
        return
    own = summary[(summary["dataset"] == dataset) & (summary["n"] > 0) & summary[AUGMENTATION].notna()]
    few = own["metric"] == "fewshot_top1"
    names = [
        (probe, shots) if is_few else metric
        for metric, is_few, probe, shots in zip(own["metric"], few, own[_PROBE], own[_SHOTS], strict=True)
    ]
    own = own.assign(name=pd.Series(names, index=own.index, dtype=object))[few | own["metric"].isin(MEASURES)]
    for title, of_method in own.groupby("title", sort=True):
        same = [column for column in _SAME if column in of_method]
        parts = [part for _, part in of_method.groupby(same, dropna=False)]
        part = max(parts, key=lambda part: part[AUGMENTATION].nunique())
        if part.duplicated([AUGMENTATION, "name"]).any():  # they differ in something else, the ridge say
            continue
        wide = {name: values.set_index(AUGMENTATION)["mean"] for name, values in part.groupby("name", sort=False)}
        table = pd.DataFrame(index=sorted(part[AUGMENTATION].unique()))
        for name, values in wide.items():
            table[name] = values
        if len(table) >= FEWEST and not set(MEASURES).isdisjoint(wide):
            yield str(title), table


def table(summary: pd.DataFrame) -> list[Table]:
    """One table a data set: a row a method and measure, a column a classifier and number of labels."""
    made = []
    for dataset in summary["dataset"].unique():
        rows: dict[tuple[object, object], dict[str, str]] = {}
        found = correlations(summary, dataset)
        for own in found:
            head = {"Method": str(own["title"]), "Measure": TITLES[str(own["measure"])]}
            row = rows.setdefault((own["title"], own["measure"]), head)
            row[f"{own['probe']}, {own['shots']} per class"] = _told(own)
        if found:
            n = found[0]["n"]
            note = f"Spearman's rho over {n} augmentations, each the mean over its seeds, with the 95 % interval of "
            note += "Bonett and Wright: of these augmentations as a sample of others."
            title = f"{dataset}: rank correlation with few-label accuracy over augmentations"
            made.append(Table(title, [*rows.values()], [note]))
    return made


def _told(own: dict[str, Any]) -> str:
    return f"{own['rho']:.2f} ({own['low']:.2f} to {own['high']:.2f})"


def expectations(collection: Collection, summary: pd.DataFrame, dataset: str) -> Figure | None:
    """Few-label accuracy over each measure, a point an augmentation: of the fewest labels, by the first classifier."""
    tables = dict(_by_augmentation(summary, dataset))
    if not tables:
        return None
    first = next(iter(tables.values()))
    probe, shots = min((name for name in first if isinstance(name, tuple)), key=lambda name: name[1])
    looks = style.looks(dict.fromkeys(name for wide in tables.values() for name in wide.index), marker="o", dash="none")
    shapes = dict(zip(tables, (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆")), strict=False))
    here = [own for own in correlations(summary, dataset) if (own["probe"], own["shots"]) == (probe, shots)]
    measures = [name for name in MEASURES if any(own["measure"] == name for own in here)]
    figure, axes = style.grid(len(measures), height=2.2)
    for place, (measure, axis) in enumerate(zip(measures, axes, strict=True)):
        for title, (shape, _) in shapes.items():
            for augmentation, point in tables[title].iterrows():
                axis.plot(point[measure], 100 * point[probe, shots], **looks[str(augmentation)].line(marker=shape))
        told = {own["title"]: f"$\\rho$ = {_told(own)}".replace("-", "−") for own in here if own["measure"] == measure}
        axis.set_title("\n".join(f"{shapes[title][1]} {text}" for title, text in told.items()), fontsize=7)
        axis.set(xlabel=MEASURES[measure], ylabel="" if place % 3 else "Top-1 accuracy (%)")
        if measure in _COUNTS:
            axis.set_xscale("log")
            style.plain_numbers(axis.xaxis)
    named = ", ".join(f"{shape} {title}" for title, (_, shape) in shapes.items())
    shown = f"{probe}, {shots_text(shots)}, means over seeds; {named}; $\\rho$: Spearman's, 95 % interval"
    return style.finish(figure, looks, shown)
