"""From run folders to data frames: every record read once, damaged ones named and left out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from results.record import RECORD_NAME, Record

# What a metric was measured on. The rest of a protocol says how it was measured; that decides what is comparable.
SUBJECT = ("features", "epoch")


class LeftOut(UserWarning):
    """A record that could not be used."""


@dataclass(frozen=True, eq=False)
class Collection:
    """What a set of runs folders holds.

    ``runs`` has one row a run: its identity, the Run's fields by dotted path (``data.source``), ``loss_form``,
    ``cost.*`` and ``provenance.*``, its ``folder`` and its ``configuration`` (the Run without its seed).
    ``metrics`` has one row a run and metric: ``id, metric, protocol, value, unit, sd`` and how the protocol is read
    (``key``: the protocol that makes figures comparable; ``k``, ``features``, ``epoch``).
    ``axes`` names the suites' axes, all of them columns of ``runs``.
    """

    runs: pd.DataFrame
    metrics: pd.DataFrame
    axes: tuple[str, ...]

    def tidy(self) -> pd.DataFrame:
        """One row a run and metric with everything known of the run; a run without metrics keeps one row."""
        measured = self.metrics[["id", "metric", "protocol", "value", "unit", "sd"]]
        return measured.merge(self.runs.drop(columns="configuration"), on="id", how="right")


def collect(folders: Iterable[Path]) -> Collection:
    """Read the records under ``folders`` (runs folders, single run folders, or folders of runs folders).

    Nothing is written. A damaged record, and a run that was already read from another folder, are left out with a
    :class:`LeftOut` warning. Raises ``ValueError`` where a folder is missing or holds no readable record.
    """
    records: dict[str, tuple[Record, Path]] = {}
    for folder in map(Path, folders):
        for record, path in _read(folder):
            first = records.setdefault(record.id, (record, path))[1]
            if first.resolve() != path.resolve():
                _warn(f"run {record.id} is in {first.parent} and again in {path.parent}: the first is used")
    if not records:
        raise ValueError("no runs folder was named")
    return _collection(list(records.values()))


def _warn(sentence: str) -> None:
    warnings.warn(sentence, LeftOut, stacklevel=3)


def _read(folder: Path) -> list[tuple[Record, Path]]:
    if not folder.is_dir():
        raise ValueError(f"runs folder {folder}: {'is a file' if folder.exists() else 'there is no such folder'}")
    found = []
    for path in _record_paths(folder):
        try:
            found.append((Record.read(path), path))
        except (ValueError, OSError) as error:
            _warn(f"{error}; left out")
    if not found:
        raise ValueError(f"runs folder {folder}: no readable {RECORD_NAME} in it or two levels down")
    return found


def _record_paths(folder: Path) -> list[Path]:
    # No deeper than runs/<suite>/<run id>: a run's own folder may hold a copy of this repository with its records.
    return sorted(path for depth in ("", "*/", "*/*/") for path in folder.glob(depth + RECORD_NAME))


def _collection(records: Sequence[tuple[Record, Path]]) -> Collection:
    # As objects: a column of whole numbers that some run lacks stays one of whole numbers.
    runs = pd.DataFrame([_run_row(record, path) for record, path in records], dtype=object)
    runs["embedding_dim"] = runs["embedding_dim"].astype("Int64")  # baselines have none
    rows = [row for record, _ in records for row in _metric_rows(record)]
    metrics = pd.DataFrame(rows, columns=["id", "metric", "protocol", "key", "k", *SUBJECT, "value", "unit", "sd"])
    metrics["k"] = metrics["k"].astype(float)
    axes = dict.fromkeys(name for record, _ in records for name in flatten(record.axes))
    return Collection(runs, _split_subjects(metrics), tuple(axes))


def _run_row(record: Record, path: Path) -> dict[str, Any]:
    configuration = {key: value for key, value in record.run.items() if key != "seed"}
    return {
        "id": record.id,
        "suite": record.suite,
        "title": record.title,
        "status": record.status,
        "message": record.message,
        **flatten(record.axes),
        **flatten(record.run),
        "loss_form": record.form,
        **flatten({"cost": record.cost.model_dump(), "provenance": record.provenance.model_dump()}),
        "folder": str(path.parent),
        "configuration": json.dumps(configuration, sort_keys=True),
    }


def _metric_rows(record: Record) -> list[dict[str, Any]]:
    return [
        {
            "id": record.id,
            "metric": metric.metric,
            "protocol": protocol_text(metric.protocol),
            "key": protocol_text({key: value for key, value in metric.protocol.items() if key not in SUBJECT}),
            "k": metric.protocol.get("k"),
            **{subject: metric.protocol.get(subject) for subject in SUBJECT},
            "value": metric.value,
            "unit": metric.unit,
            "sd": metric.sd,
        }
        for metric in record.metrics
    ]


def _split_subjects(metrics: pd.DataFrame) -> pd.DataFrame:
    """Put a subject back into the key where some run has several of it: backbone and embedding make two tables.

    Where each run has one only (raw pixels in one run, backbone features in the others) they share a table.
    """
    for subject in SUBJECT:
        place = ["metric", "key"]
        several = metrics.groupby(["id", *place])[subject].transform("nunique") > 1
        split = several.groupby([metrics[name] for name in place]).transform("any").astype(bool)
        before = metrics["key"].where(metrics["key"] == "", metrics["key"] + ", ")
        metrics["key"] = metrics["key"].where(~split, before + f"{subject}=" + metrics[subject].astype(str))
    return metrics


def protocol_text(protocol: Mapping[str, Any]) -> str:
    """A protocol in one line: ``k=20, T=0.07, split=test``."""
    return ", ".join(f"{key}={value}" for key, value in protocol.items())


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one level of dotted paths; lists become JSON text."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return flat
