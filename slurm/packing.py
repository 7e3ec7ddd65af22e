"""Between a suite's cells and a manifest's entries."""

from __future__ import annotations

from benchmark.networks.kinds import parse_network
from benchmark.probes.base import Measurement
from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import Execution
from benchmark.suite.expand import Cell, Suite
from benchmark.suite.run import Run
from slurm.manifest import Entry, Submission


def entry_of(cell: Cell) -> Entry:
    """A cell as a manifest holds it."""
    network = cell.run.network
    return Entry(
        id=network.id,
        title=network.title,
        network=network.model_dump(mode="json"),
        measurements={measurement.id: measurement.settings() for measurement in cell.run.measurements},
        axes=cell.axes,
    )


def suite_of(submission: Submission) -> Suite:
    """The suite of a manifest. Raises :class:`UserError` where this code would give anything in it another id."""
    return Suite(
        name=submission.suite,
        cells=tuple(_cell_of(entry, submission) for entry in submission.entries),
        skipped=submission.skipped,
        execution=Execution.model_validate(submission.execution),
        protocol=submission.protocol,
    )


def _cell_of(entry: Entry, submission: Submission) -> Cell:
    try:
        measurements = tuple(Measurement.parse(settings) for settings in entry.measurements.values())
        run = Run(parse_network(entry.network), measurements)
    except ValueError as error:
        raise UserError(f"{submission.path}: run {entry.id} was submitted by code with other settings") from error
    if run.id != entry.id or [measurement.id for measurement in measurements] != list(entry.measurements):
        raise UserError(f"{submission.path}: run {entry.id} was submitted by code with another protocol")
    return Cell(run, entry.axes)
