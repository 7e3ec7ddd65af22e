"""Our figures beside those that others published (``published/published.csv``), and whether the two can be compared."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from math import inf, log2, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.collect import PROTOCOL, Collection, short_source
from results.formats import NOT_RUN, Table, for_programs, format_table, join
from results.readable import figure
from results.summary import COSTS, HEADLINE_K, TITLES, K, summarise

PUBLISHED = Path(__file__).parent / "published" / "published.csv"

# Our metric -> published metrics of the same quantity, and the factor from our unit to theirs.
METRICS = {
    "linear_top1": (("linear_top1", "online_linear_top1", "places205_top1", "inat18_top1"), 100.0),
    "linear_top5": (("linear_top5", "places205_top5"), 100.0),
    "finetune_top1": (("semi1pct_top1", "semi10pct_top1", "finetune_top1_max_over_epochs"), 100.0),
    "finetune_top5": (("semi1pct_top5", "semi10pct_top5", "finetune_top5_max_over_epochs"), 100.0),
    "knn_top1": (("knn_top1", "knn_top1_max_over_epochs"), 100.0),
    "multilabel_map": (("voc07_map",), 100.0),
    "peak_bytes_step": (("peak_memory_per_gpu",), 1e-9),
    "train_seconds": (("runtime",), 1 / 60),
}
# What both sides state of a network's training, and how it is called.
_RECIPE = {"epochs": "epochs", "batch_size": "batch size", "embedding_dim": "embedding dimension"}
PERCENT = f"{PROTOCOL}percent"
_FIGURE = ["mean", "low", "high", "half_width"]
# Numbers that a published protocol states.
_STATED = {
    "k": r"\bk=(\d+)",
    "T": r"\bT=([\d.]+)",
    "probe_epochs": r"(?:linear probe|fine-tuning), (\d+) epochs",
    "backbone_lr": r"\blr ([\d.]+)/",
    "head_lr": r"\blr [\d.]+/([\d.]+)",
}
# What the name of a published backbone with the stem for small images ends with.
_SMALL_STEM = "-cifar"

# One published figure beside a row of the summary: the columns of both, without those in which there is nothing.
Pair = dict[str, Any]


@cache
def read_published() -> pd.DataFrame:
    """Every published figure, in columns ``published_*``; what its source does not say is missing."""
    whole = dict.fromkeys(["epochs", "batch_size", "kernel_order", "embedding_dim"], "Int64")
    types, missing = {**whole, "value": "str"}, dict.fromkeys(whole, "")
    # Values are read as text first: what pandas makes of them by itself is not the nearest number in every version.
    table = pd.read_csv(PUBLISHED, dtype=types, keep_default_na=False, na_values=missing).astype({"value": "float"})
    stated = {name: table["protocol"].str.extract(own, expand=False).astype(float) for name, own in _STATED.items()}
    # What a metric says by its name: the data set that it was measured on, where that is another, and which labels.
    on = table["metric"].str.extract(r"^(places205|inat18|voc07)_", expand=False).fillna(table["dataset"])
    percent = table["metric"].str.extract(r"^semi(\d+)pct_", expand=False).astype(float)
    percent = percent.mask(table["metric"].str.startswith("finetune_"), 100.0)
    return table.assign(**stated, on=on, percent=percent).add_prefix("published_")


def render(collection: Collection, format: str = "plain") -> str:
    """Every figure of ours beside the published figures of the same data set, backbone and method.

    ``plain``, ``md`` and ``latex``: a table a data set, metric and pair of protocols, and a sentence for everything
    that has no published counterpart; ``csv`` and ``json``: one table in full precision, a row a pair.
    Raises ``ValueError`` for an unknown format.
    """
    programs, summary = for_programs(format), summarise(collection)
    if programs:
        return format_table([_full(pair) for pair in _pairs(_networks(summary))], format)
    tables, missing = beside(summary)
    return "\n".join(filter(None, [join(tables, format), *(f"{sentence}\n" for sentence in missing)]))


def beside(summary: pd.DataFrame) -> tuple[list[Table], list[str]]:
    """Ours beside the published figures of a summary, a table a pair of protocols, and what has no counterpart."""
    networks = _networks(summary)
    found = _pairs(networks)
    groups: dict[tuple[str, ...], list[Pair]] = defaultdict(list)
    for pair in found:
        theirs = [pair[f"published_{name}"] for name in ("source", "metric", "protocol")]
        groups[pair["dataset"], pair["metric"], pair["protocol"], *theirs].append(pair)
    return [_table(group) for group in groups.values()], _without_counterpart(networks, found)


def _networks(summary: pd.DataFrame) -> pd.DataFrame:
    """What was trained, here or elsewhere; nothing was published of the kernel regime, or of the references."""
    networks = summary[summary["kind"].isin(["trained", "weights"])]
    names = networks.get("backbone.name", pd.Series(index=networks.index, dtype=object))
    return networks.assign(**{"backbone.name": names.where(names.notna(), "an unnamed backbone")})


def _pairs(networks: pd.DataFrame) -> list[Pair]:
    """Each configuration and metric of ours, in the published unit, with its published counterparts."""
    ours = networks[networks["metric"].isin(METRICS)].reset_index(names="row")
    ours = ours.assign(place=ours["data.source"].map(dataset_name))
    # ``resnet18-cifar``, of another stem, is a ResNet-18 too.
    published = read_published().reset_index(names="published_row")
    published["backbone"] = published["published_backbone"].str.removesuffix(_SMALL_STEM)
    both = ours.merge(published, left_on=["place", "backbone.name"], right_on=["published_on", "backbone"])
    at_home = both["published_on"] == both["published_dataset"]
    both = both[at_home | (both["made_of"].map(dataset_name) == both["published_dataset"])]
    if PERCENT in both:
        both = both[both["published_percent"].isna() | (both["published_percent"] == both[PERCENT].astype(float))]
    # A published SFRIK without an order stands for every order.
    order = both["method"].str.extract(r"^sfrik_l(\d+)$", expand=False).astype(float)
    order_fits = order.isna() | both["published_kernel_order"].isna() | (both["published_kernel_order"] == order)
    method = both["method"].where(order.isna(), "sfrik").replace("simclr_sfrik", "simclr")
    metric = [theirs in METRICS[own][0] for own, theirs in zip(both["metric"], both["published_metric"], strict=True)]
    both = both[np.array(metric, dtype=bool) & order_fits & (both["published_method"] == method)]
    # Of each source, the nearest embedding dimension it gives; of the k that we measured, the nearest to its k.
    away = (both["published_embedding_dim"] / both["embedding_dim"]).astype(float).map(log2).abs().fillna(inf)
    both = both[away == away.groupby([both["row"], both["published_source"]]).transform("min")]
    if K in both:
        away = (both[K].astype(float) - both["published_k"].fillna(HEADLINE_K)).abs().fillna(0)
        both = both[away == away.groupby([both["configuration"], both["published_row"]]).transform("min")]
    units = both["metric"].map(lambda metric: METRICS[metric][1]).astype(float)  # of no rows, pandas 3 keeps text
    figures = both[_FIGURE].mul(units, axis=0)
    rows = both.assign(**figures).to_dict("records")
    pairs = [{str(name): value for name, value in row.items() if pd.notna(value)} for row in rows]
    return [pair | {"differences": _differences(pair), "unstated": _unstated(pair)} for pair in pairs]


def dataset_name(source: str) -> str:
    """The published name of one of our data sources; of a file or folder of one's own, its name stands for it."""
    name = Path(source.partition(":")[2]).stem if ":" in source else source
    return "imagenet-20pct" if name == "imagenet20" else name


