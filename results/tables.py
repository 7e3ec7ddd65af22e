"""Comparison tables: accuracy by method and embedding dimension, cost, and what did not finish."""

import math
from typing import Any

import pandas as pd

from results.collect import PROTOCOL, SUBJECT, Collection, protocol_text, short_source
from results.formats import MIB, NOT_RUN, Table, for_programs, format_table, join
from results.summary import COSTS, is_reference, metric_title, protocol_columns, select, summarise

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


def render(collection: Collection, format: str = "plain", metric: str | None = None) -> str:
    """Every table of a collection as one text.

    ``plain``, ``md`` and ``latex``: accuracy tables of the headline metrics (or of ``metric``: a name, or ``all``),
    the cost tables and what did not finish. ``csv`` and ``json``: one table in full precision with a row a
    configuration, metric and protocol, all metrics and costs unless ``metric`` names one.
    Raises ``ValueError`` for an unknown format or metric.
    """
    programs, summary = for_programs(format), summarise(collection)
    if programs:
        return format_table(figures(collection, summary if metric is None else select(summary, metric)), format)
    return join(accuracy(summary, metric) + cost(summary) + unfinished(collection), format)


def figures(collection: Collection, summary: pd.DataFrame) -> list[dict[Any, Any]]:
    """A summary's rows in full precision: suite, data set, method, the axes and resolved settings, then the figures."""
    identity = ["suite", "data.source", "kind", "method", "title", "label", "embedding_dim", "loss_form"]
    settings = ["batch_size", "epochs", "precision", "backbone.name"]
    names = dict.fromkeys([*identity, *collection.axes, *settings, *_FIGURES, *protocol_columns(summary)])
    # By the name that tells two contents of one path apart.
    summary = summary.assign(**{"data.source": summary["dataset"]})
    chosen = summary[[name for name in names if name in summary]].astype(object)
    return chosen.where(chosen.notna(), None).to_dict("records")


def accuracy(summary: pd.DataFrame, metric: str | None = None) -> list[Table]:
    """One table a data set, metric and protocol: a row a method, a column an embedding dimension."""
    chosen = select(summary, metric)
    return [_accuracy_table(table) for _, table in chosen.groupby(["dataset", "metric", "key"], sort=False)]


def _accuracy_table(table: pd.DataFrame) -> Table:
    source, metric, key, unit = table[["dataset", "metric", "key", "unit"]].iloc[0]
    # The number of seeds that most cells have is said once, below the table.
    n = int(table.loc[table["n"] > 0, "n"].mode().max()) if table["n"].any() else 0
    common = {name: mode for name in SUBJECT if (mode := _most_common(table[name])) is not None}
    headings = ["no D" if pd.isna(dim) else f"D={dim}" for dim in table["embedding_dim"]]
    table = table.assign(heading=headings, cell=[_outcome(row, n) for _, row in table.iterrows()])
    headings = table.sort_values("embedding_dim", na_position="first")["heading"].unique().tolist()
    rows: list[dict[Any, Any]] = []
    for label, own in table.groupby("label", sort=False):
        # What the label does not say of what was measured: ``epoch=0``.
        seen = {name: _most_common(own[name]) for name in common}
        other = protocol_text({name: seen[name] for name in seen if seen[name] not in (None, common[name])})
        # Empty where the heading does not concern the method, a dash where nothing was run.
        found = own.groupby("heading")["cell"].agg("; ".join).to_dict()
        absent = {name: "" if name == "no D" or "no D" in found else NOT_RUN for name in headings}
        rows.append({"Method": f"{label} ({other})" if other else label, **absent, **found})
    note = f"Mean ± 95 % t-interval over n={n} seeds" if n > 1 else "One seed (n=1), no interval"
    note += ", where no other n is given"
    note += "; without ±: the same for all seeds." if ((table["n"] > 1) & (table["half_width"] == 0)).any() else "."
    note += f" {NOT_RUN}: not run." if any(NOT_RUN in row.values() for row in rows) else ""
    protocol = ", ".join(filter(None, [key, protocol_text(common)]))
    return Table(f"{short_source(source)}: {metric_title(metric, unit)}; {protocol}", rows, [note])


