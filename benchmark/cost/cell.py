"""Which cells a cost sweep has."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field

from benchmark.cost.fits import REFERENCES
from benchmark.networks.trained import Form, Precision, Trained
from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import SettingError, Spec
from benchmark.suite.config import validated
from benchmark.suite.expand import load_suite
from methods import registry
from results.cell import Scope


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
        return self.reference and registry.get(self.method).textbook is not None

    @property
    def id(self) -> str:
        """The name of its record: readable first, then enough of a digest of everything that was asked for."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]
        shape = f"d{self.embedding_dim}-n{self.batch_size}"
        return f"{self.scope}-{self.method}-{self.form}-{shape}-{self.precision}-{digest}"

    def network(self) -> Trained:
        """Of a step: the network whose step is measured. Raises :class:`UserError` where the suite has none."""
        own = {name: getattr(self, name) for name in ("method", "form", "embedding_dim", "batch_size", "precision")}
        suite = load_suite(self.suite, [*self.settings, "seed=0", *(f"{key}={value}" for key, value in own.items())])
        for cell in suite.cells:
            if isinstance(cell.run.network, Trained) and cell.run.network.method == self.method:
                return cell.run.network
        raise UserError(f"--suite {self.suite}: leaves out {self.method} with these settings")


def cells(axes: dict[str, Sequence[Any]], common: dict[str, Any]) -> tuple[list[Cell], list[str]]:
    """The product of ``axes``, all checked before the first is measured; and the forms that are skipped, with reasons.

    Raises :class:`UserError` for a value that is not allowed, and where nothing is left to measure.
    """
    chosen, skipped = [], []
    for values in itertools.product(*axes.values()):
        cell = _valid(common | dict(zip(axes, values, strict=True)))
        if cell.scope != "fit" and (reason := no_such_form(cell.method, cell.form)):
            skipped.append(f"{cell.method}: {reason}")
        else:
            chosen.append(cell)
    if not chosen:
        raise UserError(f"--form: nothing is left to measure: {skipped[0]}")
    return chosen, list(dict.fromkeys(skipped))


def _valid(asked: dict[str, Any]) -> Cell:
    try:
        cell = validated(Cell, asked)
    except SettingError as error:
        raise UserError(f"--{error.key.replace('_', '-')}: {error}") from error
    known = tuple(REFERENCES) if cell.scope == "fit" else registry.names()
    if cell.method not in known:
        raise UserError(f"--method: is {cell.method!r}, which --scope {cell.scope} has not; it has {', '.join(known)}")
    if cell.scope == "fit" and (cell.precision, cell.form) != ("fp32", "auto"):
        raise UserError("--precision and --form are for losses: a fit has float64 and one form; leave them out")
    if cell.scope == "step":
        cell.network()
    elif cell.settings:
        raise UserError(f"--set {cell.settings[0]}: settings of a suite are for --scope step, not {cell.scope}")
    return cell


def no_such_form(method: str, form: str) -> str | None:
    """Why a method cannot be computed in this form; None where it can."""
    try:
        registry.get(method)([torch.eye(4, 8)] * 2, form=form)  # this shape is as good as any
    except ValueError as error:
        return str(error)
    return None
