"""What `spherebench evaluate` measures: networks of a runs folder, or files of weights, as a suite of Runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.data import DataSpec
from benchmark.data.datasets import split_sources
from benchmark.networks.base import Network
from benchmark.networks.kinds import Weights, parse_network
from benchmark.running.folder import listed_measurements, read_record, read_suite_note
from benchmark.runtime.errors import UserError
from benchmark.runtime.paths import in_job, typed
from benchmark.runtime.spec import Execution
from benchmark.suite.config import Settings, given_in, holds, nest, validated
from benchmark.suite.expand import Cell, Suite, execution_of, parse_overrides, read_suite, suite_path
from benchmark.suite.measure import measured, rows_of
from benchmark.suite.run import Run, changed, check_not_filled_in, of_weights
from results.record import NETWORK_NAME, SUITE_NAME, NetworkRecord

WEIGHTS = "weights:"  # before the path of a file, in place of a runs folder
WEIGHTS_RUNS = Path("runs") / "weights"


def suite_of_folder(folder: Path, source: str | None, assignments: Sequence[str]) -> Suite:
    """The networks of ``folder`` that are done, with what is listed for each, and what the assignments ask beside.

    Raises :class:`UserError` where there is none, or an assignment is not of measurements.
    """
    execution, evaluation, changes = _asked(assignments)
    if of_file := changes.keys() - {"data"}:
        raise UserError(f"--set {min(of_file)}: is a setting of weights:PATH; the networks of {folder} are as they are")
    if changes and source is None:
        raise UserError("--set data: is only with --data, which names the data set that it is of")
    note, networks = _networks_of(folder)
    cells = []
    for record, network in networks:
        listed = listed_measurements(note, folder, record.id)
        data = None if source is None else _data(source, changes, getattr(network, "data", None))
        with given_in("--set "):
            more = changed(evaluation, listed, network, data) if evaluation or data is not None else ()
        found = {measurement.id: measurement for measurement in (*listed, *more)}
        cells.append(Cell(Run(network, tuple(found.values())), record.axes))
    skipped = tuple((entry["axes"], entry["reason"]) for entry in note.get("skipped", ()))
    return Suite(note["suite"], tuple(cells), skipped, execution, note["protocol"])


def suite_of_listed(
    name: str, targets: Sequence[str], source: str | None, assignments: Sequence[str], out: Path | None
) -> tuple[Suite, Path]:
    """What the suite ``name`` lists, of the data sets that are there, on the networks of one runs folder and of files.

    Its records go into that folder, or without one into ``out``. Raises :class:`UserError` where nothing is left.
    """
    path = suite_path(name)
    file = read_suite(path)
    if not file.measure:
        raise UserError(f"--suite {name}: makes networks of its own; spherebench run {name} makes and measures them")
    execution, evaluation, changes = _asked(assignments, file.execution, path.name)
    of_file = {key: changes.pop(key) for key in set(changes) - {"data"}}
    root, sources = in_job(execution.data_root, "data_root"), split_sources(source) if source else []
    changes["evaluation"] = evaluation
    rows, skipped = rows_of(file, sources, changes, root, download=execution.download, where=path.name)
    folders = [Path(typed(target, "RUNS")) for target in targets if not target.startswith(WEIGHTS)]
    if len(folders) > 1 or (folders and out):
        raise UserError("RUNS: takes one runs folder, which the records go into; --out is for files of weights alone")
    note: dict[str, Any] = {"suite": "weights", "protocol": {"name": "weights"}}
    subjects: list[tuple[Network, dict[str, Any]]] = []
    if folders:
        note, networks = _networks_of(folders[0])
        subjects = [(network, record.axes) for record, network in networks]
    known = {network.id for network, _ in subjects}  # a file that was measured before is one of them
    files = [_weights(target, of_file) for target in targets if target.startswith(WEIGHTS)]
    subjects += [(weights, {"method": "weights"}) for weights in files if weights.id not in known]
    cells = []
    for network, axes in subjects:
        with given_in("--set "):
            asked, unfit = measured(network, rows)
        skipped += [one for one in unfit if one not in skipped]
        cells += [Cell(Run(network, asked), axes)] if asked else []
    if not cells:
        why = "; ".join(reason for _, reason in skipped)
        raise UserError(f"--suite {name}: none of its data sets can be measured: {why}")
    earlier = [(entry["axes"], entry["reason"]) for entry in note.get("skipped", ()) if "data" not in entry["axes"]]
    suite = Suite(note["suite"], tuple(cells), (*earlier, *skipped), execution, note["protocol"])
    return suite, folders[0] if folders else out or WEIGHTS_RUNS


def _networks_of(folder: Path) -> tuple[dict[str, Any], list[tuple[NetworkRecord, Network]]]:
    """What a runs folder's note says, and its networks that are done."""
    note = read_suite_note(folder)
    paths = sorted(folder.glob(f"*/{NETWORK_NAME}"))
    if note is None or not paths:
        what = "networks" if note is not None or not paths else SUITE_NAME
        raise UserError(f"{folder}: holds no {what}; give a folder of spherebench run's, or weights:PATH for a file")
    networks = []
    for path in paths:
        record = read_record(NetworkRecord, path)
        if record is None or record.status != "done":
            continue
        network = parse_network(record.network)
        if network.id != record.id:
            raise UserError(f"{path}: was made by code with another protocol, which this one cannot measure")
        networks.append((record, network))
    if not networks:
        raise UserError(f"{folder}: none of its {len(paths)} networks is done; spherebench run goes on with them")
    return note, networks


