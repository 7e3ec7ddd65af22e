"""A suite file, expanded into Runs.

A suite is a YAML file: ``defaults`` (settings of every Run), ``methods`` (settings of the Runs of one method, or of a
row of another name, which say what ``method`` it is of), ``grid`` (axes; their product is the Runs), ``baselines``
(rows to compare with that train nothing), ``weights`` (files to measure beside), ``skip`` (cells left out, each with a
reason), ``tune`` (candidates for ``spherebench tune``) and ``execution`` (what changes no number). Later layers win:
defaults, the method's settings, the cell, ``--set``. One with ``measure`` in place of ``grid`` makes no network
(:mod:`benchmark.suite.measure`).
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial, reduce
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import AfterValidator, Field

from benchmark.data import DataSpec
from benchmark.data.datasets import split_sources
from benchmark.networks.base import Network
from benchmark.networks.kinds import Weights, kind_of, method_names
from benchmark.networks.layouts import Branch
from benchmark.runtime.errors import UserError
from benchmark.runtime.paths import typed
from benchmark.runtime.spec import Execution, SettingError, Spec, digest_of
from benchmark.suite.config import (
    Settings,
    given_in,
    holds,
    lookup,
    merge,
    nest,
    parse_typed,
    parse_yaml,
    read_yaml,
    repeated,
    validated,
)
from benchmark.suite.run import Run, check_keys, check_not_filled_in, compose, evaluation_schema, of_weights
from results.record import request_of

SUITES = Path(__file__).parents[1] / "suites"


class Skip(Spec):
    """A cell of the grid that makes no sense: the axes' values it concerns, and why."""

    when: dict[str, Any]
    reason: str = Field(min_length=1)


def _is_a_request(metric: str) -> str:
    request_of(metric)  # raises where it is of no such form
    return metric


# A metric's name, and in brackets keys of its protocol that tell it from others.
Request = Annotated[str, AfterValidator(_is_a_request)]


class Tuning(Spec):
    """Candidates for one method's hyper-parameters, judged by one figure on the tune split."""

    metric: Request
    embedding_dim: int
    seeds: list[int] = [0]
    candidates: dict[str, dict[str, list[Any]]] = Field(
        min_length=1, description="method -> key -> values; their product is tried"
    )


class WeightsRow(Spec):
    """A file of weights that is measured beside the suite's own networks, where it is there."""

    file: str = Field(description="its name in DATA_ROOT/weights, or its path")
    title: str
    get: str = Field(description="where to get it, for people who have it not")
    branch: Branch = "teacher"
    normalise: Literal["data", "imagenet"] = "data"


class SuiteFile(Spec):
    """The schema of a suite file."""

    description: str = Field(min_length=1)
    defaults: Settings
    grid: dict[str, list[Any]] = {}
    measure: list[Settings] = Field([], description="settings of data and evaluation, each to measure networks in")
    headline: list[Request] = Field([], description="the figures that its table and its plot begin with")
    methods: dict[str, Settings] = {}
    baselines: list[str] = []
    weights: list[WeightsRow] = []
    skip: list[Skip] = []
    tune: Tuning | None = None
    execution: Settings = {}
    gpus: int = Field(1, ge=1, description="that a Run is meant for: what `spherebench plan` predicts")

    def method_of(self, row: str) -> str:
        """What ``method`` a row is of, by the suite's ``methods``; by itself where they do not say."""
        return str(self.methods.get(row, {}).get("method", row))


