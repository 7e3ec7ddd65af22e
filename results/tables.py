"""Comparison tables: accuracy by method and embedding dimension, cost, and the runs that did not finish."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.collect import SUBJECT, Collection, protocol_text
from results.formats import check_format, format_table
from results.summary import COSTS, metric_title, select, summarise

NOT_RUN = "–"
MIB = 2**20

# The cost table's columns: heading -> (metric, factor from seconds and bytes).
_COST_COLUMNS = {
    "Step (ms)": ("step_seconds", 1e3),
    "Loss (ms)": ("loss_seconds", 1e3),
    "Images/s": ("images_per_second", 1.0),
    "Step peak (MiB)": ("peak_bytes_step", 1 / MIB),
    "Loss peak (MiB)": ("peak_bytes_loss", 1 / MIB),
    "Training (s)": ("train_seconds", 1.0),
}
_FIGURES = ["metric", "protocol", "unit", "mean", "low", "high", "half_width", "n", "runs", "failures", "seeds"]


@dataclass(frozen=True)
class Table:
    """A table for reading: its rows' cells are text."""

    title: str
    rows: Sequence[dict[str, str]]
    notes: Sequence[str] = ()

    def text(self, format: str) -> str:
        """The table in one of the formats ``plain``, ``md`` or ``latex``."""
        return format_table(self.rows, format, title=self.title, notes=self.notes)


def render(collection: Collection, format: str = "plain", metric: str | None = None) -> str:
    """Every table of a collection as one text.

    ``plain``, ``md`` and ``latex``: accuracy tables of the headline metrics (or of ``metric``: a name, or ``all``),
    the cost tables and the runs that did not finish. ``csv`` and ``json``: one table in full precision with a row a
    configuration, metric and protocol, all metrics and costs unless ``metric`` names one.
    Raises ``ValueError`` for an unknown format or metric.
    """
    check_format(format)
    summary = summarise(collection)
    if format in ("csv", "json"):
        return format_table(figures(collection, summary if metric is None else select(summary, metric)), format)
    return join(accuracy(summary, metric) + cost(summary) + unfinished(collection), format)


def join(tables: Sequence[Table], format: str) -> str:
    """Tables for reading, one after the other."""
    return "\n".join(table.text(format) for table in tables)


def figures(collection: Collection, summary: pd.DataFrame) -> list[dict[Any, Any]]:
    """A summary's rows in full precision: suite, data set, method, the axes and resolved settings, then the figures."""
    identity = ["suite", "data.source", "method", "title", "label", "embedding_dim", "loss_form"]
    settings = ["batch_size", "epochs", "precision", "backbone.name"]
    names = dict.fromkeys([*identity, *collection.axes, *settings, *_FIGURES])
    chosen = summary[[name for name in names if name in summary]].astype(object)
    return chosen.where(chosen.notna(), None).to_dict("records")


def accuracy(summary: pd.DataFrame, metric: str | None = None) -> list[Table]:
    """One table a data set, metric and protocol: a row a method, a column an embedding dimension."""
    chosen = select(summary, metric)
    return [_accuracy_table(table) for _, table in chosen.groupby(["data.source", "metric", "key"], sort=False)]


def _accuracy_table(table: pd.DataFrame) -> Table:
    source, metric, key, unit = table[["data.source", "metric", "key", "unit"]].iloc[0]
    n = _usual_n(table)
    split = {part.split("=")[0] for part in key.split(", ")}
    common = {name: mode for name in SUBJECT if name not in split and (mode := _most_common(table[name])) is not None}
    rows = [{"Method": label, **_cells(own, _dimensions(table), n)} for label, own in _labelled(table, common)]
    holes = any(cell == NOT_RUN for row in rows for cell in row.values())
    note = _seeds_note(table, n) + (f" {NOT_RUN}: not run." if holes else "")
    protocol = ", ".join(part for part in (key, protocol_text(common)) if part)
    return Table(f"{short_source(source)}: {metric_title(metric, unit)}; {protocol}", rows, [note])


def _dimensions(table: pd.DataFrame) -> list[int | None]:
    """The columns: ``None``, for rows that embed nothing, then the embedding dimensions."""
    known = table["embedding_dim"].dropna()
    return [*([None] if len(known) < len(table) else []), *sorted(map(int, known.unique()))]


def _usual_n(table: pd.DataFrame) -> int:
    """The number of seeds that most cells have: said once, below the table."""
    counts = table.loc[table["n"] > 0, "n"].mode()
    return int(counts.max()) if len(counts) else 0


def _seeds_note(table: pd.DataFrame, n: int) -> str:
    over = f"Mean ± 95 % t-interval over n={n} seeds" if n > 1 else "One seed (n=1), no interval"
    alike = ((table["n"] > 1) & (table["half_width"] == 0)).any()
    return f"{over}, where no other n is given{'; without ±: the same for all seeds' if alike else ''}."


