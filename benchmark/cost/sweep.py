"""A cost sweep: its cells, each measured in a process of its own, and recorded as soon as it is."""

import hashlib
import importlib.metadata
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from benchmark.cost import epochs, fits, losses, ridge_path, steps
from benchmark.cost.runner import alone
from benchmark.networks.trained import Form, Trained
from benchmark.runtime.calibration import constants_of
from benchmark.runtime.devices import resolve_device
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.memory import is_out_of_memory
from benchmark.runtime.numerics import AUTOCAST, check_precision, computing_in
from benchmark.runtime.process import Process
from benchmark.runtime.provenance import now, provenance
from benchmark.runtime.spec import Precision, SettingError, Spec
from benchmark.suite.config import validated
from benchmark.suite.expand import Suite, load_suite, parse_overrides
from benchmark.views import RECIPES
from methods import registry
from methods.engine.forms import calibrated
from results.cell import CELLS_FOLDER, CostCell, Measurement, Scope

Found = dict[str, Any]  # fields of a CostCell
Subject = losses.LossCall | steps.TimedStep
OF_LOSSES, OF_SUITES, _OPTION = ("loss", "errors"), ("step", "epoch"), "loss."
# Scopes of no loss: their methods, with their titles.
OTHERS: dict[str, Mapping[str, Any]] = {"fit": fits.TITLES, "probe": ridge_path.TITLES, "views": RECIPES}
# Of the large square matrix product whose rate a device's other work is held against.
_PRODUCT_SIDES = {"cpu": 2048, "cuda": 8192}


class Cell(Spec):
    """What is measured in one process: a loss and its gradient, its errors, a step, an epoch, fits, or views.

    Of a fit ``batch_size`` is the number of rows and ``embedding_dim`` that of components, of a probe of features; of
    views ``method`` is their recipe and ``embedding_dim`` their side in pixels.
    """

    scope: Scope = "loss"
    method: str
    form: Form = "auto"
    embedding_dim: int = Field(ge=2)
    batch_size: int = Field(ge=2)
    precision: Precision = "fp32"
    device: str = "auto"
    suite: str = Field(
        "cifar10", description="of a step or epoch: where network, optimiser and size of images come from"
    )
    settings: tuple[str, ...] = Field(
        (), description="what is overridden, KEY=VALUE: of a step or epoch in the suite, else loss.*"
    )
    reference: bool = Field(False, description="measure the textbook form, and installed peers, too")
    data: str | None = Field(None, description="of views: a folder of photographs")

    @property
    def given(self) -> dict[str, Any]:
        """What is set of a loss; of a step its suite knows."""
        settings = parse_overrides(self.settings if self.scope in OF_LOSSES else ())
        return {key.removeprefix(_OPTION): values[0] for key, values in settings.items()}

    @property
    def options(self) -> dict[str, Any]:
        """The loss's options at this dimension: the method's defaults, but for what is set."""
        return registry.get(self.method).resolve(self.given, self.embedding_dim)

    @property
    def compared(self) -> bool:
        """Whether a textbook form is measured beside: `mmd`, which takes any kernel, has none."""
        return self.reference and registry.get(self.method).textbook is not None

    @property
    def id(self) -> str:
        """The name of its record: readable first, then enough of a digest of everything that was asked for."""
        digest = hashlib.sha256(self.model_dump_json(exclude_none=True).encode()).hexdigest()[:8]
        shape = f"d{self.embedding_dim}-n{self.batch_size}"
        return f"{self.scope}-{self.method}-{self.form}-{shape}-{self.precision}-{digest}"

    def loaded(self) -> Suite:
        """Of a step or an epoch: the suite with these settings."""
        own = {name: getattr(self, name) for name in ("method", "form", "embedding_dim", "batch_size", "precision")}
        return load_suite(self.suite, [*self.settings, "seed=0", *(f"{key}={value}" for key, value in own.items())])

    def network(self) -> Trained:
        """Of a step or an epoch: the network that is measured. Raises :class:`UserError` where the suite has none."""
        for cell in self.loaded().cells:
            if isinstance(cell.run.network, Trained) and cell.run.network.method == self.method:
                return cell.run.network
        raise UserError(f"--suite {self.suite}: leaves out {self.method} with these settings")


