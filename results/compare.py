"""Our figures beside those that others published (``published/published.csv``), and whether the two can be compared."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from math import inf, log2
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import field_validator

from results.collect import PROTOCOL, Collection, short_source
from results.formats import for_programs, format_table
from results.record import Frozen
from results.summary import COSTS, HEADLINE_K, TITLES, K, summarise
from results.tables import NOT_RUN, Table, figure, join

PUBLISHED = Path(__file__).parent / "published" / "published.csv"

# Our metric -> published metrics of the same quantity, and the factor from our unit to theirs.
METRICS = {
    "linear_top1": (("linear_top1", "online_linear_top1"), 100.0),
    "linear_top5": (("linear_top5",), 100.0),
    "knn_top1": (("knn_top1", "knn_top1_max_over_epochs"), 100.0),
    "peak_bytes_step": (("peak_memory_per_gpu",), 1e-9),
    "train_seconds": (("runtime",), 1 / 60),
}
_COST_TITLES = {"peak_bytes_step": "Peak memory per GPU", "train_seconds": "Training time"}
# What both sides state of a network's training, and how it is called.
_RECIPE = {"epochs": "epochs", "batch_size": "batch size", "embedding_dim": "embedding dimension"}
_FIGURE = ("mean", "low", "high", "half_width")
# What the name of a published backbone with the stem for small images ends with.
_SMALL_STEM = "-cifar"


class Published(Frozen):
    """One published figure, as its source states it; ``None`` where the source does not say."""

    source: str
    dataset: str
    backbone: str
    epochs: int | None
    batch_size: int | None
    method: str
    kernel_order: int | None
    embedding_dim: int | None
    metric: str
    value: float
    unit: str
    protocol: str
    note: str

    @field_validator("epochs", "batch_size", "kernel_order", "embedding_dim", mode="before")
    @classmethod
    def _not_said(cls, text: str) -> str | None:
        return text or None

    def stated(self, pattern: str) -> float | None:
        """A number that the protocol states, by a pattern with one group, e.g. ``k=(\\d+)``."""
        found = re.search(pattern, self.protocol)
        return float(found[1]) if found else None

    def concerns(self, method: str) -> bool:
        """Whether it is of this method of ours; SFRIK without an order stands for every order."""
        if order := re.fullmatch(r"sfrik_l(\d+)", method):
            return self.method == "sfrik" and self.kernel_order in (None, int(order[1]))
        return self.method == ("simclr" if method == "simclr_sfrik" else method)


class Pair(NamedTuple):
    """One published figure beside a row of the summary: what is known of it, its figures in the published unit."""

    ours: dict[str, Any]
    published: Published
    differences: list[str]
    unstated: list[str]


@cache
def read_published() -> tuple[Published, ...]:
    """Every published figure."""
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        return tuple(Published.model_validate(row) for row in csv.DictReader(file))


def render(collection: Collection, format: str = "plain") -> str:
    """Every figure of ours beside the published figures of the same data set, backbone and method.

    ``plain``, ``md`` and ``latex``: a table a data set, metric and pair of protocols, and a sentence for everything
    that has no published counterpart; ``csv`` and ``json``: one table in full precision, a row a pair.
    Raises ``ValueError`` for an unknown format.
    """
    programs, networks = for_programs(format), _networks(summarise(collection))
    found = _pairs(networks)
    if programs:
        return format_table([_full(pair) for pair in found], format)
    groups: dict[tuple[str, ...], list[Pair]] = defaultdict(list)
    for pair in found:
        ours, theirs = pair.ours, pair.published
        place = (ours["dataset"], ours["metric"], ours["protocol"], theirs.source, theirs.metric, theirs.protocol)
        groups[place].append(pair)
    missing = [f"{sentence}\n" for sentence in _without_counterpart(networks, found)]
    return "\n".join(filter(None, [join([_table(group) for group in groups.values()], format), *missing]))


def _networks(summary: pd.DataFrame) -> pd.DataFrame:
    """What was trained, here or elsewhere; nothing was published of the kernel regime, or of the references."""
    networks = summary[summary["kind"].isin(["trained", "weights"])]
    names = networks.get("backbone.name", pd.Series(index=networks.index, dtype=object))
    return networks.assign(**{"backbone.name": names.where(names.notna(), "an unnamed backbone")})


def _pairs(networks: pd.DataFrame) -> list[Pair]:
    """Each configuration and metric of ours with its published counterparts."""
    found = []
    for row in networks[networks["metric"].isin(METRICS)].to_dict("records"):
        factor = METRICS[row["metric"]][1]
        ours = {str(name): value for name, value in row.items() if pd.notna(value)}
        ours |= {name: row[name] * factor for name in _FIGURE}
        published = concerning(dataset_name(ours["data.source"]), ours["backbone.name"])
        same = networks[networks["configuration"] == ours["configuration"]]
        for other in counterparts(published, ours["method"], ours["metric"], ours.get("embedding_dim")):
            wanted = other.stated(r"k=(\d+)") or HEADLINE_K
            # Of the k that we measured, the nearest to the published one.
            if K in ours and abs(ours[K] - wanted) != (same[K].dropna() - wanted).abs().min():
                continue
            unstated = [name for key, name in _RECIPE.items() if getattr(other, key) is None]
            if ours.get("backbone.stem") == "small" and not other.backbone.endswith(_SMALL_STEM):
                unstated.append("stem")
            found.append(Pair(ours, other, _differences(ours, other), unstated))
    return found


def dataset_name(source: str) -> str:
    """The published name of one of our data sources; of a file or folder of one's own, its name stands for it."""
    name = Path(source.partition(":")[2]).stem if ":" in source else source
    return "imagenet-20pct" if name == "imagenet20" else name


