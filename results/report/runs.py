"""Every network of a suite with its measurements, as its drawer shows it: settings, provenance, attempts, cost, log."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from results.collect import Collection, short_source
from results.record import (
    ATTEMPTS_NAME,
    DRAWS,
    MEASUREMENTS_NAME,
    NETWORK_NAME,
    MeasurementRecord,
    NetworkRecord,
    read_lines,
)
from results.report import curves
from results.report.tables import Configurations
from results.runs import Records

_LOG_BYTES = 6000  # of a traceback: its end says what happened


def about(found: Sequence[Records]) -> dict[str, Any]:
    """What was compared, on what data and devices, when, and what became of it."""
    networks = [records.network for records in found]
    everything: list[NetworkRecord | MeasurementRecord] = [
        *networks,
        *(own for records in found for own in records.measurements),
    ]
    made = [record.provenance for record in everything]
    data = [own.settings.get("data") or {} for records in found for own in records.measurements]
    return {
        "networks": len(networks),
        "measurements": len(everything) - len(networks),
        "statuses": {
            "networks": Counter(record.status for record in networks),
            "measurements": Counter(own.status for records in found for own in records.measurements),
        },
        "datasets": _most_first(short_source(own["source"]) for own in data if "source" in own),
        "devices": _most_first(f"{own.device}, {own.threads} thread{'s' if own.threads != 1 else ''}" for own in made),
        "commits": _most_first((own.commit or "unknown")[:9] + ("+" if own.dirty else "") for own in made),
        "versions": _most_first(f"torch {own.versions['torch']}" for own in made if "torch" in own.versions),
        "seeds": len({str(own.network["seed"]) for own in networks if own.network.get("seed") is not None}),
        "started": min(own.started for own in made)[:10],
        "finished": max(own.finished for own in made)[:10],
    }


def _most_first(values: Iterable[str]) -> list[str]:
    return [value for value, _ in Counter(values).most_common()]


def runs(collection: Collection, own: Configurations, points: int) -> list[dict[str, Any]]:
    """A row a network, in the order of the tables."""
    rows = []
    for name, configuration in collection.runs[["id", "configuration"]].to_numpy():
        records = collection.records[name]
        rows.append({"c": own.place[configuration], **_run(records), "curve": curves.of_network(records, points)})
    return sorted(rows, key=lambda row: (row["c"], str(row["network"].get("seed"))))


def _run(records: Records) -> dict[str, Any]:
    record, folder = records.network, records.place if records.packed is None and records.place.is_dir() else None
    return {
        **record.model_dump(
            mode="json", include={"id", "suite", "status", "message", "network", "axes", "form", "cost"}
        ),
        "provenance": record.provenance.model_dump(mode="json"),
        "converted": record.converted.id if record.converted else None,
        "place": str(records.place),
        "log": _tail((folder / NETWORK_NAME).with_suffix(".txt")) if folder else "",
        "attempts": read_lines(folder / ATTEMPTS_NAME) if folder else [],
        "measurements": [_measurement(own, record, folder) for own in records.measurements],
    }


def _measurement(record: MeasurementRecord, network: NetworkRecord, folder: Path | None) -> dict[str, Any]:
    log = folder / MEASUREMENTS_NAME / f"{record.id}.txt" if folder else None
    elsewhere = record.provenance != network.provenance
    return {
        **record.model_dump(mode="json", include={"id", "probe", "status", "message", "settings", "cost"}),
        "metrics": [[metric.name, metric.value, metric.unit, metric.sd] for metric in record.metrics],
        "draws": len(next(iter(record.details.get(DRAWS, {}).values()), ())),
        "provenance": record.provenance.model_dump(mode="json") if elsewhere else None,
        "log": _tail(log) if log else "",
    }


def _tail(path: Path) -> str:
    """The end of a text, whatever its bytes; '' where there is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return ""
    return ("…" if len(content) > _LOG_BYTES else "") + content[-_LOG_BYTES:].decode(errors="replace")