def cells(axes: dict[str, Sequence[Any]], common: dict[str, Any]) -> tuple[list[Cell], list[str]]:
    """The product of ``axes``, all checked before the first is measured; and the forms that are skipped, with reasons.

    Raises :class:`UserError` for a value that is not allowed, and where nothing is left to measure.
    """
    chosen, skipped = [], []
    if common.get("scope", "loss") in OF_LOSSES:  # where a list is an axis, as in a suite
        overrides = parse_overrides(common.get("settings", ()))
        settings = itertools.product(*([f"{key}={value}" for value in values] for key, values in overrides.items()))
        axes = {"settings": [*settings], **axes}
    for values in itertools.product(*axes.values()):
        cell = _valid(common | dict(zip(axes, values, strict=True)))
        if cell.scope not in OTHERS and (reason := _no_such_loss(cell)):
            skipped.append(f"{cell.method}: {reason}")
        else:
            chosen.append(cell)
    if not chosen:
        raise UserError(f"nothing is left to measure: {skipped[0]}")
    return chosen, list(dict.fromkeys(skipped))


def _valid(asked: dict[str, Any]) -> Cell:
    try:
        cell = validated(Cell, asked)
    except SettingError as error:
        raise UserError(f"--{error.key.replace('_', '-')}: {error}") from error
    known = tuple(OTHERS.get(cell.scope, registry.names()))
    if cell.method not in known:
        raise UserError(f"--method: is {cell.method!r}, which --scope {cell.scope} has not; it has {', '.join(known)}")
    if cell.scope in OTHERS and (cell.precision, cell.form) != ("fp32", "auto"):
        raise UserError(f"--precision and --form are for losses: a {cell.scope} has one of each; leave them out")
    check_precision(cell.precision, resolve_device(cell.device), "--precision")
    if cell.data and cell.scope != "views":
        raise UserError(f"--data: photographs are for --scope views, not {cell.scope}")
    if cell.scope == "views" and not Path(cell.data or "").is_dir():
        raise UserError(
            f"--data {cell.data}: there is no such folder; photographs of any size do, such as Imagenette's"
        )
    if cell.scope == "step":
        cell.network()
    elif cell.scope == "epoch":
        epochs.check(cell)
    for setting in () if cell.scope in OF_SUITES else cell.settings:
        if cell.scope not in OF_LOSSES:
            raise UserError(f"--set {setting}: {cell.scope} has no settings; --scope step, epoch, loss and errors have")
        if not setting.startswith(_OPTION):
            raise UserError(f"--set {setting}: of a {cell.scope} the loss is set, as in --set loss.slices=256,1024")
    if cell.scope in OF_LOSSES:
        try:
            registry.get(cell.method).check(cell.given)
        except ValueError as error:
            raise UserError(f"--set: {error}") from error
    return cell


def _no_such_loss(cell: Cell) -> str | None:
    """Why there is no loss to measure in this cell; None where there is one."""
    try:
        cell.options  # noqa: B018
    except ValueError as error:
        return str(error)
    return no_such_form(cell.method, cell.form, cell.given)


def no_such_form(method: str, form: str, options: Mapping[str, Any] | None = None) -> str | None:
    """Why a method cannot be computed in this form; None where it can."""
    try:  # zonal_kl has no default below D = 32; otherwise this shape is as good as any
        registry.get(method)([torch.eye(4, 32)] * 2, form=form, **(options or {}))
    except ValueError as error:
        return str(error)
    return None


