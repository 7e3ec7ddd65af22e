"""Our figures beside the published ones, protocol beside protocol, and whether they can be compared at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.collect import PROTOCOL, Collection, short_source
from results.formats import for_programs, format_table
from results.published import METRICS, SMALL_STEM, Published, concerning, counterparts, dataset_name, read_published
from results.summary import COSTS, HEADLINE_K, TITLES, K, summarise
from results.tables import NOT_RUN, Table, figure, join

# What both sides state of a network's training, and how it is called.
_RECIPE = {"epochs": "epochs", "batch size": "batch_size", "embedding dimension": "embedding_dim"}
_COST_TITLES = {"peak_bytes_step": "Peak memory per GPU", "train_seconds": "Training time"}


@dataclass(frozen=True)
class Pair:
    """One configuration of ours (a row of the summary) beside one published figure."""

    ours: pd.Series
    published: Published

    @property
    def differences(self) -> list[str]:
        """Why the two cannot be compared as they stand; empty where nothing that both state differs."""
        return [text for text in (*_recipe(self.ours, self.published), *_evaluation(self.ours, self.published)) if text]

    @property
    def unstated(self) -> list[str]:
        """What the publication does not say."""
        names = [name for name, key in _RECIPE.items() if getattr(self.published, key) is None]
        small = _value(self.ours, "backbone.stem") == "small"
        return names + (["stem"] if small and not self.published.backbone.endswith(SMALL_STEM) else [])

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
    programs, summary = for_programs(format), summarise(collection)
    found = pairs(summary)
    if programs:
        return format_table([_full(pair) for pair in found], format)
    missing = without_counterpart(summary, found)
    return "\n".join(part for part in (join(_tables(found), format), *(f"{line}\n" for line in missing)) if part)


def pairs(summary: pd.DataFrame) -> list[Pair]:
    """Each configuration and metric of ours that was trained with its published counterparts."""
    networks = _networks(summary)
    found = []
    for _, row in networks[networks["metric"].isin(METRICS)].iterrows():
        published = concerning(dataset_name(row["data.source"]), row["backbone.name"])
        others = counterparts(published, row["method"], row["metric"], _value(row, "embedding_dim"))
        found += [Pair(row, other) for other in others if _same_k(row, other, networks)]
    return found


def _networks(summary: pd.DataFrame) -> pd.DataFrame:
    """What was trained, here or elsewhere; nothing was published of the kernel regime, or of the references."""
    networks = summary[summary["kind"].isin(["trained", "weights"])]
    names = networks.get("backbone.name", pd.Series(index=networks.index, dtype=object))
    return networks.assign(**{"backbone.name": names.where(names.notna(), "an unnamed backbone")})


def _same_k(ours: pd.Series, published: Published, networks: pd.DataFrame) -> bool:
    """Whether our k is, of those we measured, the nearest to the published one."""
    if _value(ours, K) is None:
        return True
    wanted = published.stated(r"k=(\d+)") or HEADLINE_K
    measured = networks.loc[(networks["configuration"] == ours["configuration"]) & networks[K].notna(), K]
    return bool(abs(ours[K] - wanted) == (measured - wanted).abs().min())


def _recipe(ours: pd.Series, published: Published) -> Iterator[str]:
    """How the network was trained."""
    for name, key in _RECIPE.items():
        yield _apart("D " if key == "embedding_dim" else f"{name} ", _value(ours, key), getattr(published, key))
    if limit := _value(ours, "data.limit"):
        yield f"trained on the first {limit:.0f} images only"
    if ours["kind"] == "trained" and ours["made_of"] != ours["dataset"]:
        yield f"trained on {short_source(ours['made_of'])}"
    if ":" in ours["data.source"]:
        yield f"the data are a {ours['data.source'].partition(':')[0]} source, taken by its name"
    if published.backbone.endswith(SMALL_STEM) and _value(ours, "backbone.stem") == "imagenet":
        yield f"ImageNet stem against {published.backbone}"
    if ours["method"].startswith("simclr") and (ours["method"] == "simclr_sfrik") != ("Zheng" in published.source):
        yield "another variant of the SimCLR loss"


def _evaluation(ours: pd.Series, published: Published) -> Iterator[str]:
    """How the figure was measured."""
    if ours["metric"] in COSTS:
        yield f"another machine ({ours['protocol']})"
        return
    yield "online probe against frozen features" if published.metric.startswith("online_") else ""
    if published.metric.endswith("_max_over_epochs"):
        yield "best epoch on the test split against the last epoch"
    yield "measured on the tune split" if _value(ours, f"{PROTOCOL}split") == "tune" else ""
    for name, pattern in (("k", r"\bk=(\d+)"), ("T", r"\bT=([\d.]+)")):
        yield _apart(f"{name}=", _value(ours, f"{PROTOCOL}{name}"), published.stated(pattern))
    if _value(ours, f"{PROTOCOL}crops") == "none" and "Zheng" in published.source:
        yield "probe trained without random crops"
    if ours["metric"].startswith("linear"):
        own, theirs = _value(ours, f"{PROTOCOL}epochs"), published.stated(r"linear probe, (\d+) epochs")
        yield _apart("probe trained for ", own, theirs, " epochs")


def _value(row: pd.Series, name: str) -> Any:
    value = row.get(name)
    return None if value is None or pd.isna(value) else value


def _apart(name: str, own: Any, theirs: float | None, unit: str = "") -> str:
    """``k=20 against 200`` where both are stated and differ."""
    return f"{name}{own}{unit} against {theirs:g}" if None not in (own, theirs) and own != theirs else ""


def _full(pair: Pair) -> dict[str, Any]:
    ours, published = pair.ours, pair.published
    stated = ("embedding_dim", "epochs", "batch_size")
    return {
        "data.source": ours["dataset"],
        "backbone": published.backbone,
        "method": ours["method"],
        "label": ours["label"],
        "metric": ours["metric"],
        "unit": published.unit,
        **{name: _value(ours, name) for name in stated},
        "protocol": ours["protocol"],
        **{name: ours[name] * pair.factor for name in ("mean", "low", "high", "half_width")},
        "n": ours["n"],
        "failures": ours["failures"],
        "published": published.value,
        **{f"published_{name}": getattr(published, name) for name in (*stated, "metric", "protocol", "note")},
        "source": published.source,
        "comparable": not pair.differences,
        "differences": "; ".join(pair.differences),
        "not_stated": "; ".join(pair.unstated),
    }


def _tables(found: Sequence[Pair]) -> list[Table]:
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in found:
        ours, published = pair.ours, pair.published
        place = (ours["dataset"], ours["metric"], ours["protocol"])
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
        "D": str(_value(ours, "embedding_dim") or NOT_RUN),
        "Ours": ", ".join([*outcome, *filter(None, [ours["failures"]])]),
        "Published": str(published.value),
        "Comparable": "no: " + "; ".join(own) if own else ("no" if common else "yes"),
    }


def without_counterpart(summary: pd.DataFrame, found: Sequence[Pair]) -> list[str]:
    """A sentence for each data set and backbone on what was published of none of our methods there."""
    networks = _networks(summary)
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
