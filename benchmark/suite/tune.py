"""Choosing hyper-parameters: every candidate of a method trained alike, judged on the tune split.

Each method gets the same number of candidates. The test split is not read.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmark.running.folder import read_record
from benchmark.runtime.errors import UserError
from benchmark.suite.config import nest
from benchmark.suite.expand import Cell, Suite, SuiteFile, Tuning, expand
from results.record import write_atomically

CHOICE_NAME = "chosen.yaml"


def tuning_suite(file: SuiteFile, overrides: Mapping[str, list[Any]], *, name: str, where: str) -> Suite:
    """The suite of all candidates of all methods. Raises :class:`UserError` where their numbers differ."""
    tuning = _tuning(file, where)
    others = {key: values for key, values in overrides.items() if key != "method"}
    suites = [
        expand(_candidates_of(file, tuning, method), others, name=f"{name}-tune", where=where)
        for method in _wanted(tuning, overrides.get("method"))
    ]
    cells = tuple(cell for suite in suites for cell in suite.cells)
    if any(cell.run.evaluation.split != "tune" for cell in cells):
        raise UserError("--set evaluation.split: tuning looks at the tune split only; leave it out")
    # The choice is written into the suite's `methods`: that must not make the folder of candidates another suite's.
    protocol = {**suites[0].protocol, "axes": [], "methods": {}, "tune": tuning.metric}
    return replace(suites[0], cells=cells, protocol=protocol)


def _tuning(file: SuiteFile, where: str) -> Tuning:
    if file.tune is None:
        raise UserError(f"{where}: tune: must be given, it lists the candidates to choose from")
    counts = {method: len(list(_product(keys))) for method, keys in file.tune.candidates.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{method} {count}" for method, count in counts.items())
        raise UserError(f"{where}: tune.candidates: numbers differ ({told}), must be equal: every method's budget is")
    return file.tune


def _wanted(tuning: Tuning, methods: Sequence[str] | None) -> list[str]:
    """The methods to tune: those named, or all that have candidates."""
    known = list(tuning.candidates)
    for method in methods or ():
        if method not in known:
            raise UserError(f"--set method: is {method!r}, which has no candidates; there are {', '.join(known)}")
    return list(methods or known)


def _product(keys: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*keys.values())]


def _candidates_of(file: SuiteFile, tuning: Tuning, method: str) -> SuiteFile:
    """The suite file whose grid is one method's candidates, evaluated on the tune split."""
    grid = {
        "method": [method],
        "embedding_dim": [tuning.embedding_dim],
        **tuning.candidates[method],
        "seed": list(tuning.seeds),
        "evaluation.split": ["tune"],
    }
    return file.model_copy(update={"grid": grid, "baselines": [], "skip": []})


@dataclass(frozen=True)
class Score:
    """One candidate: the metric's mean over seeds, or what became of it."""

    method: str
    candidate: dict[str, Any]
    value: float | None
    seeds: int
    note: str = ""


def scores(suite: Suite, tuning: Tuning, folder: Path) -> list[Score]:
    """Every candidate's score, best first within its method; a candidate with a run that is not done has none."""
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in suite.cells:
        groups[cell.run.method, str(_candidate(cell, tuning))].append(cell)
    found = [_score(cells, tuning, folder) for cells in groups.values()]
    order = list(tuning.candidates)
    return sorted(found, key=lambda score: (order.index(score.method), score.value is None, -(score.value or 0)))


def _candidate(cell: Cell, tuning: Tuning) -> dict[str, Any]:
    return {key: cell.axes[key] for key in tuning.candidates[cell.run.method]}


def _score(cells: Sequence[Cell], tuning: Tuning, folder: Path) -> Score:
    method, candidate = cells[0].run.method, _candidate(cells[0], tuning)
    values: list[float] = []
    for cell in cells:
        record = read_record(folder / cell.run.id)
        if record is None or record.status != "done":
            return Score(method, candidate, None, len(values), record.status if record else "missing")
        matching = [metric.value for metric in record.metrics if metric.name.startswith(tuning.metric)]
        if not matching:
            raise UserError(f"tune.metric: is {tuning.metric!r}, must begin a metric of {folder / cell.run.id}")
        values.append(matching[0])
    return Score(method, candidate, statistics.mean(values), len(values))


def choose(found: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """The best candidate of each method, as the ``methods`` section of a suite."""
    best: dict[str, dict[str, Any]] = {}
    for score in found:
        if score.value is not None and score.method not in best:
            best[score.method] = nest(score.candidate)
    return best


def write_choice(chosen: Mapping[str, Any], folder: Path) -> Path:
    """Write the choice as YAML, to be taken into the suite file."""
    path = folder / CHOICE_NAME
    write_atomically(path, yaml.safe_dump({"methods": dict(chosen)}, sort_keys=False).encode())
    return path
