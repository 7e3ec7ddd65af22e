"""What there is of a run and what is missing: from its folder, the one place that says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.probes.base import Measurement
from benchmark.running.folder import read_record
from benchmark.suite.run import Run
from results.record import MeasurementRecord, NetworkRecord, Status, measurement_path, network_path

RETRIED: tuple[Status, ...] = ("failed", "diverged", "out-of-memory")


@dataclass(frozen=True)
class RunState:
    """A run's records. ``weights_kept``: its network can be measured with what lies in its folder."""

    run: Run
    network: NetworkRecord | None
    measurements: dict[str, MeasurementRecord | None]
    weights_kept: bool

    def measurements_missing(self, retry: bool = False) -> tuple[Measurement, ...]:
        """What has no record, was interrupted or (``retry``) failed; nothing of a network that failed."""
        if self.network is not None and self.network.status in RETRIED and not retry:
            return ()
        return tuple(one for one in self.run.measurements if _pending(self.measurements[one.id], retry))

    def network_missing(self, retry: bool = False) -> bool:
        """Whether the network is to be made: also where something is to be measured on weights that are gone."""
        if _pending(self.network, retry):
            return True
        return not self.weights_kept and bool(self.measurements_missing(retry))

    def is_missing(self, retry: bool = False) -> bool:
        """Whether anything is still to be done."""
        return self.network_missing(retry) or bool(self.measurements_missing(retry))

    @property
    def is_done(self) -> bool:
        """Whether the network and every measurement is."""
        return all(record is not None and record.status == "done" for record in self._records)

    @property
    def first_fault(self) -> NetworkRecord | MeasurementRecord | None:
        """The first record that is not done; None where all that there are, are."""
        return next((record for record in self._records if record is not None and record.status != "done"), None)

    @property
    def _records(self) -> tuple[NetworkRecord | MeasurementRecord | None, ...]:
        return (self.network, *self.measurements.values())


def _pending(record: NetworkRecord | MeasurementRecord | None, retry: bool) -> bool:
    return record is None or record.status == "interrupted" or (retry and record.status in RETRIED)


def state_of(run: Run, folder: Path) -> RunState:
    """Where a run stands whose folder this is; a damaged record is set aside, with a warning."""
    network = read_record(NetworkRecord, network_path(folder))
    ids = [measurement.id for measurement in run.measurements]
    found = {name: read_record(MeasurementRecord, measurement_path(folder, name)) for name in ids}
    return RunState(run, network, found, run.network.is_kept(folder))