def sweep(cells: Iterable[Cell], folder: Path | None, report: Callable[[CostCell], None]) -> list[CostCell]:
    """Measure every cell that ``folder`` has no record of, one after the other; without a folder nothing is kept.

    What failed is measured again; what ran out of memory is a result.
    """
    found = []
    for cell in cells:
        path = folder / CELLS_FOLDER / f"{cell.id}.json" if folder else None
        record = CostCell.read(path) if path and path.exists() else None
        if record is None or record.status == "failed":
            record = measured(cell)
            if folder and path:
                with full_disk_told(folder):
                    record.write(path)
        report(record)
        found.append(record)
    return found


def measured(cell: Cell) -> CostCell:
    """Measure a cell in a process of its own, whose end is the cell's status; errors, which cost nothing, here."""
    if cell.scope == "errors":
        return measure(cell)
    started = now()
    if cell.scope == "probe":
        return _record(cell, _ridge_path(cell), started)
    if cell.scope == "fit":
        # Of N rows to D components; where asked for, scikit-learn's fit beside ours, in a process of its own, too.
        shape = {"n": cell.batch_size, "n_components": cell.embedding_dim}
        ours = alone(fits.fit, method=cell.method, **shape)
        found: Found = {"status": ours.status, "message": ours.message, "memory_counter": "numpy arrays"}
        found["measured"] = ours.result or None
        if cell.method.endswith("float32") and ours.status == "done":
            found |= alone(fits.float32_error, method=cell.method, **shape).result
        if cell.reference:
            theirs = alone(fits.fit, method=fits.REFERENCES[cell.method], **shape)
            found |= {"reference": theirs.result or None, "reference_status": theirs.status}
        return _record(cell, found, started)
    ended = alone(in_json, cell=cell.model_dump_json())
    if ended.status == "done":
        return CostCell.model_validate(ended.result)
    if ended.status == "out-of-memory" and cell.reference:
        # The textbook form takes more memory: without it, ours may be told.
        without = measured(cell.model_copy(update={"reference": False}))
        return without.model_copy(update={"reference_status": "out-of-memory"})
    return _record(cell, {"status": ended.status, "message": ended.message}, started)


def _ridge_path(cell: Cell) -> Found:
    """Ours; and where asked for scikit-learn's to the same objectives, in a process of its own, too."""
    shape = {"n": cell.batch_size, "features": cell.embedding_dim}
    ours = alone(ridge_path.fit, method=cell.method, **shape)
    found: Found = {"status": ours.status, "message": ours.message, "memory_counter": "resident pages"}
    found |= {"measured": ours.result.get("measured")}
    if cell.reference and ours.status == "done":
        budget = ridge_path.PATIENCE * ours.result["measured"]["seconds"]["median"]
        asked: dict[str, Any] = {**shape, "targets": ours.result["objectives"], "budget": budget}
        theirs = alone(ridge_path.fit, method=ridge_path.REFERENCES[cell.method], **asked)
        objectives = theirs.result.get("objectives", [])
        found |= {"reference": theirs.result.get("measured"), "reference_status": theirs.status}
        found |= {"ridges": len(ours.result["objectives"]), "reference_ridges": len(objectives)}
        pairs = zip(objectives, ours.result["objectives"], strict=False)
        found["objective_ratio"] = max((other / own for other, own in pairs), default=None)
    return found


def in_json(cell: str) -> Found:
    """:func:`measure`, from and to JSON."""
    return measure(Cell.model_validate_json(cell)).model_dump(mode="json")


