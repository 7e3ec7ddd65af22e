"""A suite file, expanded into Runs.

A suite is a YAML file: ``defaults`` (settings of every Run), ``methods`` (settings of the Runs of one method), ``grid``
(axes; their product is the Runs), ``baselines`` (rows to compare with that train nothing), ``skip`` (cells left out,
each with a reason), ``tune`` (candidates for ``spherebench tune``) and ``execution`` (what changes no number).
Later layers win: defaults, the method's settings, the cell of the grid, ``--set``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from benchmark.networks.kernel_spec import KERNEL_BASELINES, KERNEL_METHODS
from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import SettingError
from benchmark.suite.config import Settings, fault, holds, lookup, merge, nest, parse_yaml, read_yaml
from benchmark.suite.run import BASELINES, Execution, Run, Spec

SUITES = Path(__file__).parents[1] / "suites"


class Skip(Spec):
    """A cell of the grid that makes no sense: the axes' values it concerns, and why."""

    when: dict[str, Any]
    reason: str = Field(min_length=1)


class Tuning(Spec):
    """Candidates for one method's hyper-parameters, judged by one figure on the tune split."""

    metric: str = Field(description="a metric's name, or its beginning, as in the records")
    embedding_dim: int
    seeds: tuple[int, ...] = (0,)
    candidates: dict[str, dict[str, list[Any]]] = Field(description="method -> key -> values; their product is tried")


class SuiteFile(Spec):
    """The schema of a suite file."""

    description: str = Field(min_length=1)
    defaults: Settings
    grid: dict[str, list[Any]]
    methods: dict[str, Settings] = {}
    baselines: list[str] = []
    skip: list[Skip] = []
    tune: Tuning | None = None
    execution: Settings = {}
    gpus: int = Field(1, ge=1, description="that a Run is meant for: what `spherebench plan` predicts")


@dataclass(frozen=True)
class Cell:
    """One Run of a suite and the axes' values that made it."""

    run: Run
    axes: dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """A suite with ``--set`` applied: its Runs, the cells left out, and how to execute them."""

    name: str
    description: str
    cells: tuple[Cell, ...]
    skipped: tuple[tuple[dict[str, Any], str], ...]
    execution: Execution
    protocol: Settings
    gpus: int = 1

    @property
    def digest(self) -> str:
        """Digest of what every Run has in common and of the axes' names: more values on an axis keep it the same."""
        return hashlib.sha256(json.dumps(self.protocol, sort_keys=True).encode()).hexdigest()