def _unstated(pair: Pair) -> list[str]:
    """What the publication does not say."""
    names = [name for key, name in _RECIPE.items() if f"published_{key}" not in pair]
    small = pair.get("backbone.stem") == "small" and not pair["published_backbone"].endswith(_SMALL_STEM)
    return [*names, "stem"] if small else names


def _differences(pair: Pair) -> list[str]:
    """Why the two cannot be compared as they stand; empty where nothing that both state differs."""

    def apart(name: str, own: Any, theirs: str, unit: str = "") -> str:
        # ``k=20 against 200`` where both are stated and differ.
        published = pair.get(f"published_{theirs}")
        return f"{name}{own}{unit} against {published:g}" if None not in (own, published) and own != published else ""

    kind, own_data, _ = pair["data.source"].partition(":")
    backbone, by_zheng = pair["published_backbone"], "Zheng" in pair["published_source"]
    abroad = pair["kind"] == "trained" and pair["made_of"] != pair["dataset"]
    abroad &= pair["published_on"] == pair["published_dataset"]
    other_stem = backbone.endswith(_SMALL_STEM) and pair.get("backbone.stem") == "imagenet"
    other_simclr = pair["method"].startswith("simclr") and (pair["method"] == "simclr_sfrik") != by_zheng
    found = [
        *(apart("D " if key == "embedding_dim" else f"{name} ", pair.get(key), key) for key, name in _RECIPE.items()),
        f"trained on the first {pair['data.limit']:.0f} images only" if pair.get("data.limit") else "",
        f"trained on {short_source(pair['made_of'])}" if abroad else "",
        f"the data are a {kind} source, taken by its name" if own_data else "",
        f"ImageNet stem against {backbone}" if other_stem else "",
        "another variant of the SimCLR loss" if other_simclr else "",
    ]
    if pair["metric"] in COSTS:
        return [*filter(None, found), f"another machine ({pair['protocol']})"]
    protocol = {name.removeprefix(PROTOCOL): value for name, value in pair.items() if name.startswith(PROTOCOL)}
    theirs, supervised = pair["published_metric"], pair["metric"].startswith(("linear", "finetune"))
    labels = protocol.get("labels", "")
    drawn = labels.startswith("stratified draw")
    found += [
        "online probe against frozen features" if theirs.startswith("online_") else "",
        "best epoch on the test split against the last epoch" if theirs.endswith("_max_over_epochs") else "",
        "measured on the tune split" if protocol.get("split") == "tune" else "",
        apart("k=", protocol.get("k"), "k"),
        apart("T=", protocol.get("T"), "T"),
        "probe trained without random crops" if by_zheng and protocol.get("crops") == "none" else "",
        apart("probe trained for ", protocol.get("epochs"), "probe_epochs", " epochs") if supervised else "",
        apart("rate of the backbone ", protocol.get("backbone_lr"), "backbone_lr"),
        apart("rate of the classifier ", protocol.get("head_lr"), "head_lr"),
        f"labels by a {labels} against the published list" if theirs.startswith("semi") and drawn else "",
    ]
    return [*filter(None, found)]


