"""Our figures beside the published ones, protocol beside protocol, and whether they can be compared at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.collect import Collection
from results.formats import check_format, format_table
from results.literature import METRICS, Published, concerning, counterparts, dataset_name, read_published
from results.summary import COSTS, HEADLINE_K, TITLES, summarise
from results.tables import Table, figure, join

_COST_TITLES = {"peak_bytes_step": "Peak memory per GPU", "train_seconds": "Training time"}


@dataclass(frozen=True)
class Pair:
    """One configuration of ours (a row of the summary) beside one published figure."""

    ours: pd.Series
    published: Published

    @property
    def differences(self) -> list[str]:
        """Why the two cannot be compared as they stand; empty where nothing that both state differs."""
        return [text for text in (*_recipe(self), *_evaluation(self), *_machine(self)) if text]

    @property
    def unstated(self) -> list[str]:
        """What the publication does not say."""
        given = {
            "epochs": self.published.epochs,
            "batch size": self.published.batch_size,
            "embedding dimension": self.published.embedding_dim,
        }
        stem = ["stem"] if not self.published.small_stem and _value(self.ours, "backbone.stem") == "small" else []
        return [name for name, value in given.items() if value is None] + stem

    @property
    def factor(self) -> float:
        """From our unit to the published one."""
        return METRICS[self.ours["metric"]][1]


def render(collection: Collection, format: str = "plain") -> str:
    """Every figure of ours beside the published figures of the same data set, backbone and method.

    ``plain``, ``md`` and ``latex``: a table a data set, metric and pair of protocols, and a sentence for everything
    that has no published counterpart; ``csv`` and ``json``: one table in full precision, a row a pair.
    Raises ``ValueError`` for an unknown format.
    """
    check_format(format)
    summary = summarise(collection)
    found = pairs(summary)
    if format in ("csv", "json"):
        return format_table([_full(pair) for pair in found], format)
    missing = without_counterpart(summary, found)
    return "\n".join(part for part in (join(_tables(found), format), *(f"{line}\n" for line in missing)) if part)


def pairs(summary: pd.DataFrame) -> list[Pair]:
    """Each trained configuration and metric of ours with its published counterparts."""
    trained = _trained(summary)
    trained = trained[trained["metric"].isin(METRICS)]
    found = [Pair(row, other) for _, row in trained.iterrows() for other in _published_for(row)]
    return [pair for pair in found if _same_k(pair, trained)]


def _trained(summary: pd.DataFrame) -> pd.DataFrame:
    """The networks; what is solved in closed form has no backbone, and nothing was published for it."""
    summary = summary.assign(**{"backbone.name": summary.get("backbone.name")})
    return summary[(summary["epochs"] > 0) & summary["backbone.name"].notna()]


def _published_for(row: pd.Series) -> list[Published]:
    published = concerning(dataset_name(row["data.source"]), row["backbone.name"])
    return counterparts(published, row["method"], row["metric"], int(row["embedding_dim"]))


def _same_k(pair: Pair, summary: pd.DataFrame) -> bool:
    """Whether our k is, of those we measured, the nearest to the published one."""
    ours = pair.ours
    if pd.isna(ours["k"]):
        return True
    wanted = pair.published.stated(r"k=(\d+)") or HEADLINE_K
    measured = summary.loc[(summary["configuration"] == ours["configuration"]) & summary["k"].notna(), "k"]
    return bool(abs(ours["k"] - wanted) == (measured - wanted).abs().min())


def _recipe(pair: Pair) -> Iterator[str]:
    """How the network was trained."""
    ours, published = pair.ours, pair.published
    for name, key in (("epochs", "epochs"), ("batch size", "batch_size"), ("D", "embedding_dim")):
        theirs = getattr(published, key)
        yield f"{name} {ours[key]} against {theirs}" if theirs not in (None, ours[key]) else ""
    if limit := _value(ours, "data.limit"):
        yield f"trained on the first {limit:.0f} images only"
    if ":" in ours["data.source"]:
        yield f"the data are a {ours['data.source'].partition(':')[0]} source, taken by its name"
    if published.small_stem and _value(ours, "backbone.stem") == "imagenet":
        yield f"ImageNet stem against {published.backbone}"
    if ours["method"].startswith("simclr") and (ours["method"] == "simclr_sfrik") != ("Zheng" in published.source):
        yield "another variant of the SimCLR loss"


def _evaluation(pair: Pair) -> Iterator[str]:
    """How the figure was measured."""
    ours, published = pair.ours, pair.published
    if ours["metric"] in COSTS:
        return
    yield "online probe against frozen features" if published.online else ""
    yield "best epoch on the test split against the last epoch" if published.best_epoch else ""
    yield "measured on the tune split" if "split=tune" in ours["protocol"] else ""
    for name, pattern in (("k", r"\bk=(\d+)"), ("T", r"\bT=([\d.]+)")):
        theirs, own = published.stated(pattern), re.search(pattern, ours["protocol"])
        yield f"{name}={own[1]} against {theirs:g}" if own and theirs not in (None, float(own[1])) else ""
    if "crops=none" in ours["protocol"] and "Zheng" in published.source:
        yield "probe trained without random crops"
    epochs, own_epochs = published.stated(r"linear probe, (\d+) epochs"), _value(ours, "evaluation.linear_epochs")
    if ours["metric"].startswith("linear") and None not in (epochs, own_epochs) and epochs != own_epochs:
        yield f"probe trained for {own_epochs:.0f} epochs against {epochs:.0f}"


def _machine(pair: Pair) -> Iterator[str]:
    """Where a cost was measured."""
    if pair.ours["metric"] in COSTS:
        yield f"another machine ({pair.ours['protocol']})"


def _value(row: pd.Series, name: str) -> Any:
    value = row.get(name)
    return None if value is None or pd.isna(value) else value


def _full(pair: Pair) -> dict[str, Any]:
    ours, published = pair.ours, pair.published
    scaled = {name: ours[name] * pair.factor for name in ("mean", "low", "high", "half_width")}
    return {
        "data.source": ours["data.source"],
        "backbone": published.backbone,
        "method": ours["method"],
        "label": ours["label"],
        "metric": ours["metric"],
        "unit": published.unit,
        "embedding_dim": int(ours["embedding_dim"]),
        "epochs": ours["epochs"],
        "batch_size": ours["batch_size"],
        "protocol": ours["protocol"],
        **scaled,
        "n": ours["n"],
        "failures": ours["failures"],
        "published": published.value,
        "published_embedding_dim": published.embedding_dim,
        "published_epochs": published.epochs,
        "published_batch_size": published.batch_size,
        "published_metric": published.metric,
        "published_protocol": published.protocol,
        "published_note": published.note,
        "source": published.source,
        "comparable": not pair.differences,
        "differences": "; ".join(pair.differences),
        "not_stated": "; ".join(pair.unstated),
    }


def _tables(found: Sequence[Pair]) -> list[Table]:
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in found:
        ours, published = pair.ours, pair.published
        place = (ours["data.source"], ours["metric"], ours["protocol"])
        groups.setdefault((*place, published.source, published.metric, published.protocol), []).append(pair)
    return [_table(group) for group in groups.values()]


def _table(group: Sequence[Pair]) -> Table:
    ours, published = group[0].ours, group[0].published
    common = [text for text in group[0].differences if all(text in pair.differences for pair in group)]
    unstated = [text for text in group[0].unstated if all(text in pair.unstated for pair in group)]
    metric = TITLES.get(ours["metric"]) or _COST_TITLES[ours["metric"]]
    notes = [f"Ours: {ours['protocol']}.", f"Published: {published.source}; {published.metric}; {published.protocol}."]
    notes += [f"Not comparable as they stand: {'; '.join(common)}."] if common else []
    notes += ["Comparable: recipe, probe and split agree in all that both state."] if not common else []
    notes += [f"Not stated there: {', '.join(unstated)}."] if unstated else []
    title = f"{published.dataset}, {published.backbone}: {metric} ({published.unit})"
    return Table(title, [_row(pair, common) for pair in group], notes)


def _row(pair: Pair, common: Sequence[str]) -> dict[str, str]:
    ours, published = pair.ours, pair.published
    own = [text for text in pair.differences if text not in common]
    measured = figure(ours["mean"] * pair.factor, ours["half_width"] * pair.factor, published.unit)
    outcome = [f"{measured} (n={ours['n']})"] if ours["n"] else []
    return {
        "Method": ours["label"],
        "D": str(ours["embedding_dim"]),
        "Ours": ", ".join([*outcome, *filter(None, [ours["failures"]])]),
        "Published": str(published.value),
        "Comparable": "no: " + "; ".join(own) if own else ("no" if common else "yes"),
    }


def without_counterpart(summary: pd.DataFrame, found: Sequence[Pair]) -> list[str]:
    """A sentence for each data set and backbone on what was published of none of our methods there."""
    trained = _trained(summary)
    if trained.empty:
        return ["There is no trained network to compare."]
    matched = {(pair.ours["data.source"], pair.ours["backbone.name"], pair.ours["label"]) for pair in found}
    sentences = []
    for (source, backbone), own in trained.groupby(["data.source", "backbone.name"], sort=False):
        labels = [label for label in dict.fromkeys(own["label"]) if (source, backbone, label) not in matched]
        if not concerning(dataset_name(str(source)), str(backbone)):
            sentences.append(f"Nothing was published for {source} with {backbone}; {_there_is()}.")
        elif labels:
            sentences.append(f"No published figure of {', '.join(labels)} on {source} with {backbone}.")
    return sentences


def _there_is() -> str:
    known = dict.fromkeys(f"{row.dataset} with {row.backbone}" for row in read_published())
    return f"there is {', '.join(known)}"