def _most_common(values: pd.Series) -> Any:
    mode = next(iter(values.dropna().mode()), None)
    return int(mode) if isinstance(mode, float) and mode.is_integer() else mode


def _outcome(row: pd.Series, usual_n: int) -> str:
    """``93.1 ± 0.4``, with ``(n=1)`` where n is not the usual one, and what became of the other runs."""
    measured = figure(row["mean"], row["half_width"], row["unit"]) if row["n"] else ""
    n = f" (n={row['n']})" if row["n"] not in (0, usual_n) else ""
    return ", ".join(filter(None, [measured + n, row["failures"]]))


def figure(mean: float, half_width: float, unit: str) -> str:
    """Mean and half-width for reading: fractions in per cent to a tenth, others to three significant digits."""
    if unit == "fraction":
        mean, half_width, decimals = 100 * mean, 100 * half_width, 1
    else:
        decimals = 2 if mean == 0 or not math.isfinite(mean) else max(0, 2 - math.floor(math.log10(abs(mean))))
    certain = math.isnan(half_width) or half_width == 0
    return f"{mean:.{decimals}f}" if certain else f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"


def cost(summary: pd.DataFrame) -> list[Table]:
    """One table a data set and machine: a row a method that was trained or fitted, and embedding dimension."""
    made = ~is_reference(summary) & (summary["kind"] != "weights")
    costs = summary[summary["metric"].isin(COSTS) & made]
    return [_cost_table(table) for _, table in costs.groupby(["dataset", "key"], sort=False)]


def _cost_table(table: pd.DataFrame) -> Table:
    source, machine = table[["dataset", "key"]].iloc[0]
    ordered = table.assign(label=pd.Categorical(table["label"], table["label"].unique()))
    rows = []
    for _, own in ordered.sort_values(["label", "embedding_dim"]).groupby("configuration", sort=False):
        first, measured = own.iloc[0], own[own["n"] > 0].set_index("metric").to_dict("index")
        cells = dict.fromkeys(_COST_COLUMNS, NOT_RUN)
        for heading, (metric, factor) in _COST_COLUMNS.items():
            if row := measured.get(metric):
                cells[heading] = figure(row["mean"] * factor, row["half_width"] * factor, row["unit"])
        head = {"Method": first["label"], "D": "" if pd.isna(first["embedding_dim"]) else str(first["embedding_dim"])}
        head |= {"Form": first["loss_form"] or NOT_RUN, "n": str(own["n"].max())}
        rows.append(head | cells | {"Not done": first["failures"]})
    used = {name for row in rows for name, cell in row.items() if cell not in ("", NOT_RUN)}
    rows = [{name: cell for name, cell in row.items() if name in used} for row in rows]
    counted = " and ".join(sorted(set(table.get(f"{PROTOCOL}memory", pd.Series(dtype=object)).dropna())))
    memory = f" Memory counted by {counted}." if counted else ""
    note = f"Mean ± 95 % t-interval over n seeds of each run's median.{memory} {NOT_RUN}: not measured."
    return Table(f"{short_source(source)}: cost; {machine}", rows, [note])


def unfinished(collection: Collection) -> list[Table]:
    """The networks that are not done, and the measurements, with what they said; nothing where all are."""
    networks = collection.runs[["id", "title", "status", "message"]]
    measurements = collection.measurements.sort_values("id", kind="stable")[["id", "probe", "status", "message"]]
    tables = {"Networks that did not finish": networks, "Measurements that did not finish": measurements}
    headings = {"id": "Network", "title": "Method", "probe": "Probe", "status": "Status", "message": "Message"}
    lost = {title: own[own["status"] != "done"].rename(columns=headings) for title, own in tables.items()}
    return [Table(title, own.to_dict("records")) for title, own in lost.items() if len(own)]