def _full(pair: Pair) -> dict[str, Any]:
    stated = ("embedding_dim", "epochs", "batch_size")
    return {
        "data.source": pair["dataset"],
        "backbone": pair["published_backbone"],
        **{name: pair[name] for name in ("method", "label", "metric")},
        "unit": pair["published_unit"],
        **{name: pair.get(name) for name in (*stated, "protocol", *_FIGURE, "n", "failures")},
        "published": pair["published_value"],
        **{name: pair.get(name) for name in (f"published_{own}" for own in (*stated, "metric", "protocol", "note"))},
        "source": pair["published_source"],
        "comparable": not pair["differences"],
        "differences": "; ".join(pair["differences"]),
        "not_stated": "; ".join(pair["unstated"]),
    }


def _table(group: Sequence[Pair]) -> Table:
    first = group[0]
    names = ("dataset", "on", "backbone", "source", "metric", "protocol", "unit")
    dataset, on, backbone, source, metric, protocol, unit = (first[f"published_{name}"] for name in names)
    place = f"{dataset}, {backbone}" + (f", on {on}" if on != dataset else "")
    common, unstated = (
        [text for text in first[name] if all(text in pair[name] for pair in group)]
        for name in ("differences", "unstated")
    )
    apart = f"Not comparable as they stand: {'; '.join(common)}."
    notes = [
        f"Ours: {first['protocol']}.",
        f"Published: {source}; {metric}; {protocol}.",
        apart if common else "Comparable: recipe, probe and split agree in all that both state.",
        *([f"Not stated there: {', '.join(unstated)}."] if unstated else []),
    ]
    title = f"{place}: {TITLES[first['metric']]} ({unit})"
    return Table(title, [_row(pair, common) for pair in group], notes)


def _row(pair: Pair, common: Sequence[str]) -> dict[str, str]:
    own = [text for text in pair["differences"] if text not in common]
    measured = ""
    if pair["n"]:
        measured = f"{figure(pair['mean'], pair.get('half_width', nan), pair['published_unit'])} (n={pair['n']})"
    return {
        "Method": pair["label"],
        "D": str(pair.get("embedding_dim", NOT_RUN)),
        "Ours": ", ".join(filter(None, [measured, pair["failures"]])),
        "Published": str(pair["published_value"]),
        "Comparable": "no: " + "; ".join(own) if own else ("no" if common else "yes"),
    }


def _without_counterpart(networks: pd.DataFrame, found: Sequence[Pair]) -> list[str]:
    """A sentence for each data set and backbone on what was published of none of our methods there."""
    if networks.empty:
        return ["There is no trained network to compare."]
    published = read_published()[["published_on", "published_backbone"]].drop_duplicates().to_numpy()
    there = {(dataset, backbone.removesuffix(_SMALL_STEM)) for dataset, backbone in published}
    known = "there is " + ", ".join(f"{dataset} with {backbone}" for dataset, backbone in published)
    matched = {(pair["data.source"], pair["backbone.name"], pair["label"]) for pair in found}
    sentences = []
    for (source, backbone), own in networks.groupby(["data.source", "backbone.name"], sort=False):
        labels = [label for label in dict.fromkeys(own["label"]) if (source, backbone, label) not in matched]
        if (dataset_name(str(source)), backbone) not in there:
            sentences.append(f"Nothing was published for {source} with {backbone}; {known}.")
        elif labels:
            sentences.append(f"No published figure of {', '.join(labels)} on {source} with {backbone}.")
    return sentences