def suite_names() -> list[str]:
    """The suites that come with spherebench."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def suite_path(name_or_path: str) -> Path:
    """The file of a suite, by name or path. Raises :class:`UserError` listing the names there are."""
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise UserError(f"suite file {path}: there is no such file")
        return path
    if name_or_path not in suite_names():
        known = ", ".join(suite_names())
        raise UserError(f"suite {name_or_path!r} is not known; there are {known}, or give the path of a .yaml file")
    return SUITES / f"{name_or_path}.yaml"


def read_suite(path: Path) -> SuiteFile:
    """Read and validate a suite file. Raises :class:`UserError` naming the file and the key."""
    try:
        return SuiteFile.model_validate(_with_tuples(read_yaml(path)))
    except ValidationError as error:
        key, reason = fault(error, SuiteFile)
        raise UserError(f"{path.name}: {key}: {reason}") from error


def _with_tuples(settings: Settings) -> Settings:
    if isinstance(lookup(settings, "tune.seeds"), list):
        return merge(settings, {"tune": {"seeds": tuple(settings["tune"]["seeds"])}})
    return settings


def parse_overrides(assignments: Sequence[str]) -> dict[str, list[Any]]:
    """Parse ``KEY=VALUE`` texts. Commas outside brackets separate values: ``embedding_dim=512,2048`` is two."""
    overrides: dict[str, list[Any]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {assignment!r}: must read KEY=VALUE, such as epochs=10 or embedding_dim=512,2048")
        values = parse_yaml(f"[{text}]", f"--set {key}") if text.strip() else []
        if not values:
            raise UserError(f"--set {assignment!r}: has no value after the equals sign")
        overrides[key.strip()] = values
    return overrides


def load_suite(name_or_path: str, assignments: Sequence[str] = ()) -> Suite:
    """Read a suite by name or path, apply ``--set`` assignments, and expand it into Runs."""
    path = suite_path(name_or_path)
    return expand(read_suite(path), parse_overrides(assignments), name=path.stem, where=path.name)


def expand(file: SuiteFile, overrides: Mapping[str, list[Any]], *, name: str, where: str) -> Suite:
    """Expand a suite: the product of its axes, less the skipped cells, plus the baselines."""
    execution, overrides = _split_execution(file, overrides, where)
    grid = dict(file.grid)
    for key, values in overrides.items():
        if len(values) > 1 or key in grid:
            grid[key] = values
    scalars = {key: values[0] for key, values in overrides.items() if key not in grid}
    for axis, values in grid.items():
        if not values:
            raise UserError(f"{where}: grid.{axis}: is empty, must list at least one value")
    _check_method_names(file, grid, where)
    layers = Layers(where, file, scalars)
    cells, skipped = [], []
    for axes in _product(grid):
        reason = _skip_reason(file.skip, layers.settings(axes))
        if reason:
            skipped.append((axes, reason))
        else:
            cells.append(Cell(layers.run(axes), axes))
    cells += [Cell(layers.run(axes), axes) for axes in _baseline_axes(file.baselines, grid)]
    protocol = {"name": name, "axes": sorted(grid), "set": scalars, **file.model_dump(include={"defaults", "methods"})}
    return Suite(name, file.description, tuple(cells), tuple(skipped), execution, protocol, file.gpus)


def _split_execution(
    file: SuiteFile, overrides: Mapping[str, list[Any]], where: str
) -> tuple[Execution, dict[str, list[Any]]]:
    ours = {key: values for key, values in overrides.items() if key in Execution.model_fields}
    for key, values in ours.items():
        if len(values) > 1:
            raise UserError(
                f"--set {key}: takes one value, {len(values)} given: it changes no number, so it is no axis"
            )
    settings = file.execution | {key: values[0] for key, values in ours.items()}
    try:
        execution = Execution.model_validate(settings)
    except ValidationError as error:
        key, reason = fault(error, Execution)
        place = f"--set {key}" if key in ours else f"{where}: execution.{key}"
        raise UserError(f"{place}: {reason}") from error
    return execution, {key: values for key, values in overrides.items() if key not in ours}


def _product(grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _baseline_axes(baselines: Sequence[str], grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    # A baseline has no loss: of the axes only those that change its data, network, draws or seed concern it.
    data = {axis: values for axis, values in grid.items() if axis.startswith("data.")}
    network = {axis: values for axis, values in grid.items() if axis == "seed" or axis.startswith("backbone.")}
    draws = {axis: values for axis, values in grid.items() if axis == "seed"}
    own = {"untrained": network, **dict.fromkeys(KERNEL_BASELINES, draws)}
    for baseline in baselines:
        yield from _product({"method": [baseline], **data, **own.get(baseline, {})})


def _skip_reason(skips: Sequence[Skip], settings: Settings) -> str | None:
    for skip in skips:
        if all(lookup(settings, key) in _as_list(value) for key, value in skip.when.items()):
            return skip.reason
    return None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_method_names(file: SuiteFile, grid: Mapping[str, list[Any]], where: str) -> None:
    from methods import registry

    known = [*registry.names(), *BASELINES, *KERNEL_METHODS]
    for key in (*file.methods, *grid.get("method", ()), *file.baselines):
        if key not in known:
            raise UserError(f"{where}: method {key!r} is not known; there are {', '.join(known)}")


@dataclass(frozen=True)
class Layers:
    """Where a Run's settings come from, in order: defaults, the method's, the cell's, ``--set``."""

    where: str
    file: SuiteFile
    scalars: Settings

    def of(self, axes: Settings) -> dict[str, Settings]:
        """The layers of one cell, each under the name a message gives it."""
        method = axes.get("method", self.scalars.get("method", self.file.defaults.get("method")))
        return {
            f"{self.where}: defaults.": nest(self.file.defaults),
            f"{self.where}: methods.{method}.": nest(self.file.methods.get(str(method), {})),
            f"{self.where}: grid.": nest(axes),
            "--set ": nest(self.scalars),
        }

    def settings(self, axes: Settings) -> Settings:
        """One cell's settings, merged."""
        merged: Settings = {}
        for layer in self.of(axes).values():
            merged = merge(merged, layer)
        return merged

    def run(self, axes: Settings) -> Run:
        """One cell's Run. Raises :class:`UserError` naming the layer, the key, and what is allowed."""
        try:
            run = Run.model_validate(self.settings(axes))
        except ValidationError as error:
            key, reason = fault(error, Run)
            raise UserError(f"{self.place(axes, key)}: {reason}") from error
        try:
            return run.resolved()
        except ValueError as error:
            key = error.key if isinstance(error, SettingError) else "loss"
            raise UserError(f"{self.place(axes, key)}: {error}") from error

    def place(self, axes: Settings, key: str) -> str:
        """The last layer that sets ``key``: the one to change."""
        for name, layer in reversed(self.of(axes).items()):
            if key and holds(layer, key):
                return f"{name}{key}"
        return f"{self.where}: {key or 'grid'}"
