"""The records in a network's folder, as they are: read without torch, and nothing is set aside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from results.record import MEASUREMENTS_NAME, MeasurementRecord, NetworkRecord, network_path

R = TypeVar("R", NetworkRecord, MeasurementRecord)
# What stands for the network among the ids of measurements.
NETWORK = ""


@dataclass(frozen=True)
class Records:
    """The network's record and those of its measurements by id; ``damage`` says what is wrong with a bad one."""

    network: NetworkRecord | None
    measurements: dict[str, MeasurementRecord]
    damage: str

    @classmethod
    def of(cls, folder: Path) -> Records:
        """Of a network's folder, which need not be there."""
        damage: list[str] = []
        network = _read(NetworkRecord, network_path(folder), damage)
        paths = sorted((folder / MEASUREMENTS_NAME).glob("*.json"))
        found = {path.stem: _read(MeasurementRecord, path, damage) for path in paths}
        measurements = {name: record for name, record in found.items() if record is not None}
        return cls(network, measurements, damage[0] if damage else "")

    def missing(self, listed: Iterable[str]) -> list[str]:
        """What did not end yet: the network (``NETWORK``), or what of ``listed`` is to be measured on it."""
        if self.network is None or self.network.status == "interrupted":
            return [NETWORK]
        if self.network.status != "done":
            return []
        found = self.measurements
        return [name for name in listed if name not in found or found[name].status == "interrupted"]

    def all(self) -> list[NetworkRecord | MeasurementRecord]:
        """Every record that there is, the network's first."""
        return [*([self.network] if self.network else []), *self.measurements.values()]

    def faults(self) -> list[tuple[str, str]]:
        """Status and message of everything that failed, the network first; the message names the probe."""
        failed = [record for record in self.all() if record.status not in ("done", "interrupted")]
        return [(record.status, _told(record)) for record in failed]


def _told(record: NetworkRecord | MeasurementRecord) -> str:
    if isinstance(record, NetworkRecord):
        return record.message
    return f"{record.probe} {record.status}: {record.message}"


def _read(kind: type[R], path: Path, damage: list[str]) -> R | None:
    try:
        return kind.read(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        damage.append(str(error))
        return None