def concerning(dataset: str, backbone: str) -> list[Published]:
    """The published figures of a data set and backbone; ``resnet18-cifar``, of another stem, is a ResNet-18 too."""
    rows = [row for row in read_published() if row.dataset == dataset]
    return [row for row in rows if row.backbone.removesuffix(_SMALL_STEM) == backbone]


def counterparts(rows: Sequence[Published], method: str, metric: str, dimension: int | None) -> list[Published]:
    """The figures of our method and metric; of each source those of the nearest embedding dimension it gives."""
    same = [row for row in rows if row.metric in METRICS[metric][0] and row.concerns(method)]
    away = [abs(log2(row.embedding_dim / dimension)) if row.embedding_dim and dimension else inf for row in same]
    nearest = dict.fromkeys((row.source for row in same), inf)
    for row, distance in zip(same, away, strict=True):
        nearest[row.source] = min(distance, nearest[row.source])
    return [row for row, distance in zip(same, away, strict=True) if distance == nearest[row.source]]


def _differences(ours: dict[str, Any], published: Published) -> list[str]:
    """Why the two cannot be compared as they stand; empty where nothing that both state differs."""
    found = [
        _apart("D " if key == "embedding_dim" else f"{name} ", ours.get(key), getattr(published, key))
        for key, name in _RECIPE.items()
    ]
    if limit := ours.get("data.limit"):
        found.append(f"trained on the first {limit:.0f} images only")
    if ours["kind"] == "trained" and ours["made_of"] != ours["dataset"]:
        found.append(f"trained on {short_source(ours['made_of'])}")
    if ":" in ours["data.source"]:
        found.append(f"the data are a {ours['data.source'].partition(':')[0]} source, taken by its name")
    if published.backbone.endswith(_SMALL_STEM) and ours.get("backbone.stem") == "imagenet":
        found.append(f"ImageNet stem against {published.backbone}")
    by_zheng = "Zheng" in published.source
    if ours["method"].startswith("simclr") and (ours["method"] == "simclr_sfrik") != by_zheng:
        found.append("another variant of the SimCLR loss")
    if ours["metric"] in COSTS:
        return [*filter(None, found), f"another machine ({ours['protocol']})"]
    protocol = {name.removeprefix(PROTOCOL): value for name, value in ours.items() if name.startswith(PROTOCOL)}
    if published.metric.startswith("online_"):
        found.append("online probe against frozen features")
    if published.metric.endswith("_max_over_epochs"):
        found.append("best epoch on the test split against the last epoch")
    if protocol.get("split") == "tune":
        found.append("measured on the tune split")
    found.append(_apart("k=", protocol.get("k"), published.stated(r"\bk=(\d+)")))
    found.append(_apart("T=", protocol.get("T"), published.stated(r"\bT=([\d.]+)")))
    if by_zheng and protocol.get("crops") == "none":
        found.append("probe trained without random crops")
    if ours["metric"].startswith("linear"):
        theirs = published.stated(r"linear probe, (\d+) epochs")
        found.append(_apart("probe trained for ", protocol.get("epochs"), theirs, " epochs"))
    return [*filter(None, found)]


