"""Which cells a cost sweep has."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field, ValidationError

from benchmark.cost.textbook import TEXTBOOKS
from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import Spec
from benchmark.suite.config import fault
from benchmark.suite.expand import load_suite
from benchmark.suite.run import Form, Precision, Run
from methods import registry
from results.cell import Scope

FITS = ("exact", "streaming")


class Cell(Spec):
    """What is measured in one process: a loss and its gradient, the errors of both, a training step or a fit.

    Of a fit ``batch_size`` is the number of rows and ``embedding_dim`` that of components.
    """

    scope: Scope = "loss"
    method: str
    form: Form = "auto"
    embedding_dim: int = Field(ge=2)
    batch_size: int = Field(ge=2)
    precision: Precision = "fp32"
    device: str = "auto"
    suite: str = Field("cifar10", description="of a step: where network, optimiser and size of images come from")
    settings: tuple[str, ...] = Field((), description="of a step: what is overridden in the suite, KEY=VALUE")
    reference: bool = Field(False, description="measure the textbook form, and installed peers, too")

    @property
    def options(self) -> dict[str, Any]:
        """The loss's options: the method's defaults at this dimension."""
        return registry.get(self.method).resolve({}, self.embedding_dim)

    @property
    def compared(self) -> bool:
        """Whether a textbook form is measured beside: `mmd`, which takes any kernel, has none."""
        return self.reference and self.method in TEXTBOOKS

    @property
    def id(self) -> str:
        """The name of its record: readable first, then enough of a digest of everything that was asked for."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]
        shape = f"d{self.embedding_dim}-n{self.batch_size}"
        return f"{self.scope}-{self.method}-{self.form}-{shape}-{self.precision}-{digest}"

    def run(self) -> Run:
        """Of a step: the Run whose step is measured. Raises :class:`UserError` where the suite does not give one."""
        own = {name: getattr(self, name) for name in ("method", "form", "embedding_dim", "batch_size", "precision")}
        suite = load_suite(self.suite, [*self.settings, "seed=0", *(f"{key}={value}" for key, value in own.items())])
        return next(cell.run for cell in suite.cells if cell.run.method == self.method)


@dataclass(frozen=True)
class Cells:
    """What is to be measured, and what is left out, each with its reason."""

    measured: tuple[Cell, ...]
    skipped: tuple[str, ...]


def cells(axes: dict[str, Sequence[Any]], common: dict[str, Any]) -> Cells:
    """The product of ``axes``, all checked before the first is measured; a form that a method has not is skipped.

    Raises :class:`UserError` for a value that is not allowed, and where nothing is left to measure.
    """
    measured, skipped = [], []
    for values in itertools.product(*axes.values()):
        cell = _valid(common | dict(zip(axes, values, strict=True)))
        reason = None if cell.scope == "fit" else no_such_form(cell.method, cell.form)
        if reason is None:
            measured.append(cell)
        else:
            skipped.append(f"{cell.method}: {reason}")
    if not measured:
        raise UserError(f"--form: nothing is left to measure: {skipped[0]}")
    return Cells(tuple(measured), tuple(dict.fromkeys(skipped)))


def _valid(asked: dict[str, Any]) -> Cell:
    try:
        cell = Cell.model_validate(asked)
    except ValidationError as error:
        key, reason = fault(error, Cell)
        raise UserError(f"--{key.replace('_', '-')}: {reason}") from error
    known = FITS if cell.scope == "fit" else registry.names()
    if cell.method not in known:
        raise UserError(f"--method: is {cell.method!r}, which --scope {cell.scope} has not; it has {', '.join(known)}")
    if cell.scope == "fit" and (cell.precision, cell.form) != ("fp32", "auto"):
        raise UserError("--precision and --form are for losses: a fit has float64 and one form; leave them out")
    if cell.scope == "step":
        cell.run()
    elif cell.settings:
        raise UserError(f"--set {cell.settings[0]}: settings of a suite are for --scope step, not {cell.scope}")
    return cell


def no_such_form(method: str, form: str) -> str | None:
    """Why a method cannot be computed in this form; None where it can."""
    dim = 8  # as good as any
    try:
        registry.get(method)([torch.eye(4, dim)] * 2, form=form)
    except ValueError as error:
        return str(error)
    return None
