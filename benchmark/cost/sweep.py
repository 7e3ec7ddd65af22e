"""Carry out a cost sweep: each cell in a process of its own, recorded as soon as it is measured."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmark.cost import fits
from benchmark.cost.cell import Cell
from benchmark.cost.measure import identity, measure
from benchmark.runtime.errors import full_disk_told
from benchmark.runtime.process import Process, resolve_device
from benchmark.runtime.provenance import now, provenance
from results.cell import CELLS_FOLDER, CostCell
from results.record import Provenance, Status, write_atomically

_ROOT = Path(__file__).parents[2]


def sweep(cells: Iterable[Cell], folder: Path | None, report: Callable[[CostCell], None]) -> list[CostCell]:
    """Measure every cell that ``folder`` has no record of, one after the other; without a folder nothing is kept.

    What failed is measured again; what ran out of memory is a result.
    """
    found = []
    for cell in cells:
        record = _recorded(cell, folder)
        if record is None:
            record = measured(cell)
            _keep(record, cell, folder)
        report(record)
        found.append(record)
    return found


def _path(cell: Cell, folder: Path) -> Path:
    return folder / CELLS_FOLDER / f"{cell.id}.json"


def _recorded(cell: Cell, folder: Path | None) -> CostCell | None:
    if folder is None or not _path(cell, folder).exists():
        return None
    record = CostCell.read(_path(cell, folder))
    return None if record.status == "failed" else record


def _keep(record: CostCell, cell: Cell, folder: Path | None) -> None:
    if folder is None:
        return
    path = _path(cell, folder)
    with full_disk_told(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (record.model_dump_json(indent=1) + "\n").encode())


def measured(cell: Cell) -> CostCell:
    """Measure a cell in a process of its own, whose end is the cell's status; errors, which cost nothing, here."""
    if cell.scope == "errors":
        return measure(cell)
    started = now()
    if cell.scope == "fit":
        return CostCell(**identity(cell), **fits.costs(cell), provenance=_provenance(cell, started))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "cell.json"
        command = [sys.executable, "-m", "benchmark.cost.worker", cell.model_dump_json(), str(out)]
        ended = subprocess.run(command, cwd=_ROOT, stderr=subprocess.PIPE, text=True, check=False)
        if ended.returncode == 0:
            return CostCell.read(out)
    if ended.returncode == -signal.SIGKILL and cell.reference:
        # The textbook form takes more memory: without it, ours may be told.
        alone = measured(cell.model_copy(update={"reference": False}))
        return alone.model_copy(update={"reference_status": "out-of-memory"})
    status: Status = "out-of-memory" if ended.returncode == -signal.SIGKILL else "failed"
    return CostCell(
        **identity(cell),
        status=status,
        message=(ended.stderr.strip().splitlines() or [f"ended with code {ended.returncode}"])[-1],
        provenance=_provenance(cell, started),
    )


def _provenance(cell: Cell, started: str) -> Provenance:
    return provenance(Process(resolve_device(cell.device)), started, attempts=1, lost_seconds=0.0)