@dataclass(frozen=True)
class Cell:
    """One Run of a suite and the axes' values that made it."""

    run: Run
    axes: dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """A suite with ``--set`` applied: its Runs, the cells left out, and how to execute them."""

    name: str
    cells: tuple[Cell, ...]
    skipped: tuple[tuple[dict[str, Any], str], ...]
    execution: Execution
    protocol: Settings
    gpus: int = 1
    headline: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of what all networks have in common and of the axes' names.

        More values on an axis keep it the same, and so does all that is measured.
        """
        return digest_of(self.protocol)


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
    settings = read_yaml(path)
    with given_in(f"{path.name}: "):
        file = validated(SuiteFile, settings)
    if bool(file.grid) == bool(file.measure):
        raise UserError(f"{path.name}: grid: must be given, or measure in its place")
    return file


def parse_overrides(assignments: Sequence[str]) -> dict[str, list[Any]]:
    """Parse ``KEY=VALUE`` texts. Commas outside brackets separate values: ``embedding_dim=512,2048`` is two."""
    overrides: dict[str, list[Any]] = {}
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not key:
            raise UserError(f"--set {assignment!r}: must read KEY=VALUE, such as epochs=10 or embedding_dim=512,2048")
        if not text:
            raise UserError(f"--set {assignment!r}: has no value after the equals sign")
        overrides[key] = _values(key, text)
    return overrides


def _values(key: str, text: str) -> list[Any]:
    """Paths as they are typed. Brackets around an axis are left out, and put around a setting that is a list."""
    where, quoted = f"--set {key}", text.startswith(("'", '"'))
    if key in Execution.model_fields and Execution.model_fields[key].annotation is str:
        return [parse_typed(text, str, where)]
    if key == "data.source" and not quoted:
        return split_sources(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    values: list[Any] = parse_yaml(f"[{text}]", where)
    section, _, option = key.partition(".")
    field = evaluation_schema().model_fields.get(option) if section == "evaluation" else Execution.model_fields.get(key)
    if field is not None and get_origin(field.annotation) is tuple:
        return values if any(isinstance(value, list) for value in values) else [values]
    if section != "loss" and len(values) == 1 and isinstance(values[0], list) and values[0]:
        return values[0]
    return values


def load_suite(name_or_path: str, assignments: Sequence[str] = ()) -> Suite:
    """Read a suite by name or path, apply ``--set`` assignments, and expand it into Runs."""
    path = suite_path(name_or_path)
    return expand(read_suite(path), parse_overrides(assignments), name=path.stem, where=path.name)


def expand(file: SuiteFile, overrides: Mapping[str, list[Any]], *, name: str, where: str) -> Suite:
    """Expand a suite: the product of its axes, less the skipped cells, plus the baselines."""
    if file.measure:
        raise UserError(f"{where}: makes no network, it measures those there are: evaluate RUNS --suite {name}")
    execution, overrides = execution_of(file.execution, overrides, where)
    grid = file.grid | {key: values for key, values in overrides.items() if len(values) > 1 or key in file.grid}
    scalars = {key: values[0] for key, values in overrides.items() if key not in grid}
    _check_names(file, grid, overrides.keys(), where)
    layers_of = partial(_layers, file, scalars, overrides.keys(), where)
    contents: dict[str, str | None] = {}  # of data of one's own, which count by what they hold wherever they lie

    @cache  # once a data set: a folder's digest takes a look at all its files
    def identify(spec: DataSpec) -> DataSpec:
        found = spec.identified()
        if ":" in spec.source:
            contents[spec.source] = found.content
        return found

    cells: list[Cell] = []
    skipped: list[tuple[dict[str, Any], str]] = []
    unmeasured: list[str] = []
    asked = [(axes, file.skip) for axes in product(grid)]
    asked += [(axes, []) for axes in _baseline_axes(file, grid)]
    for axes, skips in asked:
        with placed(layers_of(axes), where) as settings:
            if reason := _skip_reason(skips, settings | {key: axes[key] for key in ("method",) if key in axes}):
                skipped.append((axes, reason))
                continue
            run = compose(settings, identify)
        if run.measurements:
            cells.append(Cell(run, axes))
        else:
            unmeasured.append(run.network.method)
            skipped.append((axes, f"none of evaluation.probes applies to {run.network.method}"))
    if unmeasured and not cells:
        raise UserError(f"{where}: evaluation.probes: none applies to {', '.join(dict.fromkeys(unmeasured))}")
    for row in file.weights:  # measured as the suite's own networks are, on the suite's data
        path = execution.weights_root / typed(row.file, f"{where}: weights")
        if not path.exists():
            skipped.append(({"weights": row.file}, f"is not in {execution.weights_root}; get it from {row.get}"))
            continue
        weights = Weights(name=row.title, path=str(path), branch=row.branch, normalise=row.normalise).resolved()
        for axes in product(_axes_of(Weights, grid)):
            with placed(layers_of(axes), where) as settings:
                check_not_filled_in(settings)
                data = identify(validated(DataSpec, settings.get("data", {}), "data"))
                cells.append(Cell(of_weights(weights, settings.get("evaluation", {}), data), {"method": "weights"}))
    protocol = {
        "name": name,
        "axes": sorted(_of_networks(grid, {})),
        "set": _of_networks(scalars, contents),
        "defaults": _of_networks(file.defaults, contents),
        "methods": {method: _of_networks(settings, contents) for method, settings in file.methods.items()},
    }
    return Suite(name, _once(cells), tuple(skipped), execution, protocol, file.gpus, tuple(file.headline))


def _check_names(file: SuiteFile, grid: Mapping[str, list[Any]], given: Collection[str], where: str) -> None:
    """Raise :class:`UserError` for an axis that is empty or says something twice, and for what is not known."""
    listed = {f"--set {axis}" if axis in given else f"{where}: grid.{axis}": values for axis, values in grid.items()}
    for place, values in {**listed, f"{where}: baselines": file.baselines}.items():
        if again := repeated(values):
            raise UserError(f"{place}: lists {again[0]!r} twice")
        if not values and place in listed:
            raise UserError(f"{place}: is empty, must list at least one value")
    named = [*file.methods, *grid.get("method", ()), *file.baselines]
    for number, skip in enumerate(file.skip):
        with given_in(f"{where}: skip.{number}.when."):
            check_keys(nest(dict.fromkeys(skip.when)))
        named += _listed(skip.when.get("method", []))
    for method in map(file.method_of, named):
        if method not in method_names():
            raise UserError(f"{where}: method {method!r} is not known; there are {', '.join(method_names())}")


def _of_networks(settings: Mapping[str, Any], contents: Mapping[str, str | None]) -> Settings:
    """Without what concerns measurements only, and data of one's own by their ``contents``."""

    def known(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: known(inner) for key, inner in value.items()}
        return contents.get(value, value) if isinstance(value, str) else value

    return {key: known(value) for key, value in settings.items() if key.partition(".")[0] != "evaluation"}


