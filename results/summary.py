"""One row a configuration, metric and protocol: means and intervals over seeds, and what became of the others.

A configuration is a network without its seed. Networks are averaged within one configuration only.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # scipy.stats says the same and takes a second longer to import

from results.collect import BASE_KERNELS, PROTOCOL, REFERENCES, SUBJECT, Collection, protocol_text, short_source
from results.inference import Floats, crossed_mean

# Metrics of the main table where none is asked for; of kNN one k, chosen here and not by its result.
HEADLINE = ("linear_top1", "logistic_top1", "knn_top1", "fewshot_top1")
HEADLINE_K = 20
# Metrics that stand in one table over all data sets.
TRANSFER = ("transfer_top1", "transfer_mean_per_class", "multilabel_map")
K = f"{PROTOCOL}k"

TITLES = {
    "linear_top1": "Linear probe, top-1 accuracy",
    "linear_top5": "Linear probe, top-5 accuracy",
    "finetune_top1": "Fine-tuning, top-1 accuracy",
    "finetune_top5": "Fine-tuning, top-5 accuracy",
    "logistic_top1": "Logistic regression, top-1 accuracy",
    "knn_top1": "Weighted kNN, top-1 accuracy",
    "fewshot_top1": "Few-label probe, top-1 accuracy",
    "retrieval_map": "Retrieval, mean average precision",
    "retrieval_recall": "Retrieval, recall@k",
    "clustering_nmi": "k-means, normalised mutual information",
    "clustering_ari": "k-means, adjusted Rand index",
    "transfer_top1": "Transfer, top-1 accuracy",
    "transfer_mean_per_class": "Transfer, mean accuracy per class",
    "multilabel_map": "Several labels, mean average precision",
    "alignment": "Alignment",
    "uniformity": "Uniformity",
    "rankme": "Effective rank (RankMe)",
    "kernel_distance": "Distance from the kernel regime",
    "recovery": "Recovered of the ground truth, mean squared cosine",
    "recovery_worst": "Recovered of the ground truth, squared cosine of the largest angle",
    "recovery_gap": "Recovery, fitted views less fresh ones",
    "augmentation_complexity": "Augmentation complexity, squared",
    "agreeing_dimensions": "Dimensions that views agree on",
    "trace_gap": "Trace gap, squared",
    "invariance": "Invariance, mean over components",
    "invariance_gap": "Invariance, fitted views less fresh ones",
    "rkhs_norm": "RKHS norm, squared, mean over components",
    "label_alignment": "Kernel-label alignment",
    "peak_bytes_step": "Peak memory per device",
    "train_seconds": "Training time",
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
_BESIDE = {"jobs": "provenance.jobs"}  # runs at a time: said where there were several

_OF_A_RUN = {"id", "configuration", "seed", "status", "message"}
_PLACE = ["dataset", "title", "embedding_dim"]
# What makes figures comparable, and one table.
TABLE = ["dataset", "metric", "key"]
_GROUP = ["configuration", *TABLE]


def summarise(collection: Collection) -> pd.DataFrame:
    """The summary of a collection, in the order of rows and columns that tables and plots share.

    Columns: ``dataset, metric, key, protocol, unit`` and the protocol's keys (``protocol.k``); ``mean, low, high,
    half_width, n`` over the seeds that were measured (no interval for n = 1), and over draws where the records hold
    them (:func:`results.inference.crossed_mean`); ``by_seed``, the values on each draw, or their mean alone, by seed
    (``None`` where a network has none); ``headline``, whether a suite begins with it; ``runs`` (how many there are),
    ``failures`` (what became of the others, in words, e.g. ``diverged 1/2``); ``label`` (the method's row name) and
    the configuration's own columns.
    """
    measured, costs = _measured(collection), _costs(collection)
    columns = list(dict.fromkeys([*measured, *costs]))  # of networks that measured nothing too
    values = pd.concat([costs] if measured.empty else [measured, costs], ignore_index=True).reindex(columns=columns)
    values["value"] = values["value"].where(values["value"].abs() != float("inf"))
    groups = values.groupby(_GROUP, sort=False)
    said = groups[["data.source", "protocol", "unit", *SUBJECT, *protocol_columns(values)]].first()
    stats = groups.agg(mean=("value", "mean"), sd=("value", "std"), n=("value", "count"), measured=("done", "sum"))
    stats = said.join(stats).reset_index()
    stats["protocol"] = stats["protocol"].fillna(stats["key"])
    stats["half_width"] = half_width(stats["sd"].to_numpy(), stats["n"].to_numpy())
    stats["by_seed"] = pd.Series(_by_seed(stats, values, collection.runs), dtype=object)
    drawn = {row: np.array([*own.values()]) for row, own in stats["by_seed"].items() if over_draws(own)}
    crossed = {row: float(crossed_mean(y_SD).half_width) for row, y_SD in drawn.items()}
    stats["half_width"] = pd.Series(crossed, dtype=float).reindex(stats.index).fillna(stats["half_width"])
    stats["low"], stats["high"] = stats["mean"] - stats["half_width"], stats["mean"] + stats["half_width"]
    own = configurations(collection).drop(columns="data.source").rename(columns={"dataset": "made_of"})
    table = stats.merge(own, on="configuration", how="left")
    table["failures"] = _failures(table, collection.runs, values)
    first = collection.metrics.loc[collection.metrics["headline"].astype(bool), TABLE]
    table["headline"] = pd.MultiIndex.from_frame(table[TABLE]).isin(pd.MultiIndex.from_frame(first))
    abroad = (table["made_of"] != table["dataset"]) & ~table["kind"].isin(["weights", *REFERENCES])
    table["own_label"] = table["label"]
    table["label"] = table["label"].mask(abroad, table["label"] + ", trained on " + table["made_of"].map(short_source))
    return _ordered(table[(table["n"] > 0) | (table["failures"] != "")])


def _by_seed(stats: pd.DataFrame, values: pd.DataFrame, runs: pd.DataFrame) -> list[dict[Any, Floats]]:
    """Of each row of ``stats`` its finite values by seed: on each draw, or where no draws were kept, the mean alone."""
    seeds = {name: None if pd.isna(seed) else seed for name, seed in runs[["id", "seed"]].to_numpy()}
    finite = values[values["value"].notna()]
    found: dict[tuple[str, ...], dict[Any, Floats]] = defaultdict(dict)
    for name, value, by_draw, *group in finite[["id", "value", "by_draw", *_GROUP]].to_numpy():
        found[tuple(group)][seeds[name]] = np.array(by_draw if isinstance(by_draw, list) else [value], dtype=float)
    return [found[tuple(group)] for group in stats[_GROUP].to_numpy()]


def over_draws(by_seed: Mapping[Any, Floats]) -> bool:
    """Whether every network's values on the same number of draws, more than one, are known."""
    counts = {len(values) for values in by_seed.values()}
    return len(counts) == 1 and max(counts) > 1


def half_width(sd: np.ndarray | float, n: np.ndarray | int) -> np.ndarray:
    """Half the width of the 95 % t-interval of a mean, t_{n-1, 0.975} · sd / √n; ``nan`` where n < 2.

    ``sd`` is the sample standard deviation (divisor n - 1), in the unit of the values; both may be arrays.
    """
    several = np.where(np.asarray(n) < 2, np.nan, n)
    return np.asarray(stdtrit(several - 1, 0.975) * sd / np.sqrt(several))


def protocol_columns(table: pd.DataFrame) -> list[str]:
    """The columns of the protocol's keys, of those that some row of ``table`` has."""
    return [name for name in map(str, table) if name.startswith(PROTOCOL) and table[name].notna().any()]


def _failures(table: pd.DataFrame, runs: pd.DataFrame, values: pd.DataFrame) -> list[str]:
    """What became of each configuration's networks, and of their measurements in that table: ``diverged 1/2``."""
    lost: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for configuration, status in runs.loc[runs["status"] != "done", ["configuration", "status"]].to_numpy():
        lost[configuration,][status] += 1
    for *group, status in values.loc[values["lost"].notna(), [*_GROUP, "lost"]].to_numpy():
        lost[tuple(group)][status] += 1
    texts = []
    for *group, count, n, measured in table[[*_GROUP, "runs", "n", "measured"]].to_numpy():
        became = dict(sorted((lost[group[0],] + lost[tuple(group)]).items())) | {"not finite": measured - n}
        texts.append(", ".join(f"{status} {number}/{count}" for status, number in became.items() if number))
    return texts


def _measured(collection: Collection) -> pd.DataFrame:
    """Every metric, and an empty value in each table where a network or a measurement was ``lost``.

    A network that is not done misses in every table of its data set; a measurement, in the tables that other networks'
    figures by the same probe with the same options are in.
    """
    runs = collection.runs[["id", "configuration", "status", "dataset"]]
    finished = runs.loc[runs["status"] == "done", ["id", "configuration"]]
    done = collection.metrics.merge(finished, on="id").assign(done=True, lost=None)
    subjects = {PROTOCOL + name for name in SUBJECT}
    table = [*TABLE, "data.source", "unit", *(name for name in protocol_columns(done) if name not in subjects)]
    networks = runs[runs["status"] != "done"].merge(done[table].drop_duplicates(TABLE), on="dataset")
    measurements = collection.measurements[collection.measurements["status"] != "done"]
    measurements = measurements[["id", "dataset", "probe", "options", "status"]].merge(finished, on="id")
    same = ["dataset", "probe", "options"]
    measurements = measurements.merge(done[[*table, "probe", "options"]].drop_duplicates([*same, *TABLE]), on=same)
    measurements = measurements.drop_duplicates(["id", *TABLE]).assign(lost=measurements["status"])
    missing = pd.concat([networks, measurements], ignore_index=True).assign(done=False)
    # A figure that another measurement found is not missing.
    return pd.concat([done, missing], ignore_index=True).drop_duplicates(["id", *TABLE]) if len(missing) else done


def _costs(collection: Collection) -> pd.DataFrame:
    """The costs as metrics whose key is the machine: figures of two machines are never averaged."""
    runs = collection.runs
    of = _MACHINE | (_BESIDE if (runs[_BESIDE["jobs"]] > 1).any() else {})
    machine = runs[[*of.values()]].set_axis([*of], axis=1)
    texts = [protocol_text(row) for row in machine.to_dict("records")]
    wide = runs[["id", "configuration", "dataset", "data.source"]].assign(key=texts, lost=None)
    wide = wide.join(machine.add_prefix(PROTOCOL))
    counter = runs["cost.memory_counter"]
    parts = []
    for name, (column, unit) in COSTS.items():
        if column in runs:
            value = runs[column].astype(float).where(runs["status"] == "done")
            done = value.notna()  # a cost that was not measured is absent, not a failure
            own = wide.assign(metric=name, unit=unit, value=value, protocol=texts, done=done)
            if name.startswith("peak_bytes"):
                own[f"{PROTOCOL}memory"] = counter.where(done)
                own["protocol"] += ", memory=" + counter.astype(str)
            parts.append(own.assign(protocol=own["protocol"].where(done)))
    return pd.concat(parts, ignore_index=True)


def configurations(collection: Collection) -> pd.DataFrame:
    """One row a configuration: its fields, ``label``, ``seeds`` and ``runs``, how many there are."""
    runs = collection.runs
    groups = runs.groupby("configuration", sort=False)
    own = [name for name in runs.columns if name not in _OF_A_RUN and not name.startswith(("cost.", "provenance."))]
    table = groups[own].first().reset_index()
    table["seeds"] = [" ".join(map(str, sorted(seeds.dropna()))) for _, seeds in groups["seed"]]
    table["runs"] = groups.size().to_numpy()
    table["label"] = _labels(table, [name for name in collection.axes if name in table])
    return table


def is_reference(table: pd.DataFrame) -> pd.Series:
    """Which rows only show what the others must beat: pixels, networks as they were initialised, base kernels."""
    return table["kind"].isin(REFERENCES) | table["method"].isin(BASE_KERNELS)


def _labels(table: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """The method's title, and the fields that tell apart configurations of one title, data set and dimension."""
    known = {*_PLACE, "data.source", "configuration", "seeds", "runs", "suite", "seed"}
    fields: list[str] = []
    apart = len(table.drop_duplicates(_PLACE))
    for name in dict.fromkeys([*axes, *table.columns]):
        if apart == len(table):
            break
        if name not in known and (more := len(table.drop_duplicates([*_PLACE, *fields, name]))) > apart:
            fields, apart = [*fields, name], more
    varies = {name: table.groupby(["dataset", "title"])[name].transform("nunique") > 1 for name in fields}
    labels = []
    for row in table.index:
        settings = [f"{_short(name)}={table[name][row]}" for name in fields if varies[name][row]]
        labels.append(", ".join([table["title"][row], *settings]))
    return labels


def _short(field: str) -> str:
    """``batch_size`` of a top-level field, ``n_views`` of ``regime.n_views``, ``kernel`` of ``regime.kernel.name``."""
    return field.removesuffix(".name").rsplit(".", 1)[-1]


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Headline metrics first, then the others as they were measured; methods by name, then references."""
    order = table.assign(
        metric=pd.Categorical(table["metric"], list(dict.fromkeys([*HEADLINE, *table["metric"]]))),
        key=pd.Categorical(table["key"], table["key"].unique()),
        reference=is_reference(table),
        label=natural(table["label"]),
    ).sort_values(["dataset", "metric", "key", "reference", "label", "embedding_dim"])
    return table.loc[order.index].reset_index(drop=True)


def natural(labels: pd.Series) -> pd.Series:
    """A key that sorts names without regard to case, and the numbers in them by value."""
    number = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
    return labels.str.casefold().str.replace(number, lambda found: f"{float(found[0]):032.16f}", regex=True)


def select(summary: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The rows of one metric by name, of ``all`` metrics, or (``None``) of the headline metrics; never costs.

    Those of transfer have a table of their own (:mod:`results.transfer`), and are left out where none is asked for.

    Raises ``ValueError`` for a metric that no run was measured on, listing those there are.
    """
    measured = summary[~summary["metric"].isin(COSTS)]
    if metric is not None:
        names = [*dict.fromkeys(measured["metric"]), "all"]
        if metric not in names:
            raise ValueError(f"no metric {metric!r} in these runs: there are {', '.join(names)}")
        return measured if metric == "all" else measured[measured["metric"] == metric]
    measured = measured[~measured["metric"].isin(TRANSFER)]
    chosen = measured[measured["metric"].isin(HEADLINE)]
    if chosen.empty or K not in chosen:
        return measured if chosen.empty else chosen
    ks = chosen[K].dropna()
    return chosen[chosen[K].isna() | (chosen[K] == (HEADLINE_K if HEADLINE_K in set(ks) else ks.min()))]


def of_metric(summary: pd.DataFrame, dataset: str, metric: str) -> pd.DataFrame:
    """The rows of one metric on one data set that some seed was measured in."""
    return summary[(summary["dataset"] == dataset) & (summary["metric"] == metric) & (summary["n"] > 0)]


def headline(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows that tables and figures begin with: the ones a suite names, or else the first that :func:`select` gives.

    By data set, so that each has some.
    """
    groups = select(summary).groupby("dataset", sort=False)
    return pd.concat([_first(own) for _, own in groups]) if groups.ngroups else select(summary)


def _first(own: pd.DataFrame) -> pd.DataFrame:
    if own["headline"].any():
        return own[own["headline"]]
    return own[(own[["metric", "key"]] == own[["metric", "key"]].iloc[0]).all(axis=1)]


def metric_title(metric: str, unit: str) -> str:
    """How a metric is called in titles and on axes, with its unit."""
    return f"{TITLES.get(metric, metric.replace('_', ' '))} ({'%' if unit == 'fraction' else unit})"