def _most_common(values: pd.Series) -> Any:
    modes = values.dropna().mode()
    return _number(modes.iloc[0]) if len(modes) else None


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _labelled(table: pd.DataFrame, common: dict[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each row's name, with what it was measured on where that is not what the title says (``epoch=0``)."""
    for label, own in table.groupby("label", sort=False):
        subjects = {name: _most_common(own[name]) for name in common}
        other = [f"{name}={value}" for name, value in subjects.items() if value not in (None, common[name])]
        yield (f"{label} ({', '.join(other)})" if other else str(label)), own


def _cells(own: pd.DataFrame, dimensions: Sequence[int | None], usual_n: int) -> dict[str, str]:
    """A row's cells by heading; empty where the heading does not concern the method, a dash where nothing was run."""
    cells: dict[int | None, list[str]] = {dimension: [] for dimension in dimensions}
    for _, row in own.iterrows():
        cells[None if pd.isna(row["embedding_dim"]) else int(row["embedding_dim"])].append(_outcome(row, usual_n))
    without = bool(cells.get(None))
    return {
        "no D" if dimension is None else f"D={dimension}": "; ".join(texts)
        or ("" if without or dimension is None else NOT_RUN)
        for dimension, texts in cells.items()
    }


def _outcome(row: pd.Series, usual_n: int) -> str:
    """``93.1 ± 0.4``, with ``(n=1)`` where n is not the usual one, and what became of the other runs."""
    measured = figure(row["mean"], row["half_width"], row["unit"]) if row["n"] else ""
    n = f" (n={row['n']})" if row["n"] not in (0, usual_n) else ""
    return ", ".join(part for part in (measured + n, row["failures"]) if part)


def figure(mean: float, half_width: float, unit: str) -> str:
    """Mean and half-width for reading: fractions in per cent to a tenth, others to three significant digits."""
    if unit == "fraction":
        mean, half_width, decimals = 100 * mean, 100 * half_width, 1
    else:
        decimals = 2 if mean == 0 or not math.isfinite(mean) else max(0, 2 - math.floor(math.log10(abs(mean))))
    certain = math.isnan(half_width) or half_width == 0
    return f"{mean:.{decimals}f}" if certain else f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"


def cost(summary: pd.DataFrame) -> list[Table]:
    """One table a data set and machine: a row a trained method and embedding dimension."""
    costs = summary[summary["metric"].isin(COSTS) & (summary["epochs"] > 0)]
    return [_cost_table(table) for _, table in costs.groupby(["data.source", "key"], sort=False)]


def _cost_table(table: pd.DataFrame) -> Table:
    source, machine = table[["data.source", "key"]].iloc[0]
    ordered = table.sort_values(["label", "embedding_dim"], key=_in_order(table), kind="stable")
    rows = [_cost_row(own) for _, own in ordered.groupby("configuration", sort=False)]
    used = {name for row in rows for name, cell in row.items() if cell not in ("", NOT_RUN)}
    rows = [{name: cell for name, cell in row.items() if name in used} for row in rows]
    counted = " and ".join(
        sorted({row.rsplit("memory=")[-1] for row in table["protocol"].dropna() if "memory=" in row})
    )
    memory = f" Memory counted by {counted}." if counted else ""
    note = f"Mean ± 95 % t-interval over n seeds of each run's median.{memory} {NOT_RUN}: not measured."
    return Table(f"{short_source(source)}: cost; {machine}", rows, [note])


def _in_order(table: pd.DataFrame) -> Callable[[pd.Series], pd.Series]:
    """Labels in the order in which the table has them, other columns by their values."""
    places = {label: place for place, label in enumerate(dict.fromkeys(table["label"]))}
    return lambda values: values.map(places) if values.name == "label" else values


def _cost_row(own: pd.DataFrame) -> dict[str, str]:
    first = own.iloc[0]
    rows = {row["metric"]: row for _, row in own.iterrows()}
    return {
        "Method": first["label"],
        "D": "" if pd.isna(first["embedding_dim"]) else str(first["embedding_dim"]),
        "Form": first["loss_form"] or NOT_RUN,
        "n": str(own["n"].max()),
        **{heading: _cost_cell(rows.get(name), factor) for heading, (name, factor) in _COST_COLUMNS.items()},
        "Not done": first["failures"],
    }


def _cost_cell(row: pd.Series | None, factor: float) -> str:
    if row is None or row["n"] == 0:
        return NOT_RUN
    return figure(row["mean"] * factor, row["half_width"] * factor, row["unit"])


def unfinished(collection: Collection) -> list[Table]:
    """The runs that are not done, with what they said; nothing where all are."""
    runs = collection.runs[collection.runs["status"] != "done"]
    rows = [
        {"Run": row["id"], "Method": row["title"], "Status": row["status"], "Message": row["message"]}
        for _, row in runs.iterrows()
    ]
    return [Table("Runs that did not finish", rows)] if rows else []


def short_source(source: str) -> str:
    """A data source as titles show it: of a path its last part only."""
    kind, colon, path = source.partition(":")
    return kind + colon + path.rstrip("/").rsplit("/", 1)[-1]
