"""From records to data frames: which figures share a table, and on which data each was measured."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from results.record import DRAWS, MeasurementRecord, matches
from results.runs import Records, headlines, read_runs

# What a metric was measured on. The rest of a protocol says how it was measured; that decides what is comparable.
SUBJECT = ("features", "epoch", "resized")
# The columns of a protocol: PROTOCOL + its key.
PROTOCOL = "protocol."
# Tables come in this order of probes, whatever the order of the files; probes that are not named here follow by name.
PROBES = (
    *("fewshot_svm", "fewshot", "fewshot_ridge", "knn", "logistic", "linear", "finetune"),
    *("retrieval", "clustering", "transfer", "multilabel"),
    *("fewshot_embedding", "clustering_embedding", "embedding"),
)
# Kinds of network that only show what the others must beat; and of the kernel regime, what fits nothing.
REFERENCES = ("pixels", "random_init")
BASE_KERNELS = ("base_kernel", "base_kernel_augmented")


@dataclass(frozen=True, eq=False)
class Collection:
    """What a set of runs folders holds.

    ``runs`` has one row a network: its identity, its settings by dotted path (``data.source``), ``loss_form``,
    ``cost.*`` and ``provenance.*``, and its ``configuration`` (the settings without the seed).
    ``measurements`` has one row a network and measurement: ``id`` (the network's), ``measurement, probe, status,
    message`` and ``options`` (its settings but for the data).
    ``metrics`` has one row a network and metric: ``id, measurement, probe, options, metric, value, unit, sd``; its
    values on each draw where the record holds them (``by_draw``); the protocol, as text (``protocol``) and a column a
    key (``protocol.k``); ``key``, the part of it that makes figures comparable; and of what it was measured on what is
    no part of the key (``features``, ``epoch``); and whether it is one that a suite begins with (``headline``).
    In all three, ``dataset`` names the data set that figures are grouped by: data of one's own are one data set where
    their content is the same, wherever they lie, and two where it is not.
    ``axes`` names the suites' axes, all of them columns of ``runs``.
    """

    runs: pd.DataFrame
    measurements: pd.DataFrame
    metrics: pd.DataFrame
    axes: tuple[str, ...]
    records: Mapping[str, Records]

    def tidy(self) -> pd.DataFrame:
        """One row a network and metric with everything known of it; a network without metrics keeps one row."""
        ours = ["options", "dataset", "data.source", "key", "by_draw", "headline"]
        measured = self.metrics.drop(columns=[*ours, *SUBJECT])
        return measured.merge(self.runs.drop(columns="configuration"), on="id", how="right")

    def details(self, probe: str) -> dict[str, dict[str, Any]]:
        """What a probe found beside its metrics, by the network's id: of the first such measurement that is done."""
        return {
            name: record.details
            for name, records in self.records.items()
            for record in reversed(records.measurements)
            if (record.probe, record.status) == (probe, "done")
        }


def collect(places: Iterable[Path]) -> Collection:
    """The records of ``places``, as :func:`results.runs.read_runs` reads them, warns and raises."""
    places = list(places)
    return tabulate(read_runs(places), headlines(places))


def tabulate(found: Sequence[Records], wanted: Sequence[str] = ()) -> Collection:
    """The same of records that were read; ``wanted`` are the metrics that their suites begin with."""
    names = _names_of_data(found)
    with_suite = {own.network.suite: data for own in reversed(found) for data in [*_data_of(own)][:1]}

    def named(records: Records, measured: Mapping[str, Any] | None = None) -> dict[str, str]:
        # A network that was made of no data, weights from a file, stands with what it was measured on, and where it
        # was not, with its suite.
        data = measured or next(_data_of(records), None) or with_suite.get(records.network.suite)
        return names[_identity(data)]

    # As objects: a column of whole numbers that some network lacks stays one of whole numbers.
    runs = pd.DataFrame([_run_row(records, named(records)) for records in found], dtype=object)
    runs = runs.reindex(columns=list(dict.fromkeys([*runs, "embedding_dim", "seed"])))
    runs["embedding_dim"] = runs["embedding_dim"].astype("Int64")  # baselines have none
    measurements: list[dict[str, Any]] = []
    figures: list[dict[str, Any]] = []
    for records, record in sorted(((own, record) for own in found for record in own.measurements), key=_place):
        options = _options(record)
        row = {
            "id": records.network.id,
            "measurement": record.id,
            "probe": record.probe,
            "options": json.dumps(options, sort_keys=True),
            **named(records, record.settings.get("data")),
        }
        measurements.append(row | {"status": record.status, "message": record.message})
        if record.status == "done":
            given = row | {"settings": options}
            by_draw = record.details.get(DRAWS, {})
            for metric in record.metrics:
                own = dict(metric) | {"protocol": {**metric.protocol}, "by_draw": by_draw.get(metric.name)}
                figures.append(given | own | {"headline": any(matches(metric, request) for request in wanted)})
    return Collection(
        runs,
        pd.DataFrame(measurements, columns=[*_MEASUREMENT, "status", "message"], dtype=object),
        _metrics(figures),
        tuple(dict.fromkeys(name for records in found for name in flatten(records.network.axes))),
        {records.network.id: records for records in found},
    )


_MEASUREMENT = ["id", "measurement", "probe", "options", "dataset", "data.source"]
_FOUND = ["value", "unit", "sd", "by_draw", "headline"]


def _names_of_data(found: Sequence[Records]) -> dict[str, dict[str, str]]:
    """By identity, ``dataset`` and ``data.source`` of all data: called by the first path that they were seen at."""
    seen: dict[str, Mapping[str, Any]] = {}
    for data in chain.from_iterable(map(_data_of, found)):
        seen.setdefault(_identity(data), data)
    called = Counter(short_source(data["source"]) for data in seen.values())
    names = {"": {"dataset": "", "data.source": ""}}
    for identity, data in seen.items():
        source, content = data["source"], data.get("content")
        apart = f" (content {content[:8]})" if content and called[short_source(source)] > 1 else ""
        names[identity] = {"dataset": source + apart, "data.source": source}
    return names


def _identity(data: Mapping[str, Any] | None) -> str:
    return str(data.get("content") or data["source"]) if data else ""


def _by_content(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a file, data or weights, without its path where they have its content."""
    paths = ("source", "path") if settings.get("content") else ()
    return {key: value for key, value in settings.items() if key not in paths}


def _data_of(records: Records) -> Iterator[Mapping[str, Any]]:
    """The data that a network was made of, if any, and those that it was measured on."""
    places = [records.network.network, *(record.settings for record in records.measurements)]
    return (place["data"] for place in places if place.get("data"))


def _run_row(records: Records, data_set: Mapping[str, str]) -> dict[str, Any]:
    record = records.network
    configuration = {key: value for key, value in _by_content(record.network).items() if key != "seed"}
    if data := configuration.get("data"):
        configuration["data"] = _by_content(data)
    # Of all its measurements; of those that a record of an older schema held, the sum is all that is known.
    seconds = [own.cost.seconds for own in records.measurements if own.cost.seconds is not None]
    if record.converted:
        seconds.append(record.converted.evaluation_seconds)
    cost = record.cost.model_dump() | {"evaluation_seconds": sum(seconds) if seconds else None}
    return {
        **{name: getattr(record, name) for name in ("id", "suite", "title", "status", "message")},
        **flatten(record.axes),
        **flatten(record.network),
        "loss_form": record.form,
        **flatten({"cost": cost, "provenance": record.provenance.model_dump()}),
        **data_set,
        "configuration": json.dumps(configuration, sort_keys=True),
    }


def _place(pair: tuple[Records, MeasurementRecord]) -> tuple[Any, ...]:
    """The order of measurements in tables: references last, then by probe, then by its options' values."""
    records, record = pair
    options = sorted(flatten(_options(record)).items())
    values = [(name, value if isinstance(value, int | float) else math.inf, str(value)) for name, value in options]
    known = PROBES.index(record.probe) if record.probe in PROBES else len(PROBES)
    data = _identity(record.settings.get("data"))
    return records.network.network["kind"] in REFERENCES, known, record.probe, values, data


def _options(record: MeasurementRecord) -> dict[str, Any]:
    return {key: value for key, value in record.settings.items() if key != "data"}


def _metrics(figures: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The rows of ``Collection.metrics``.

    A figure is a measurement's row and ``settings``, its metric's fields with the protocol as a mapping, and ``key``.
    """
    for figure in figures:
        figure["key"] = {name: value for name, value in figure["protocol"].items() if name not in SUBJECT}
    for subject in SUBJECT:
        # Part of the key where one network, or two probes, have several: backbone and embedding, say. Where each
        # network has one only (raw pixels in one, backbone features in the others) they share a table.
        for own in _grouped(figures):
            two_probes = len({figure["probe"] for figure in own}) > 1
            together = [own] if two_probes else _grouped(own, "id")
            if any(len({figure["protocol"].get(subject) for figure in of_one} - {None}) > 1 for of_one in together):
                _tell_apart(own, subject, [figure["protocol"] for figure in own])
    # An option of one probe that sets figures apart and that their protocol does not tell.
    for own in _grouped(figures, "probe"):
        options = [figure["settings"] for figure in own]
        for name in dict.fromkeys(chain.from_iterable(options)):
            values = {str(found[name]) for found in options if name in found}
            if len(values) > 1 and not isinstance(options[0].get(name), list):
                _tell_apart(own, name, options)
    rows = []
    for same in _grouped(figures, "id"):
        # Of two measurements that found the same (k = 20 among other k, measured twice) one is kept.
        for place, figure in enumerate(same):
            if figure["value"] in [other["value"] for other in same[:place]]:
                continue
            if place:
                _tell_apart([figure], "measurement", [figure])
            protocol, key = figure["protocol"], figure["key"]
            row = {name: figure[name] for name in (*_MEASUREMENT, "metric")}
            row |= {"protocol": protocol_text(protocol), "key": protocol_text(key)}
            row |= {name: protocol.get(name) for name in SUBJECT if name not in key}
            row |= {PROTOCOL + name: value for name, value in protocol.items()}
            rows.append(row | {name: figure[name] for name in _FOUND})
    first = [*_MEASUREMENT, "metric", "protocol", "key", *SUBJECT]
    columns = dict.fromkeys([*first, *(name for row in rows for name in row), *_FOUND])
    return pd.DataFrame(rows, columns=list(columns), dtype=object).astype({"value": float, "sd": float})


def _tell_apart(figures: Iterable[dict[str, Any]], name: str, told: Iterable[Mapping[str, Any]]) -> None:
    """Make what tells figures from others part of their protocols and keys, where ``told`` has it."""
    for figure, values in zip(figures, told, strict=True):
        if name in values:
            figure["protocol"][name] = figure["key"][name] = values[name]


def _grouped(figures: Iterable[dict[str, Any]], *by: str) -> list[list[dict[str, Any]]]:
    """Figures by the table that they stand in, and by these columns."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for figure in figures:
        names = ("dataset", "metric", *by)
        groups[*(figure[name] for name in names), protocol_text(figure["key"])].append(figure)
    return list(groups.values())


def protocol_text(protocol: Mapping[Any, Any]) -> str:
    """A protocol in one line: ``k=20, T=0.07, split=test``."""
    return ", ".join(f"{key}={value}" for key, value in protocol.items())


def short_source(source: str) -> str:
    """A data source as titles show it: of a path its last part only."""
    kind, colon, path = source.partition(":")
    return kind + colon + path.rstrip("/").rsplit("/", 1)[-1]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one level of dotted paths; lists become JSON text."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return flat