def _weights(target: str, options: Mapping[str, Any]) -> Weights:
    path = Path(typed(target.removeprefix(WEIGHTS), "RUNS"))
    with given_in("--set "):
        return validated(Weights, {"name": path.stem, "path": str(path.resolve()), **options}).resolved()


def suite_of_weights(target: str, source: str | None, assignments: Sequence[str]) -> Suite:
    """One file of weights, measured on ``source``."""
    execution, evaluation, changes = _asked(assignments)
    if source is None:
        raise UserError(f"--data: must be given for {target}; a data set's name, or npz:, folder: or hf:PATH")
    network = _weights(target, {key: value for key, value in changes.items() if key != "data"})
    with given_in("--set "):
        data = _data(source, changes, None)
        run = of_weights(network, evaluation, data)
    return Suite("weights", (Cell(run, {"method": "weights"}),), (), execution, {"name": "weights"})


def _asked(
    assignments: Sequence[str], of_suite: Settings | None = None, where: str = "--set"
) -> tuple[Execution, dict[str, Any], dict[str, Any]]:
    """Settings of the execution, over those of a suite, of the measurements, and what is left."""
    overrides = parse_overrides(assignments)
    for key, values in overrides.items():
        if len(values) > 1:
            raise UserError(f"--set {key}: takes one value here, {len(values)} given; a list reads [1, 5]")
    execution, overrides = execution_of(of_suite or {}, overrides, where)
    nested = nest({key: values[0] for key, values in overrides.items()})
    evaluation = nested.pop("evaluation", {})
    for key in nested:
        if key not in ("data", "branch", "normalise"):
            raise UserError(f"--set {key}: is no setting of measurements; allowed are evaluation.*, data.* with --data")
    with given_in("--set "):
        check_not_filled_in(nested)
    if holds(nested, "data.source"):
        raise UserError("--set data.source: is what --data says")
    return execution, evaluation, nested


def _data(source: str, changes: Mapping[str, Any], own: DataSpec | None) -> DataSpec:
    """The data to measure on: the network's own settings where it is the same source."""
    with given_in(f"--data {source}: "):
        data = validated(DataSpec, {"source": source, "tune_fraction": 0.0}).identified()
        if own is not None and (own.content or own.source) == (data.content or data.source):
            data = own.model_copy(update={"source": data.source})
        return validated(DataSpec, {**data.model_dump(), **changes.get("data", {})}).identified()
