"""Everything that a runs folder, or a cost sweep's, has to say, written into it: tables, figures and the page."""

import os
from collections.abc import Mapping
from pathlib import Path

from results import cell, cell_plots, expectations, plots
from results.collect import collect
from results.formats import format_table, join
from results.record import MEASUREMENTS_NAME, NETWORK_NAME, PACKED_NAME, write_atomically
from results.report import page
from results.summary import COSTS, summarise
from results.tables import accuracy, cost, figures, unfinished
from results.transfer import transfer

_LIST = Path("tables") / ".written"
# Formats for reading, and what their files end with.
_READ = (("md", "md"), ("latex", "tex"))


def write(folder: Path) -> list[Path]:
    """Write ``tables/``, ``plots/`` and the page into a runs folder; returns the files, with any figure that failed.

    ``accuracy``, ``transfer`` and ``cost`` as Markdown and LaTeX for reading, the first and the last as CSV in full
    precision, ``runs.csv`` with a row a network and metric, and every figure as PNG and PDF. Raises ``ValueError``
    where the folder holds no record.
    """
    (folder / _LIST).unlink(missing_ok=True)  # a kill from here on leaves what is not current
    collection = collect([folder])
    summary = summarise(collection)
    costs = summary["metric"].isin(COSTS)
    read = {
        "accuracy": accuracy(summary) + unfinished(collection),
        "transfer": transfer(summary),
        "cost": cost(summary),
    }
    read["expectations"] = expectations.table(summary)
    texts = {f"{name}.{suffix}": join(tables, format) for name, tables in read.items() for format, suffix in _READ}
    texts |= {
        "accuracy.csv": format_table(figures(collection, summary[~costs]), "csv"),
        "cost.csv": format_table(figures(collection, summary[costs]), "csv"),
        "runs.csv": collection.tidy().to_csv(index=False),
    }
    paths = _write_tables(folder, {name: text for name, text in texts.items() if text.strip()})
    paths += plots.write(collection, folder / "plots")
    paths.append(page.write([folder], folder / page.NAME))
    # Written last: it is there only where everything else is, or has failed.
    write_atomically(folder / _LIST, "".join(f"{path.relative_to(folder)}\n" for path in paths).encode())
    return paths


def write_cells(folder: Path) -> list[Path]:
    """Write ``tables/cost`` and ``plots/`` of all cells of a cost sweep's folder; returns the files."""
    cells = cell.cells_in(folder)
    texts = {f"cost.{suffix}": cell.render(cells, format) for format, suffix in (*_READ, ("csv", "csv"))}
    return [*_write_tables(folder, texts), *cell_plots.write(cells, folder / "plots")]


def check_writable(folder: Path) -> None:
    """Raise ``ValueError`` where :func:`write` could not write: cheap, before the hours that it comes after."""
    for path in (folder / "tables", folder / "plots"):
        if path.exists() and not (path.is_dir() and os.access(path, os.W_OK | os.X_OK)):
            raise ValueError(f"{path}: must be a folder that can be written; tables and figures belong there")


def _write_tables(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    paths = {folder / "tables" / name: text for name, text in texts.items()}
    for path, text in paths.items():
        write_atomically(path, text.encode())
    return [*paths]


def is_current(folder: Path) -> bool:
    """Whether all that :func:`write` wrote last is there, and newer than every record of the folder."""
    patterns = (f"*/{NETWORK_NAME}", f"*/{MEASUREMENTS_NAME}/*.json", PACKED_NAME)
    records = [path for pattern in patterns for path in folder.glob(pattern)]
    if not records or not (folder / _LIST).exists():
        return False
    written = [folder / line for line in (folder / _LIST).read_text(encoding="utf-8").splitlines()]
    newest = max(path.stat().st_mtime_ns for path in records)
    return bool(written) and all(path.exists() and path.stat().st_mtime_ns > newest for path in written)
