"""The tables of a suite for the page: every figure with its interval, mark and seeds; paired differences; published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results import palette
from results.collect import BASE_KERNELS, PROTOCOL, REFERENCES, Collection, protocol_text, short_source
from results.compare import beside
from results.formats import Table
from results.paired import best, tested
from results.regime_rows import NEIGHBOURS, OVER, largest, less_axes, shots_text
from results.summary import (
    COSTS,
    TABLE,
    TITLES,
    configurations,
    headline,
    is_reference,
    metric_title,
    natural,
    protocol_columns,
    select,
)
from results.tables import difference_text, figure, in_common, marks_of, p_text, remarks, tests_text

# Of a table with more methods, differences are to its best and to few of its references.
_MOST_BASES, _FEW_BASES = 20, 4
_RIDGE = "regime.ridge"
# How a probe is called by the protocol that tells its tables apart.
_SHOTS = "labels_per_class"
_KNOWN_BY = {"knn_top1": ("k",)}
_SAID_ALONE = ("probe", "split", "features")
_UNDERSTOOD = ("backbone", "test")


@dataclass(frozen=True)
class Configurations:
    """The methods of a suite in the order of tables, references last, and its configurations, each of one method."""

    methods: list[dict[Any, Any]]
    rows: list[dict[str, Any]]
    place: Mapping[str, int]

    @classmethod
    def of(cls, collection: Collection, summary: pd.DataFrame) -> "Configurations":
        # A row's name in a table may say where it was trained; a network that measured nothing has its own only.
        own = pd.concat([summary, configurations(collection)], ignore_index=True).drop_duplicates("configuration")
        own = own.assign(reference=is_reference(own), order=natural(own["label"]), name=less_axes(own["label"]))
        own = own.sort_values(["reference", "order", "embedding_dim"], kind="stable").reset_index(drop=True)
        most = {*largest(own).index}
        labels = list(dict.fromkeys(own["label"]))
        methods = own.drop_duplicates("label")[["label", "title", "method", "kind", "reference"]]
        places = palette.places(methods.loc[~methods["reference"], "label"])
        methods["place"] = [places.get(label, row - len(places)) for row, label in enumerate(methods["label"])]
        axes = [column for column in (*OVER, NEIGHBOURS, _RIDGE) if column in own]
        rows = [
            {
                "method": labels.index(row["label"]),
                "D": None if pd.isna(row["embedding_dim"]) else int(row["embedding_dim"]),
                "form": row["loss_form"] if isinstance(row.get("loss_form"), str) else None,
                "name": row["name"],
                "largest": place in most,
                "axes": {column: float(row[column]) for column in axes if pd.notna(row[column])},
            }
            for place, row in own.to_dict("index").items()
        ]
        return cls(methods.to_dict("records"), rows, {text: place for place, text in enumerate(own["configuration"])})


def tables(
    collection: Collection, summary: pd.DataFrame, own: Configurations
) -> tuple[list[dict[str, Any]], dict[int, dict[int, Any]]]:
    """A table a data set, metric and protocol, costs among them; and by table and method the differences to it."""
    first = {*headline(summary)[TABLE].itertuples(index=False, name=None)}
    chosen = first | {*select(summary)[TABLE].itertuples(index=False, name=None)}
    probes = {tuple(row): probe for *row, probe in collection.metrics[[*TABLE, "probe"]].to_numpy()}
    shown: list[dict[str, Any]] = []
    differences: dict[int, dict[int, Any]] = {}
    for place, (_, table) in enumerate(summary.groupby(TABLE, sort=False)):
        key = dataset, metric, text = tuple(table[TABLE].iloc[0])
        unit, is_cost = table["unit"].iloc[0], metric in COSTS
        found = best(table) if unit == "fraction" else None
        protocol = {
            name.removeprefix(PROTOCOL): values.iloc[0]
            for name in protocol_columns(table)
            if (values := table[name].dropna()).nunique() == 1
        }
        common = in_common(table)
        shown.append(
            {
                "dataset": short_source(dataset),
                "metric": metric,
                "title": TITLES.get(metric, metric.replace("_", " ")),
                "heading": metric_title(metric, unit),
                "key": ", ".join(filter(None, [text, protocol_text(common)])),
                "unit": unit,
                "cost": is_cost,
                "probe": probes.get(key),
                "split": protocol.get("split"),
                "protocol": protocol,
                "headline": key in chosen,
                "first": key in first,
                "notes": [] if is_cost else remarks(table, found),
                # The dimensions at which none differs significantly from the best.
                "unsure": [None if pd.isna(dim) else int(dim) for dim in found.unsure] if found else [],
                "tested": any(test.test for test in found.tests) if found else False,
                "rows": _rows(table, own, marks_of(found), common),
            }
        )
        if key in chosen:
            differences[place] = _differences(table, own)
    _name_apart(shown)
    return shown, differences


def _rows(
    table: pd.DataFrame, own: Configurations, marks: Mapping[Any, str], common: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows = []
    for place, row in table.to_dict("index").items():
        measured = row["n"] > 0
        apart = {name: row[name] for name in common if pd.notna(row[name]) and row[name] != common[name]}
        rows.append(
            {
                "c": own.place[row["configuration"]],
                "mean": row["mean"],
                "low": row["low"],
                "high": row["high"],
                "text": figure(row["mean"], row["half_width"], row["unit"]) if measured else "",
                "n": int(row["n"]),
                "runs": int(row["runs"]),
                "failures": row["failures"],
                "mark": marks.get(place, ""),
                "apart": protocol_text(apart),
                "seeds": [float(values.mean()) for values in row["by_seed"].values()],
            }
        )
    return rows


def _name_apart(shown: Sequence[dict[str, Any]]) -> None:
    """Give each table ``short``, its name among those of its data set: ``Few-label probe, 1 label per class``."""
    for table in shown:
        same = [other for other in shown if all(other[name] == table[name] for name in ("dataset", "metric"))]
        told = [
            name
            for name in table["protocol"]
            if len({str(other["protocol"].get(name)) for other in same}) > 1
            or name in _KNOWN_BY.get(table["metric"], ())
        ]
        parts = [_part(name, table["protocol"][name]) for name in told if table["protocol"][name] not in _UNDERSTOOD]
        table["short"] = ", ".join([table["title"].partition(",")[0], *parts])


def _part(name: str, value: Any) -> str:
    if name == _SHOTS:
        return shots_text(value)
    return str(value) if name in _SAID_ALONE else f"{name}={value}"


def _differences(table: pd.DataFrame, own: Configurations) -> dict[int, Any]:
    """By the method that is compared with: rows of differences, and what was tested as one family; none of one seed."""
    rows = [row for row in table.to_dict("records") if row["n"]]
    names = list(dict.fromkeys(row["label"] for row in rows))
    if len(names) > _MOST_BASES:
        best_first = sorted(rows, key=lambda row: -row["mean"])
        references = [row for row in best_first if row["kind"] in REFERENCES or row["method"] in BASE_KERNELS]
        names = list(dict.fromkeys(row["label"] for row in (best_first[0], *references)))[:_FEW_BASES]
    found = {}
    for name in names:
        pairs = [
            (row, base)
            for base in rows
            for row in rows
            if base["label"] == name != row["label"] and _meet(row["embedding_dim"], base["embedding_dim"])
        ]
        compared = [item for item in tested(pairs) if item.paired]
        if tests := [item.paired for item in compared if item.paired and item.paired.test]:
            found[own.rows[own.place[compared[0].base["configuration"]]]["method"]] = {
                "tests": tests_text(tests),
                "rows": [
                    {
                        "c": own.place[item.row["configuration"]],
                        "base": own.place[item.base["configuration"]],
                        **item.paired._asdict(),
                        "text": difference_text(item.paired, item.row["unit"]),
                        "p_text": p_text(item.paired.p_holm),
                    }
                    for item in compared
                    if item.paired
                ],
            }
    return found


def _meet(dim: Any, other: Any) -> bool:
    """What has no dimension is compared at every one."""
    return bool(pd.isna(dim) or pd.isna(other) or dim == other)


def published(summary: pd.DataFrame) -> dict[str, Any]:
    """Published figures beside ours, with what differs, and sentences on what has no counterpart."""
    if not summary["kind"].isin(["trained", "weights"]).any():
        return {"tables": [], "missing": []}
    found, missing = beside(summary)
    return {"tables": [plain(table) for table in found], "missing": missing}


def plain(table: Table) -> dict[str, Any]:
    """A table for reading: its columns, rows of text and notes."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    rows = [[str(row.get(name) or "") for name in columns] for row in table.rows]
    return {"title": table.title, "columns": columns, "rows": rows, "notes": list(table.notes)}