def measure(cell: Cell) -> CostCell:
    """Measure one cell in this process. An implementation that runs out of memory is marked so, and ends no other."""
    started, device = now(), resolve_device(cell.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if cell.scope == "views":
        from benchmark.cost import views  # torchvision takes seconds

        return _record(cell, views.measure(cell, device), started)
    with computing_in(cell.precision), calibrated(constants_of(device)):
        measures = {"errors": losses.errors, "epoch": epochs.measure}
        found = measures.get(cell.scope, _costs)(cell, device)
        return _record(cell, found, started)


def _record(cell: Cell, found: Found, started: str) -> CostCell:
    asked = cell.model_dump(include={"scope", "method", "embedding_dim", "batch_size", "precision"})
    if cell.scope in OTHERS:
        asked["title"] = cell.method if cell.scope == "views" else OTHERS[cell.scope][cell.method]
        if cell.scope == "fit":
            asked["precision"] = "fp32" if cell.method.endswith("float32") else "fp64"
    else:
        asked["title"] = registry.get(cell.method).title
        if cell.scope in OF_LOSSES and cell.settings:
            asked["settings"] = [setting.removeprefix(_OPTION) for setting in cell.settings]
            asked["title"] = ", ".join((asked["title"], *asked["settings"]))
    if cell.scope == "step":
        asked["network"] = steps.described(cell.network())
    place = provenance(Process(resolve_device(cell.device)), started, attempts=1, lost_seconds=0.0)
    peers = [*found.get("peers", ()), *([losses.PEER] if cell.scope == "epoch" and cell.reference else [])]
    versions = {name: importlib.metadata.version(name) for name in peers}
    place = place.model_copy(update={"versions": place.versions | versions})
    return CostCell(**{"status": "done", **asked, **found, "provenance": place})


def _costs(cell: Cell, device: torch.device) -> Found:
    """Memory and flop of each implementation alone, then the time of all in turns."""
    subjects_of = steps.subjects if cell.scope == "step" else losses.subjects
    factories: dict[str, Callable[[], Subject]] = dict(subjects_of(cell, device))
    counts = {name: _counted(make, device) for name, make in factories.items()}
    subjects = {name: factories[name]() for name, count in counts.items() if count}
    side = _PRODUCT_SIDES[device.type]
    factor = torch.randn(side, side).to(device, AUTOCAST[cell.precision])
    product = partial(torch.mm, factor, factor, out=torch.empty_like(factor))
    # Each comes after a product, as in training after a network: none finds what another left in the caches.
    turns = [product, *(call for subject in subjects.values() for call in (subject, product))]
    of_product, *taken = losses.in_turns(turns, device)
    measured = {}
    for (name, subject), seconds in zip(subjects.items(), taken[::2], strict=True):
        phases = subject.parts(seconds.n) if isinstance(subject, steps.TimedStep) else {}
        measured[name] = Measurement(seconds=seconds, **counts[name], phases=phases)
    ours = subjects.get("ours")
    reference_status = "done" if "reference" in subjects else "out-of-memory"
    return {
        "form": ours.form if ours else None,
        "status": "done" if ours else "out-of-memory",
        "input_bytes": sum(tensor.untyped_storage().nbytes() for tensor in ours.inputs) if ours else None,
        "measured": measured.pop("ours", None),
        "reference": measured.pop("reference", None),
        "reference_status": reference_status if cell.compared else None,
        "peers": measured,  # what is left
        "memory_counter": "cuda allocator" if device.type == "cuda" else "tensor storages",
        "product_rate": 2 * side**3 / of_product.median,
        "clock": losses.clock_of(device),
    }


def _counted(make: Callable[[], Subject], device: torch.device) -> Found:
    """Peak bytes and flop of a call that is not the first; empty where the memory does not suffice.

    Of a step everything counts, of a loss what it takes beyond its inputs.
    """
    try:
        subject = make()
        if isinstance(subject, losses.LossCall):
            memory, flop = losses.count(subject, *subject.inputs, device=device)
            return {"peak_bytes": memory.peak_bytes, "flop": flop}
        subject()  # makes the optimiser's state
        step = subject.step
        memory, flop = losses.count(subject, step.encoder, step.optimizer, *subject.inputs, device=device)
        return {"peak_bytes": memory.baseline_bytes + memory.peak_bytes, "flop": flop}
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return {}
        raise
