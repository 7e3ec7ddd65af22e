"""Choosing hyper-parameters: every candidate of a method trained alike, judged on the tune split.

Each method gets the same number of candidates. The test split is not read.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmark.runtime.errors import UserError
from benchmark.suite.config import nest, repeated
from benchmark.suite.expand import Cell, Suite, SuiteFile, Tuning, expand, product
from results.record import NETWORK_NAME, PACKED_NAME, is_as_asked, matches, request_of, write_atomically
from results.runs import Records, read_runs


def tuning_suite(file: SuiteFile, overrides: Mapping[str, list[Any]], *, name: str, where: str) -> Suite:
    """The suite of all candidates of all methods. Raises :class:`UserError` where their numbers differ."""
    if file.tune is None:
        raise UserError(f"{where}: tune: must be given, it lists the candidates to choose from")
    candidates = file.tune.candidates
    counts = {method: len(list(product(keys))) for method, keys in candidates.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{method} {count}" for method, count in counts.items())
        raise UserError(f"{where}: tune.candidates: numbers differ ({told}), must be equal: every method's budget is")
    others = {key: values for key, values in overrides.items() if key != "method"}
    suites = []
    methods = overrides.get("method") or list(candidates)
    if again := repeated(methods):
        raise UserError(f"--set method: lists {again[0]!r} twice")
    for method in methods:
        if method not in candidates:
            raise UserError(f"--set method: is {method!r}, which has no candidates; there are {', '.join(candidates)}")
        grid = {
            "method": [method],
            "embedding_dim": [file.tune.embedding_dim],
            **candidates[method],
            "seed": file.tune.seeds,
            "evaluation.split": ["tune"],
        }
        alone = file.model_copy(update={"grid": grid, "baselines": [], "skip": []})
        suites.append(expand(alone, others, name=f"{name}-tune", where=where))
    cells = tuple(cell for suite in suites for cell in suite.cells)
    if any(measurement.split != "tune" for cell in cells for measurement in cell.run.measurements):
        raise UserError("--set evaluation.split: tuning looks at the tune split only; leave it out")
    for cell in cells:
        _check_metric(file.tune.metric, cell, where)
    # The choice is written into the suite's `methods`: that must not make the folder of candidates another suite's.
    protocol = {**suites[0].protocol, "axes": [], "methods": {}, "tune": file.tune.metric}
    return replace(suites[0], cells=cells, protocol=protocol)


def _check_metric(request: str, cell: Cell, where: str) -> None:
    """Raise :class:`UserError` where none of a candidate's probes gives the metric, or more than one figure is it."""
    name, wanted = request_of(request)
    figures = [figure for measurement in cell.run.measurements for figure in measurement.probe.figures()]
    called = [known for metric, known in figures if metric == name]
    # What is known only of what was measured is taken to be as asked.
    may_be = [known for known in called if all(is_as_asked(known.get(key, wanted[key]), wanted[key]) for key in wanted)]
    shown = [f"{name}[{','.join(f'{key}={value}' for key, value in known.items())}]" for known in may_be or called]
    fault = f"{where}: tune.metric: is {request!r}"
    if not may_be:
        there = shown or sorted({metric for metric, _ in figures})
        raise UserError(f"{fault}, must be one that they measure: {', '.join(there)}")
    if len(may_be) > 1 and all(wanted.keys() <= known.keys() for known in may_be):
        raise UserError(f"{fault}, which {len(may_be)} metrics are: {', '.join(shown)}")


MISSING = "missing"  # of a candidate that was not tried, or not to its end


@dataclass(frozen=True)
class Score:
    """One candidate: the metric's mean over seeds, or what became of it."""

    method: str
    candidate: dict[str, Any]
    value: float | None
    seeds: int
    note: str = ""


def scores(suite: Suite, tuning: Tuning, folder: Path) -> list[Score]:
    """Every candidate's score, best first within its method; a candidate with anything that is not done has none."""
    # There is none where another program began with them all.
    there = any(found for name in (f"*/{NETWORK_NAME}", PACKED_NAME) for found in folder.glob(name))
    networks = {network.network.id: network for network in (read_runs([folder]) if there else ())}
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in suite.cells:
        groups[cell.axes["method"], str(_candidate(cell, tuning))].append(cell)
    found = [_score(cells, tuning, networks) for cells in groups.values()]
    order = list(tuning.candidates)
    return sorted(found, key=lambda score: (order.index(score.method), score.value is None, -(score.value or 0)))


def _candidate(cell: Cell, tuning: Tuning) -> dict[str, Any]:
    return {key: cell.axes[key] for key in tuning.candidates[cell.axes["method"]]}


def _score(cells: Sequence[Cell], tuning: Tuning, networks: Mapping[str, Records]) -> Score:
    method, candidate = cells[0].axes["method"], _candidate(cells[0], tuning)
    values: list[float] = []
    for cell in cells:
        network = networks.get(cell.run.id)
        if network is None or network.network.status != "done":
            return Score(method, candidate, None, len(values), network.network.status if network else MISSING)
        figures = [metric for record in network.measurements for metric in record.metrics]
        matching = [metric for metric in figures if matches(metric, tuning.metric)]
        if len(matching) == 1:
            values.append(matching[0].value)
        elif matching:
            several = ", ".join(metric.name for metric in matching[:3])
            raise UserError(f"tune.metric: is {tuning.metric!r}, which {len(matching)} metrics are: {several}")
        elif any(one.id not in {record.id for record in network.measurements} for one in cell.run.measurements):
            return Score(method, candidate, None, len(values), MISSING)
        elif fault := next((record for record in network.measurements if record.status != "done"), None):
            return Score(method, candidate, None, len(values), f"{fault.probe} {fault.status}")
        else:
            raise UserError(f"tune.metric: is {tuning.metric!r}, must name a metric of {network.place}")
    return Score(method, candidate, statistics.mean(values), len(values))


def choose(found: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """The best candidate of each method, as the ``methods`` section of a suite."""
    best: dict[str, dict[str, Any]] = {}
    for score in found:
        if score.value is not None:
            best.setdefault(score.method, nest(score.candidate))
    return best


def write_choice(chosen: Mapping[str, Any], folder: Path) -> Path:
    """Write the choice as YAML, to be taken into the suite file."""
    path = folder / "chosen.yaml"
    write_atomically(path, yaml.safe_dump({"methods": dict(chosen)}, sort_keys=False).encode())
    return path
