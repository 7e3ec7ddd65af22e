"""Comparison tables: accuracy by method and embedding dimension, cost, and what did not finish."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from results.collect import PROTOCOL, SUBJECT, Collection, protocol_text, short_source
from results.formats import MIB, NOT_RUN, Table, for_programs, format_table, join
from results.inference import LEVEL, Paired, fewest_flipped
from results.paired import Best, Difference, Differences, against, best
from results.readable import figure, outcome, seeds_and_draws, usual_seeds
from results.summary import COSTS, TABLE, headline, is_reference, metric_title, protocol_columns, select, summarise
from results.transfer import transfer

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


def render(collection: Collection, format: str = "plain", metric: str | None = None, method: str | None = None) -> str:
    """Every table of a collection as one text.

    ``plain``, ``md`` and ``latex``: the accuracy tables that the suite begins with (or those of ``metric``: a name, or
    ``all``), the cost tables and what did not finish. ``csv`` and ``json``: one table in full precision with a row a
    configuration, metric and protocol, all metrics and costs unless ``metric`` names one.
    With ``method``, instead, the paired differences of every other method to it, a row a method and dimension.
    Raises ``ValueError`` for an unknown format, metric or method.
    """
    programs, summary = for_programs(format), summarise(collection)
    if method is not None:
        tables = against(select(summary, metric or ("all" if programs else None)), method)
        if programs:
            return format_table([_full_difference(item) for own in tables for item in own.found], format)
        return join([_difference_table(own) for own in tables], format)
    if programs:
        return format_table(figures(collection, summary if metric is None else select(summary, metric)), format)
    shown = _accuracy_tables(headline(summary)) + transfer(summary) if metric is None else accuracy(summary, metric)
    return join(shown + cost(summary) + unfinished(collection), format)


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
    return _accuracy_tables(select(summary, metric))


def _accuracy_tables(chosen: pd.DataFrame) -> list[Table]:
    return [_accuracy_table(table) for _, table in chosen.groupby(TABLE, sort=False)]


def _accuracy_table(table: pd.DataFrame) -> Table:
    source, metric, key, unit = table[["dataset", "metric", "key", "unit"]].iloc[0]
    n = usual_seeds(table)
    common = in_common(table)
    headings = [_dimension(dim) for dim in table["embedding_dim"]]
    found_best = best(table) if unit == "fraction" else None
    marks = marks_of(found_best)
    cells = [" ".join(filter(None, [outcome(row, n), marks.get(place)])) for place, row in table.iterrows()]
    table = table.assign(heading=headings, cell=cells)
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
    not_run = any(NOT_RUN in row.values() for row in rows)
    notes = remarks(table, found_best, f" {NOT_RUN}: not run." if not_run else "")
    protocol = ", ".join(filter(None, [key, protocol_text(common)]))
    return Table(f"{short_source(source)}: {metric_title(metric, unit)}; {protocol}", rows, notes)


def in_common(table: pd.DataFrame) -> dict[str, Any]:
    """What most figures of a table were measured on: ``features``, ``epoch``."""
    return {name: mode for name in SUBJECT if (mode := _most_common(table[name])) is not None}


def marks_of(found: Best | None) -> dict[Any, str]:
    """The marks of a table's rows, by their index: the best of each column, and what is not significantly different."""
    return dict.fromkeys(found.best, "*") | dict.fromkeys(found.untold, "†") if found else {}


def remarks(table: pd.DataFrame, found: Best | None, absent: str = "") -> list[str]:
    """What is to be said below an accuracy table: of its intervals, its draws and its marks."""
    note, of_draws = seeds_and_draws(table)
    note += "; without ±: the same for all seeds." if ((table["n"] > 1) & (table["half_width"] == 0)).any() else "."
    return [note + absent, *of_draws, *_legend(found)]


def _dimension(dim: Any) -> str:
    return "no D" if pd.isna(dim) else f"D={dim}"


