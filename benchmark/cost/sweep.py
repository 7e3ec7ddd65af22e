"""A cost sweep: each cell measured in a process of its own, and recorded as soon as it is."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmark.cost import fits, losses, steps, timing
from benchmark.cost.cell import Cell
from benchmark.cost.runner import alone
from benchmark.networks.step import AUTOCAST
from benchmark.runtime.errors import full_disk_told
from benchmark.runtime.memory import is_out_of_memory
from benchmark.runtime.process import Process, resolve_device
from benchmark.runtime.provenance import now, provenance
from methods import registry
from results.cell import CELLS_FOLDER, CostCell, Measurement
from results.record import write_atomically

Found = dict[str, Any]  # fields of a CostCell


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
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(path, (record.model_dump_json(indent=1) + "\n").encode())
        report(record)
        found.append(record)
    return found


def measured(cell: Cell) -> CostCell:
    """Measure a cell in a process of its own, whose end is the cell's status; errors, which cost nothing, here."""
    if cell.scope == "errors":
        return measure(cell)
    started = now()
    if cell.scope == "fit":
        return _record(cell, fits.costs(cell), started)
    ended = alone(in_json, cell=cell.model_dump_json())
    if ended.status == "done":
        return CostCell.model_validate(ended.result)
    if ended.status == "out-of-memory" and cell.reference:
        # The textbook form takes more memory: without it, ours may be told.
        without = measured(cell.model_copy(update={"reference": False}))
        return without.model_copy(update={"reference_status": "out-of-memory"})
    return _record(cell, {"status": ended.status, "message": ended.message}, started)


def in_json(cell: str) -> Found:
    """:func:`measure`, from and to JSON."""
    return measure(Cell.model_validate_json(cell)).model_dump(mode="json")


def measure(cell: Cell) -> CostCell:
    """Measure one cell in this process. An implementation that runs out of memory is marked so, and ends no other."""
    started, device = now(), resolve_device(cell.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return _record(cell, losses.errors(cell, device) if cell.scope == "errors" else _costs(cell, device), started)


def _record(cell: Cell, found: Found, started: str) -> CostCell:
    asked = cell.model_dump(include={"scope", "method", "embedding_dim", "batch_size", "precision"})
    if cell.scope == "fit":
        asked |= {"title": fits.TITLES[cell.method], "precision": fits.PRECISION}
    else:
        asked |= {"title": registry.get(cell.method).title}
    if cell.scope == "step":
        asked |= {"network": steps.described(cell.network())}
    place = provenance(Process(resolve_device(cell.device)), started, attempts=1, lost_seconds=0.0)
    versions = {name: importlib.metadata.version(name) for name in found.get("peers", ())}
    place = place.model_copy(update={"versions": place.versions | versions})
    return CostCell(**asked | {"status": "done"} | found | {"provenance": place})


def _costs(cell: Cell, device: torch.device) -> Found:
    """Memory and flop of each implementation alone, then the time of all in turns."""
    whole = cell.scope == "step"
    factories: dict[str, Callable[[], timing.Subject]] = dict((steps if whole else losses).subjects(cell, device))
    counts = {name: _counted(make, whole, device) for name, make in factories.items()}
    subjects = {name: factories[name]() for name, count in counts.items() if count}
    product, flop_of_product = timing.square_product(AUTOCAST[cell.precision], device)
    *taken, of_product = timing.in_turns([*subjects.values(), product], device)
    measured = {
        name: Measurement(seconds=timing.of(seconds), **counts[name], phases=subject.parts(len(seconds)))
        for (name, subject), seconds in zip(subjects.items(), taken, strict=True)
    }
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
        "product_rate": flop_of_product / timing.of(of_product).median,
    }


def _counted(make: Callable[[], timing.Subject], whole: bool, device: torch.device) -> Found:
    """Peak bytes and flop of a call that is not the first; empty where the memory does not suffice.

    Of a ``whole`` step everything counts, of a loss what it takes beyond its inputs.
    """
    try:
        subject = make()
        if whole:
            subject()  # makes the optimiser's state
        memory, flop = timing.count(subject, device)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return {}
        raise
    return {"peak_bytes": memory.peak_bytes + (memory.baseline_bytes if whole else 0), "flop": flop}
