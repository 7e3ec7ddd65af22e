"""Between a suite's cells and a manifest's entries."""

from __future__ import annotations

import json
from typing import Any

from benchmark.runtime.errors import UserError
from benchmark.suite.expand import Cell, Suite
from benchmark.suite.run import Execution, Run
from benchmark.suite.titles import title
from slurm.manifest import Entry, Submission


def entry_of(cell: Cell) -> Entry:
    """A cell as a manifest holds it."""
    run: dict[str, Any] = cell.run.model_dump(mode="json")
    return Entry(id=cell.run.id, title=title(cell.run.method), run=run, axes=cell.axes)


def suite_of(submission: Submission) -> Suite:
    """The suite of a manifest. Raises :class:`UserError` where this code would give its runs other ids."""
    cells = tuple(Cell(Run.model_validate_json(json.dumps(entry.run)), entry.axes) for entry in submission.entries)
    for cell, entry in zip(cells, submission.entries, strict=True):
        if cell.run.id != entry.id:
            raise UserError(f"{submission.path}: run {entry.id} was submitted by code with another protocol")
    return Suite(
        name=submission.suite,
        description="",
        cells=cells,
        skipped=submission.skipped,
        execution=Execution.model_validate(submission.execution),
        protocol=submission.protocol,
    )