def _legend(found: Best | None) -> list[str]:
    """What the marks of an accuracy table say, and where nothing is significant."""
    if found is None:
        return []
    if all(test.n < 2 for test in found.tests):
        return ["*: best of its column; with one seed nothing can be tested."]
    marks = "*: best of its column" + ("; †: not significantly different from it" if found.untold else "")
    legend = f"{marks} ({tests_text(found.tests)}, at the {100 * LEVEL:.0f} % level)."
    if found.unsure:
        where = "Here" if len(found.unsure) == found.columns else f"At {', '.join(map(_dimension, found.unsure))}"
        legend += f" {where} no difference from the best is significant: there are too few seeds."
    return [legend]


def tests_text(tests: Sequence[Paired]) -> str:
    """What tests were made: ``two-sided exact sign-flip over n=10 seeds; Holm-corrected over the table's 15 tests``."""
    made = [test for test in tests if test.test]
    needed = fewest_flipped(len(made))
    kinds = []
    for kind in dict.fromkeys(test.test for test in made):
        counts = sorted({test.n for test in made if test.test == kind})
        text = f"{kind} over n={counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''} seeds"
        if kind == "paired t" and counts[0] < needed:
            text += f" (the sign-flip test needs {needed})"
        if kind == "sign-flip":
            text = f"exact {text}" + (" where all differ by the same" if counts[0] < needed else "")
        kinds.append(text)
    count = f"{len(made)} test{'s' if len(made) > 1 else ''}"
    return f"two-sided {', '.join(kinds)}; Holm-corrected over the table's {count}"


def _difference_table(differences: Differences) -> Table:
    """One table of paired differences: a row a method and dimension."""
    base = differences.found[0].base
    rows = []
    for item in differences.found:
        row, own_base, paired = item
        head = {"Method": row["label"], "D": _dimension(own_base["embedding_dim"]).removeprefix("D=")}
        if paired is None:
            rows.append(head | {"Difference": item.missing})
            continue
        tested = {"p": p_text(paired.p), "p (Holm)": p_text(paired.p_holm), "Test": paired.test or NOT_RUN}
        rows.append(head | {"Difference": difference_text(paired, row["unit"]), **tested, "n": str(paired.n)})
    both = pd.DataFrame([own for item in differences.found for own in (item.row, item.base)])
    tests = [item.paired for item in differences.found if item.paired]
    note = "Mean paired difference ± 95 % interval over n seeds; without ±: one seed, or the same for all."
    untested = " One seed: no test." if tests else " No pair: no test."
    note += f" p: {tests_text(tests)}." if any(test.test for test in tests) else untested
    if differences.without:
        note += f" {base['label']} was not run at {', '.join(map(_dimension, differences.without))}."
    unit, metric = row["unit"], row["metric"]
    title = f"{short_source(row['dataset'])}: {metric_title(metric, unit)}, difference to {base['label']}; {row['key']}"
    return Table(title, rows, [note, *seeds_and_draws(both)[1]])


def difference_text(paired: Paired, unit: str) -> str:
    """A paired difference with the half-width of its interval and its sign: ``+2.1 ± 0.4``."""
    text = figure(paired.difference, paired.high - paired.difference, unit)
    return f"+{text}" if paired.difference > 0 else text


def p_text(p: float) -> str:
    return NOT_RUN if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _full_difference(item: Difference) -> dict[str, Any]:
    """One paired difference in full precision, in the unit of its metric."""
    row, base, paired = item
    names = ("dataset", "method", "title", "label", "metric", "key", "unit")
    head = {"data.source" if name == "dataset" else "protocol" if name == "key" else name: row[name] for name in names}
    found = paired._asdict() if paired else dict.fromkeys(Paired._fields)
    dim = base["embedding_dim"]
    return head | {"embedding_dim": None if pd.isna(dim) else dim, "against": base["label"]} | found


def _most_common(values: pd.Series) -> Any:
    mode = next(iter(values.dropna().mode()), None)
    return int(mode) if isinstance(mode, float) and mode.is_integer() else mode


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
