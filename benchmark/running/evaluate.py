"""What `spherebench evaluate` measures: networks of a runs folder, or a file of weights, as a suite of Runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.data import DataSpec
from benchmark.networks.kinds import Weights, parse_network
from benchmark.running.folder import listed_measurements, read_record, read_suite_note
from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import Execution
from benchmark.suite.config import given_in, nest, validated
from benchmark.suite.expand import Cell, Suite, execution_of, parse_overrides
from benchmark.suite.run import Run, changed, check_not_filled_in, of_weights
from results.record import NETWORK_NAME, NetworkRecord


def suite_of_folder(folder: Path, source: str | None, assignments: Sequence[str]) -> Suite:
    """The networks of ``folder`` that are done, with what is listed for each, and what the assignments ask beside.

    Raises :class:`UserError` where there is none, or an assignment is not of measurements.
    """
    execution, evaluation, changes = _asked(assignments)
    note = read_suite_note(folder)
    paths = sorted(folder.glob(f"*/{NETWORK_NAME}"))
    if note is None or not paths:
        raise UserError(f"{folder}: holds no networks; spherebench run makes them, and weights:PATH measures a file")
    cells = []
    for path in paths:
        record = read_record(NetworkRecord, path)
        if record is None or record.status != "done":
            continue
        network = parse_network(record.network)
        if network.id != record.id:
            raise UserError(f"{path}: was made by code with another protocol, which this one cannot measure")
        listed = listed_measurements(note, folder, record.id)
        data = None if source is None else _data(source, changes, getattr(network, "data", None))
        with given_in("--set "):
            more = changed(evaluation, listed, network, data) if evaluation or data is not None else ()
        found = {measurement.id: measurement for measurement in (*listed, *more)}
        cells.append(Cell(Run(network, tuple(found.values())), record.axes))
    skipped = tuple((entry["axes"], entry["reason"]) for entry in note.get("skipped", ()))
    return Suite(note["suite"], tuple(cells), skipped, execution, note["protocol"])


def suite_of_weights(path: Path, source: str | None, assignments: Sequence[str]) -> Suite:
    """One file of weights, measured on ``source``."""
    execution, evaluation, changes = _asked(assignments)
    if source is None:
        raise UserError(f"--data: must be given for weights:{path}; a data set's name, npz:PATH or folder:PATH")
    options = {key: value for key, value in changes.items() if key != "data"}
    with given_in("--set "):
        network = validated(Weights, {"name": path.stem, "path": str(path.resolve()), **options}).resolved()
        data = _data(source, changes, None)
        run = of_weights(network, evaluation, data)
    return Suite("weights", (Cell(run, {"method": "weights"}),), (), execution, {"name": "weights"})


def _asked(assignments: Sequence[str]) -> tuple[Execution, dict[str, Any], dict[str, Any]]:
    """Settings of the execution, of the measurements, and what is left."""
    overrides = parse_overrides(assignments)
    for key, values in overrides.items():
        if len(values) > 1:
            raise UserError(f"--set {key}: takes one value here, {len(values)} given; a list reads [1, 5]")
    execution, overrides = execution_of({}, overrides, "--set")
    nested = nest({key: values[0] for key, values in overrides.items()})
    evaluation = nested.pop("evaluation", {})
    for key in nested:
        if key not in ("data", "branch", "normalise"):
            raise UserError(f"--set {key}: is no setting of measurements; allowed are evaluation.*, data.* with --data")
    with given_in("--set "):
        check_not_filled_in(nested)
    return execution, evaluation, nested


def _data(source: str, changes: Mapping[str, Any], own: DataSpec | None) -> DataSpec:
    """The data to measure on: the network's own settings where it is the same source."""
    with given_in(f"--data {source}: "):
        data = validated(DataSpec, {"source": source, "tune_fraction": 0.0}).identified()
        if own is not None and (own.content or own.source) == (data.content or data.source):
            data = own.model_copy(update={"source": data.source})
        return validated(DataSpec, {**data.model_dump(), **changes.get("data", {})}).identified()