def _apart(name: str, own: Any, theirs: float | None, unit: str = "") -> str:
    """``k=20 against 200`` where both are stated and differ."""
    return f"{name}{own}{unit} against {theirs:g}" if None not in (own, theirs) and own != theirs else ""


def _full(pair: Pair) -> dict[str, Any]:
    ours, published = pair.ours, pair.published
    stated = ("embedding_dim", "epochs", "batch_size")
    return {
        "data.source": ours["dataset"],
        "backbone": published.backbone,
        **{name: ours[name] for name in ("method", "label", "metric")},
        "unit": published.unit,
        **{name: ours.get(name) for name in (*stated, "protocol", *_FIGURE, "n", "failures")},
        "published": published.value,
        **{f"published_{name}": getattr(published, name) for name in (*stated, "metric", "protocol", "note")},
        "source": published.source,
        "comparable": not pair.differences,
        "differences": "; ".join(pair.differences),
        "not_stated": "; ".join(pair.unstated),
    }


def _table(group: Sequence[Pair]) -> Table:
    ours, published, differences, stated_nowhere = group[0]
    common = [text for text in differences if all(text in pair.differences for pair in group)]
    unstated = [text for text in stated_nowhere if all(text in pair.unstated for pair in group)]
    notes = [f"Ours: {ours['protocol']}.", f"Published: {published.source}; {published.metric}; {published.protocol}."]
    if common:
        notes.append(f"Not comparable as they stand: {'; '.join(common)}.")
    else:
        notes.append("Comparable: recipe, probe and split agree in all that both state.")
    notes += [f"Not stated there: {', '.join(unstated)}."] if unstated else []
    metric = TITLES.get(ours["metric"]) or _COST_TITLES[ours["metric"]]
    title = f"{published.dataset}, {published.backbone}: {metric} ({published.unit})"
    return Table(title, [_row(pair, common) for pair in group], notes)


def _row(pair: Pair, common: Sequence[str]) -> dict[str, str]:
    ours, published = pair.ours, pair.published
    own = [text for text in pair.differences if text not in common]
    measured = f"{figure(ours['mean'], ours['half_width'], published.unit)} (n={ours['n']})" if ours["n"] else ""
    return {
        "Method": ours["label"],
        "D": str(ours.get("embedding_dim", NOT_RUN)),
        "Ours": ", ".join(filter(None, [measured, ours["failures"]])),
        "Published": str(published.value),
        "Comparable": "no: " + "; ".join(own) if own else ("no" if common else "yes"),
    }


def _without_counterpart(networks: pd.DataFrame, found: Sequence[Pair]) -> list[str]:
    """A sentence for each data set and backbone on what was published of none of our methods there."""
    if networks.empty:
        return ["There is no trained network to compare."]
    matched = {(pair.ours["data.source"], pair.ours["backbone.name"], pair.ours["label"]) for pair in found}
    known = "there is " + ", ".join(dict.fromkeys(f"{row.dataset} with {row.backbone}" for row in read_published()))
    sentences = []
    for (source, backbone), own in networks.groupby(["data.source", "backbone.name"], sort=False):
        labels = [label for label in dict.fromkeys(own["label"]) if (source, backbone, label) not in matched]
        if not concerning(dataset_name(str(source)), str(backbone)):
            sentences.append(f"Nothing was published for {source} with {backbone}; {known}.")
        elif labels:
            sentences.append(f"No published figure of {', '.join(labels)} on {source} with {backbone}.")
    return sentences
