"""A cost sweep as a chapter of the page: its tables as ``spherebench tables`` prints them, and what is drawn of it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from results.cell import CostCell, reference_name, tables
from results.formats import MIB
from results.palette import places
from results.report.tables import plain


def chapter(name: str, cells: Sequence[CostCell]) -> dict[str, Any]:
    """One sweep: what was measured on what, tables, and a point a cell and implementation that was measured."""
    made = [cell.provenance for cell in cells]
    labels = list(dict.fromkeys(_label(cell, cells) for cell in sorted(cells, key=lambda cell: cell.title)))
    points = [point | {"method": labels.index(_label(cell, cells))} for cell in cells for point in _points(cell)]
    return {
        "kind": "costs",
        "name": name,
        "about": {
            "cells": len(cells),
            "scopes": list(dict.fromkeys(cell.scope for cell in cells)),
            "statuses": Counter(cell.status for cell in cells),
            "devices": list(dict.fromkeys(f"{own.device}, threads={own.threads}" for own in made)),
            "commits": list(dict.fromkeys((own.commit or "unknown")[:9] for own in made)),
        },
        "methods": [{"label": label, "reference": False, "place": place} for label, place in places(labels).items()],
        "tables": [plain(table) for table in tables(cells)],
        "points": points,
    }


def _label(cell: CostCell, cells: Sequence[CostCell]) -> str:
    """The method, and its form where one shape was measured in several."""
    forms = {other.form for other in cells if other.shape == cell.shape}
    return f"{cell.title}, {cell.form}" if len(forms) > 1 else cell.title


def _points(cell: CostCell) -> list[dict[str, Any]]:
    measured = {"spherebench": cell.measured, **cell.peers}
    if cell.reference is not None:
        measured |= {reference_name(cell): cell.reference}
    place = {"D": cell.embedding_dim, "N": cell.batch_size, "precision": cell.precision, "scope": cell.scope}
    return [
        {**place, "by": by, "ms": 1e3 * own.seconds.median, "mib": max(own.peak_bytes, 1) / MIB}
        for by, own in measured.items()
        if own is not None
    ]
