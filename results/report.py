"""Everything a runs folder has to say, written into it: tables and figures."""

from __future__ import annotations

from pathlib import Path

from results import plots
from results.collect import Collection, collect
from results.formats import format_table
from results.record import RECORD_NAME, write_atomically
from results.summary import COSTS, summarise
from results.tables import Table, accuracy, cost, figures, join, unfinished


def write(folder: Path) -> list[Path]:
    """Write ``tables/`` and ``plots/`` under a runs folder; returns the files.

    ``accuracy`` and ``cost`` as Markdown and LaTeX for reading and as CSV in full precision, ``runs.csv`` with a row
    a run and metric, and every figure as PNG and PDF. Raises ``ValueError`` where the folder holds no record.
    """
    collection = collect([folder])
    return [*_write_tables(collection, folder / "tables"), *plots.write(collection, folder / "plots")]


def is_current(folder: Path) -> bool:
    """Whether what :func:`write` wrote last is newer than every record of the folder."""
    written = [path for name in ("tables", "plots") for path in (folder / name).glob("*")]
    records = list(folder.glob(f"*/{RECORD_NAME}"))
    if not written or not records:
        return False
    return min(path.stat().st_mtime_ns for path in written) > max(path.stat().st_mtime_ns for path in records)


def _write_tables(collection: Collection, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(collection)
    costs = summary["metric"].isin(COSTS)
    texts = {
        **_for_reading("accuracy", accuracy(summary) + unfinished(collection)),
        **_for_reading("cost", cost(summary)),
        "accuracy.csv": format_table(figures(collection, summary[~costs]), "csv"),
        "cost.csv": format_table(figures(collection, summary[costs]), "csv"),
        "runs.csv": collection.tidy().to_csv(index=False),
    }
    return [_write(folder / name, text) for name, text in texts.items() if text.strip()]


def _for_reading(name: str, tables: list[Table]) -> dict[str, str]:
    return {f"{name}.md": join(tables, "md"), f"{name}.tex": join(tables, "latex")}


def _write(path: Path, text: str) -> Path:
    write_atomically(path, text.encode())
    return path
