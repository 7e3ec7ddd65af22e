"""Everything a cost sweep has to say, written into its folder: tables and figures."""

from __future__ import annotations

from pathlib import Path

from results import cell_plots
from results.cell import cells_in
from results.cell_tables import render
from results.record import write_atomically

_SUFFIXES = {"md": "md", "latex": "tex", "csv": "csv"}


def write(folder: Path) -> list[Path]:
    """Write ``tables/cost`` (Markdown, LaTeX, CSV in full precision) and ``plots/`` of all cells; returns the files."""
    cells = cells_in(folder)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    paths = []
    for format, suffix in _SUFFIXES.items():
        paths.append(folder / "tables" / f"cost.{suffix}")
        write_atomically(paths[-1], render(cells, format).encode())
    return [*paths, *cell_plots.write(cells, folder / "plots")]
