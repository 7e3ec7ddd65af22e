"""One cost cell, measured in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmark.cost import fits, losses, peers, steps, timing
from benchmark.cost.cell import Cell
from benchmark.networks.step import AUTOCAST
from benchmark.runtime.memory import Holder, is_out_of_memory
from benchmark.runtime.process import Process, resolve_device
from benchmark.runtime.provenance import now, provenance
from benchmark.suite.titles import title
from results.cell import CostCell, Measurement
from results.record import Status


class Subject(Protocol):
    """One implementation: a call, and what lives before it."""

    form: str | None  # that the last call took
    inputs: tuple[Tensor, ...]
    holders: tuple[Holder, ...]  # inputs, network, optimiser: what lives before a call

    def __call__(self) -> None:
        """Value and gradient, or a step."""

    def parts(self, last: int) -> dict[str, float]:
        """Median seconds of its parts over the last calls; none where it has no parts."""


OURS, REFERENCE = "ours", "reference"
Factories = dict[str, Callable[[], Subject]]


def measure(cell: Cell) -> CostCell:
    """Measure one cell. An implementation that runs out of memory is marked so, and ends no other."""
    started, device = now(), resolve_device(cell.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    found = losses.errors(cell, device) if cell.scope == "errors" else _costs(cell, device)
    place = provenance(Process(device), started, attempts=1, lost_seconds=0.0)
    if found.get("peers"):
        place = place.model_copy(update={"versions": place.versions | peers.versions()})
    return CostCell(**{**identity(cell), "status": "done", **found, "provenance": place})


def _costs(cell: Cell, device: torch.device) -> dict[str, Any]:
    found = _Measured(cell, device)
    return {
        "form": found.form,
        "status": found.status(OURS),
        "input_bytes": found.input_bytes,
        "measured": found.measured.get(OURS),
        "reference": found.measured.get(REFERENCE),
        "reference_status": found.status(REFERENCE) if cell.compared else None,
        "peers": {name: own for name, own in found.measured.items() if name not in (OURS, REFERENCE)},
        "memory_counter": "cuda allocator" if device.type == "cuda" else "tensor storages",
        "product_rate": found.product_rate,
    }


def identity(cell: Cell) -> dict[str, Any]:
    """What a cell is, whatever becomes of it."""
    network = steps.network(cell.run()) if cell.scope == "step" else ""
    asked = {name: getattr(cell, name) for name in ("scope", "method", "embedding_dim", "batch_size", "precision")}
    if cell.scope == "fit":
        return {**asked, "title": fits.TITLES[cell.method], "precision": fits.PRECISION}
    return {**asked, "title": title(cell.method), "network": network}


class _Measured:
    """Every implementation of a cell: memory and flop of each alone, then the time of all in turns."""

    def __init__(self, cell: Cell, device: torch.device) -> None:
        self.whole, self.device = cell.scope == "step", device
        factories: Factories = dict((steps if self.whole else losses).subjects(cell, device))
        counted = {name: self._counted(make) for name, make in factories.items()}
        subjects = {name: factories[name]() for name, found in counted.items() if found is not None}
        ours = subjects.get(OURS)
        self.input_bytes = sum(tensor.untyped_storage().nbytes() for tensor in ours.inputs) if ours else None
        product = timing.SquareProduct(AUTOCAST[cell.precision], device)
        *taken, of_product = timing.in_turns([*subjects.values(), product], device)
        self.product_rate = product.rate(of_product)
        self.form = ours.form if ours else None
        self.measured = {
            name: _measurement(subject, seconds, counted[name])
            for (name, subject), seconds in zip(subjects.items(), taken, strict=True)
        }

    def status(self, name: str) -> Status:
        """Whether the memory sufficed for an implementation."""
        return "done" if name in self.measured else "out-of-memory"

    def _counted(self, make: Callable[[], Subject]) -> tuple[int, int] | None:
        """Peak bytes and flop of a call that is not the first; None where the memory does not suffice."""
        try:
            subject = make()
            if self.whole:
                subject()  # makes the optimiser's state
            memory, flop = timing.count(subject, *subject.holders, device=self.device)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                return None
            raise
        return memory.peak_bytes + (memory.baseline_bytes if self.whole else 0), flop


def _measurement(subject: Subject, seconds: Sequence[float], counted: tuple[int, int] | None) -> Measurement:
    assert counted is not None
    quartiles, (peak_bytes, flop) = timing.of(seconds), counted
    return Measurement(seconds=quartiles, peak_bytes=peak_bytes, flop=flop, phases=subject.parts(quartiles.n))
