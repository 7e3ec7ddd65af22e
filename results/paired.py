"""Paired differences between methods: of each to one that is named.

Networks of one seed saw the same draws, and so did few-label probes of any network: differences are taken seed by seed
and draw by draw. What has no seed, pixels, is the same for every seed; what has no dimension is compared at every one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from results.inference import Floats, Paired, paired_tests

_TABLE = ["dataset", "metric", "key"]


class Difference(NamedTuple):
    """A row of a summary, the row it is compared with, and what the pairs say; ``None`` where there is no pair."""

    row: pd.Series
    base: pd.Series
    paired: Paired | None


class Differences(NamedTuple):
    """The differences of one table, and the dimensions of its that the method was not run at."""

    found: list[Difference]
    without: list[int]


def against(chosen: pd.DataFrame, method: str) -> list[Differences]:
    """The differences of every method to ``method``, its name, title or row's name, table by table of a summary.

    Holm's correction is over a table. Raises ``ValueError`` where no table has it, or where a table has variants of it.
    """
    named = chosen[_is_named(chosen, method)]
    if named.empty:
        there = dict.fromkeys(zip(chosen["method"], chosen["title"], strict=True))
        names = ", ".join(f"{name} ({title})" for name, title in there)
        raise ValueError(f"no method {method!r} in these tables: there are {names}")
    found = []
    for _, table in chosen.groupby(_TABLE, sort=False):
        own = table[_is_named(table, method)]
        if own["label"].nunique() > 1:
            # The row's own name tells variants apart.
            own = own[own["label"].str.casefold() == method.casefold()]
        if own.empty:
            variants = dict.fromkeys(table.loc[_is_named(table, method), "label"])
            if variants:
                raise ValueError(f"{method!r} is several rows: name one of them as it stands, {_quoted(variants)}")
            continue
        pairs = [pair for _, base in own.sort_values("embedding_dim").iterrows() for pair in _with_base(table, base)]
        without = set() if own["embedding_dim"].isna().any() else {*table["embedding_dim"].dropna()}
        found.append(Differences(_differences(pairs), sorted(without - {*own["embedding_dim"]})))
    return [differences for differences in found if differences.found]


def _is_named(table: pd.DataFrame, method: str) -> pd.Series:
    names = table[["method", "title", "label"]].apply(lambda column: column.str.casefold())
    return (names == method.casefold()).any(axis=1)


def _quoted(names: Mapping[str, None]) -> str:
    return " or ".join(f"'{name}'" for name in names)


def _with_base(table: pd.DataFrame, base: pd.Series) -> Iterator[tuple[pd.Series, pd.Series]]:
    """Every other row of the base's dimension, or without one, beside the base."""
    dims = table["embedding_dim"]
    here = dims.isna() | (True if pd.isna(base["embedding_dim"]) else (dims == base["embedding_dim"]).fillna(False))
    for _, row in table[here & (table["label"] != base["label"])].iterrows():
        yield row, base


def _differences(pairs: list[tuple[pd.Series, pd.Series]]) -> list[Difference]:
    values = [_paired_values(row["by_seed"], base["by_seed"]) for row, base in pairs]
    tested = iter(paired_tests([y_SD for y_SD in values if len(y_SD)]))
    return [
        Difference(row, base, next(tested) if len(y_SD) else None)
        for (row, base), y_SD in zip(pairs, values, strict=True)
    ]


def _paired_values(own: Mapping[Any, Floats], base: Mapping[Any, Floats]) -> Floats:
    """Differences (S, D) over the seeds that both have, and over draws where all of them have the same number."""
    both = [(own.get(seed, own.get(None)), base.get(seed, base.get(None))) for seed in {**own, **base}]
    pairs = [(left, right) for left, right in both if left is not None and right is not None]
    if len({len(values) for pair in pairs for values in pair}) > 1:
        return np.array([[left.mean() - right.mean()] for left, right in pairs])
    return np.array([left - right for left, right in pairs])
