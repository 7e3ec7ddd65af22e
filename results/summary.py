"""One row a configuration, metric and protocol: means and intervals over seeds, and what became of every run.

A configuration is a Run without its seed. Runs are averaged within one configuration only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from results.collect import Collection, protocol_text
from results.intervals import half_width

# Metrics of the main table where none is asked for; of kNN one k, chosen here and not by its result.
HEADLINE = ("linear_top1", "logistic_top1", "knn_top1", "fewshot_top1")
HEADLINE_K = 20

TITLES = {
    "linear_top1": "Linear probe, top-1 accuracy",
    "linear_top5": "Linear probe, top-5 accuracy",
    "logistic_top1": "Logistic regression, top-1 accuracy",
    "knn_top1": "Weighted kNN, top-1 accuracy",
    "fewshot_top1": "Few-label probe, top-1 accuracy",
    "alignment": "Alignment",
    "uniformity": "Uniformity",
    "rankme": "Effective rank (RankMe)",
}

# What a run costs: metric -> (column of Collection.runs, unit). Step and loss times are each run's medians.
COSTS = {
    "step_seconds": ("cost.step_seconds.median", "s"),
    "loss_seconds": ("cost.loss_seconds.median", "s"),
    "images_per_second": ("cost.images_per_second", "1/s"),
    "peak_bytes_step": ("cost.peak_bytes_step", "bytes"),
    "peak_bytes_loss": ("cost.peak_bytes_loss", "bytes"),
    "train_seconds": ("cost.train_seconds", "s"),
    "evaluation_seconds": ("cost.evaluation_seconds", "s"),
}
_MACHINE = {"device": "provenance.device", "threads": "provenance.threads", "processes": "provenance.world_size"}

_OF_A_RUN = {"id", "configuration", "seed", "status", "message", "folder"}
_PLACE = ["data.source", "title", "embedding_dim"]
_GROUP = ["configuration", "metric", "key"]


def summarise(collection: Collection) -> pd.DataFrame:
    """The summary of a collection, in the order of rows and columns that tables and plots share.

    Columns: ``metric, key, protocol, unit``; ``mean, low, high, half_width, n`` over the seeds that were measured
    (no interval for n = 1); ``runs`` (how many there are), ``failures`` (what became of the others, in words, e.g.
    ``diverged 1/2``); ``label`` (the method's row name) and the configuration's own columns.
    """
    measured, costs = _measured(collection), _costs(collection)
    columns = list(dict.fromkeys([*measured, *costs]))  # of runs that measured nothing too
    values = pd.concat([costs] if measured.empty else [measured, costs], ignore_index=True).reindex(columns=columns)
    values["value"] = values["value"].where(values["value"].abs() != float("inf"))
    groups = values.groupby(_GROUP, sort=False)
    stats = groups.agg(
        protocol=("protocol", "first"),
        unit=("unit", "first"),
        epoch=("epoch", "first"),
        features=("features", "first"),
        k=("k", "first"),
        mean=("value", "mean"),
        sd=("value", "std"),
        n=("value", "count"),
        measured=("done", "sum"),
    ).reset_index()
    stats["protocol"] = stats["protocol"].fillna(stats["key"])
    stats["half_width"] = half_width(stats["sd"].to_numpy(), stats["n"].to_numpy())
    stats["low"], stats["high"] = stats["mean"] - stats["half_width"], stats["mean"] + stats["half_width"]
    table = stats.merge(configurations(collection), on="configuration", how="left")
    table["failures"] = _with_not_finite(table)
    return _ordered(table[(table["n"] > 0) | (table["failures"] != "")])


def _measured(collection: Collection) -> pd.DataFrame:
    """Every metric of the runs that are done, and an empty value for each other run in each table of its data set."""
    runs = collection.runs[["id", "configuration", "status", "data.source"]]
    joined = collection.metrics.merge(runs, on="id")
    done = joined[joined["status"] == "done"].assign(done=True)
    tables = done[["data.source", "metric", "key", "unit", "k"]].drop_duplicates()
    missing = runs[runs["status"] != "done"].merge(tables, on="data.source").assign(done=False)
    return done if missing.empty else pd.concat([done, missing], ignore_index=True)


def _costs(collection: Collection) -> pd.DataFrame:
    """The costs as metrics whose key is the machine: figures of two machines are never averaged."""
    runs = collection.runs
    machine = [protocol_text(dict(zip(_MACHINE, row, strict=True))) for row in runs[[*_MACHINE.values()]].to_numpy()]
    wide = runs[["id", "configuration"]].assign(key=machine, done=runs["status"] == "done")
    parts = [
        wide.assign(metric=name, unit=unit, value=runs[column].astype(float), protocol=_counted(name, runs, machine))
        for name, (column, unit) in COSTS.items()
        if column in runs
    ]
    long = pd.concat(parts, ignore_index=True)
    long["value"] = long["value"].where(long["done"])
    long["protocol"] = long["protocol"].where(long["value"].notna())
    long["done"] &= long["value"].notna()  # a cost that was not measured is absent, not a failure
    return long


def _counted(name: str, runs: pd.DataFrame, machine: list[str]) -> list[str]:
    """The protocol of a cost: the machine, and how memory was counted."""
    if not name.startswith("peak_bytes"):
        return machine
    return [f"{place}, memory={counter}" for place, counter in zip(machine, runs["cost.memory_counter"], strict=True)]


def configurations(collection: Collection) -> pd.DataFrame:
    """One row a configuration: its fields, ``label``, ``seeds``, ``runs`` and ``failures``."""
    runs = collection.runs
    groups = runs.groupby("configuration", sort=False)
    own = [name for name in runs.columns if name not in _OF_A_RUN and not name.startswith(("cost.", "provenance."))]
    table = groups[own].first().reset_index()
    table["seeds"] = groups["seed"].agg(lambda seeds: " ".join(map(str, sorted(seeds)))).to_numpy()
    table["runs"] = groups.size().to_numpy()
    table["failures"] = groups["status"].agg(_failures).to_numpy()
    table["label"] = _labels(table, [name for name in collection.axes if name in table])
    return table


def _failures(statuses: pd.Series) -> str:
    counts = statuses[statuses != "done"].value_counts().sort_index()
    return ", ".join(f"{status} {count}/{len(statuses)}" for status, count in counts.items())


def _with_not_finite(table: pd.DataFrame) -> pd.Series:
    lost = table["measured"].astype(int) - table["n"]
    text = "not finite " + lost.astype(str) + "/" + table["runs"].astype(str)
    both = table["failures"].where(table["failures"] == "", table["failures"] + ", ") + text
    return table["failures"].where(lost == 0, both)


def _labels(table: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """The method's title, and the fields that tell apart configurations of one title, data set and dimension."""
    fields = _distinguishing(table, axes)
    varies = {name: table.groupby(["data.source", "title"])[name].transform("nunique") > 1 for name in fields}
    return [
        ", ".join([table["title"][row], *(_setting(name, table[name][row]) for name in fields if varies[name][row])])
        for row in table.index
    ]


def _distinguishing(table: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    known = {*_PLACE, "configuration", "seeds", "runs", "failures", "suite", "seed"}
    fields: list[str] = []
    for name in dict.fromkeys([*axes, *table.columns]):
        apart = _groups(table, [*_PLACE, *fields])
        if apart == len(table):
            break
        if name not in known and _groups(table, [*_PLACE, *fields, name]) > apart:
            fields.append(name)
    return fields


def _groups(table: pd.DataFrame, names: Sequence[str]) -> int:
    return table.groupby([*names], sort=False, dropna=False).ngroups


def _setting(name: str, value: object) -> str:
    return f"{name.rsplit('.', 1)[-1]}={value}"


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Headline metrics first, then the others as they were measured; trained methods by name, then untrained."""
    order = pd.DataFrame(
        {
            "source": table["data.source"],
            "metric": table["metric"].map(_places([*HEADLINE, *table["metric"]])),
            "key": table["key"].map(_places(table["key"])),
            "untrained": table["epochs"] == 0,
            "label": natural(table["label"]),
            "dimension": table["embedding_dim"],
        }
    )
    return table.loc[order.sort_values(order.columns.to_list()).index].reset_index(drop=True)


def natural(labels: pd.Series) -> pd.Series:
    """A key that sorts names without regard to case, and the numbers in them by value."""
    return labels.str.casefold().str.replace(r"\d+", lambda digits: digits[0].zfill(12), regex=True)


def _places(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def select(summary: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The rows of one metric by name, of ``all`` metrics, or (``None``) of the headline metrics; never costs.

    Raises ``ValueError`` for a metric that no run was measured on, listing those there are.
    """
    measured = summary[~summary["metric"].isin(COSTS)]
    if metric == "all":
        return measured
    if metric is None:
        return _headline(measured)
    names = list(dict.fromkeys(measured["metric"]))
    if metric not in names:
        raise ValueError(f"no metric {metric!r} in these runs: there are {', '.join([*names, 'all'])}")
    return measured[measured["metric"] == metric]


def _headline(measured: pd.DataFrame) -> pd.DataFrame:
    chosen = measured[measured["metric"].isin(HEADLINE)]
    if chosen.empty:
        return measured
    ks = chosen["k"].dropna()
    k = HEADLINE_K if HEADLINE_K in set(ks) else ks.min()
    return chosen[chosen["k"].isna() | (chosen["k"] == k)]


def metric_title(metric: str, unit: str) -> str:
    """How a metric is called in titles and on axes, with its unit."""
    shown = {"fraction": "%"}.get(unit, unit)
    return f"{TITLES.get(metric, metric.replace('_', ' '))} ({shown})"