def _once(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """One cell a network: those that differ in what is measured only are one network with all of it."""
    joined: dict[str, Cell] = {}
    for cell in cells:
        before = joined.get(cell.run.id)
        if before is not None:
            listed = {measurement.id: measurement for measurement in (*before.run.measurements, *cell.run.measurements)}
            cell = Cell(Run(cell.run.network, tuple(listed.values())), before.axes)
        joined[cell.run.id] = cell
    return tuple(joined.values())


def execution_of(
    settings: Settings, overrides: Mapping[str, list[Any]], where: str
) -> tuple[Execution, dict[str, list[Any]]]:
    """How to carry out, by a suite's ``execution`` and ``--set``; and the overrides that are of something else."""
    ours = {key: values for key, values in overrides.items() if key in Execution.model_fields}
    for key, values in ours.items():
        if len(values) > 1:
            raise UserError(
                f"--set {key}: takes one value, {len(values)} given: it changes no number, so it is no axis"
            )
    try:
        execution = validated(Execution, settings | {key: values[0] for key, values in ours.items()})
    except SettingError as error:
        place = f"--set {error.key}" if error.key in ours else f"{where}: execution.{error.key}"
        raise UserError(f"{place}: {error}") from error
    execution = execution.model_copy(update={"data_root": typed(execution.data_root, "data_root")})
    return execution, {key: values for key, values in overrides.items() if key not in ours}


def product(grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Every choice of one value an axis."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _baseline_axes(file: SuiteFile, grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for baseline in file.baselines:
        yield from product({"method": [baseline], **_axes_of(kind_of(file.method_of(baseline)), grid)})


def _axes_of(kind: type[Network], grid: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The axes that concern what has no loss: of its data, its backbone, its draws, and of what is measured on it."""
    sections = {"data", "evaluation"} | ({"seed", "backbone"} & set(kind.model_fields))
    return {axis: values for axis, values in grid.items() if axis.partition(".")[0] in sections}


def _skip_reason(skips: Sequence[Skip], settings: Settings) -> str | None:
    for skip in skips:
        if all(lookup(settings, key) in _listed(wanted) for key, wanted in skip.when.items()):
            return skip.reason
    return None


def _listed(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _layers(
    file: SuiteFile, scalars: Settings, given: Collection[str], where: str, axes: Settings
) -> dict[str, Settings]:
    """Where one cell's settings come from, each layer under the name a message gives it; later ones win.

    Of the axes those that are ``given`` were typed, and are no fault of the file.
    """
    row = str(axes.get("method", scalars.get("method", file.defaults.get("method"))))
    if file.method_of(row) != row:  # its settings say what it is
        axes, scalars = ({key: value for key, value in own.items() if key != "method"} for own in (axes, scalars))
    return {
        f"{where}: defaults.": nest(file.defaults),
        f"{where}: methods.{row}.": nest(file.methods.get(row, {})),
        f"{where}: grid.": nest({axis: value for axis, value in axes.items() if axis not in given}),
        "--set ": nest({axis: value for axis, value in axes.items() if axis in given} | scalars),
    }


@contextmanager
def placed(layers: dict[str, Settings], where: str) -> Iterator[Settings]:
    """What the layers say together; of a setting at fault, tell the last layer that sets it: the one to change."""
    try:
        yield reduce(merge, layers.values())
    except SettingError as error:
        for name, layer in reversed(layers.items()):
            if error.key and holds(layer, error.key):
                raise UserError(f"{name}{error.key}: {error}") from error
        raise UserError(f"{where}: {error.key or 'grid'}: {error}") from error
