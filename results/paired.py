"""Paired differences between methods: of each to one that is named, and of each to the best.

Networks of one seed saw the same draws, and so did few-label probes of any network: differences are taken seed by seed
and draw by draw. What has no seed, pixels, is the same for every seed; what has no dimension is compared at every one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from results.inference import LEVEL, Floats, Paired, paired_tests
from results.summary import TABLE, is_reference

# A row of a summary: a Series, or a mapping.
Row: TypeAlias = Any


class Difference(NamedTuple):
    """A row of a summary, the row it is compared with, and what the pairs say; ``None`` where there is no pair."""

    row: Row
    base: Row
    paired: Paired | None

    @property
    def missing(self) -> str:
        """What became of the networks of which there is no pair."""
        of_base = self.base["failures"] and f"{self.base['label']}: {self.base['failures']}"
        return self.row["failures"] or of_base or "no seed in common"


class Best(NamedTuple):
    """The rows of one table, by their index, that are best of their column, and those not significantly different.

    ``unsure`` are the columns, embedding dimensions, in which none differs significantly from the best, of ``columns``.
    """

    best: frozenset[Any]
    untold: frozenset[Any]
    unsure: tuple[Any, ...]
    columns: int
    tests: tuple[Paired, ...]


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
    for _, table in chosen.groupby(TABLE, sort=False):
        own = table[_is_named(table, method)]
        if own["label"].nunique() > 1:
            # The row's own name tells variants apart.
            own = own[own["label"].str.casefold() == method.casefold()]
        if own.empty:
            variants = dict.fromkeys(table.loc[_is_named(table, method), "label"])
            if variants:
                quoted = " or ".join(f"'{name}'" for name in variants)
                raise ValueError(f"{method!r} is several rows: name one of them as it stands, {quoted}")
            continue
        pairs = [pair for _, base in own.sort_values("embedding_dim").iterrows() for pair in _with_base(table, base)]
        without = set() if own["embedding_dim"].isna().any() else {*table["embedding_dim"].dropna()}
        found.append(Differences(tested(pairs), sorted(without - {*own["embedding_dim"]})))
    return [differences for differences in found if differences.found]


def _is_named(table: pd.DataFrame, method: str) -> pd.Series:
    names = table[["method", "title", "label"]].apply(lambda column: column.str.casefold())
    return (names == method.casefold()).any(axis=1)


def _with_base(table: pd.DataFrame, base: pd.Series) -> Iterator[tuple[pd.Series, pd.Series]]:
    """Every other row of the base's dimension, or without one, beside the base."""
    dims = table["embedding_dim"]
    here = dims.isna() | (True if pd.isna(base["embedding_dim"]) else (dims == base["embedding_dim"]).fillna(False))
    for _, row in table[here & (table["label"] != base["label"])].iterrows():
        yield row, base


def tested(pairs: Sequence[tuple[Row, Row]]) -> list[Difference]:
    """Each row's difference to its base, tested as one family."""
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


def best(table: pd.DataFrame) -> Best | None:
    """The best of each embedding dimension of a table, references apart, and what is not significantly different.

    The best of a column is compared with every other method there, two-sided, Holm-corrected over the table. The best
    is chosen by the figures that test it. Still the method that truly is best of a column keeps its mark with at least
    95 %: to lose it, one of its own comparisons must go wrong, and with m methods there are m − 1 of them, whichever of
    the others comes out best (Gupta, Technometrics 7, 1965, and Hsu, Annals of Statistics 9, 1981, on sets that hold
    the best).
    ``None`` where no column has two methods.
    """
    methods = table[~is_reference(table) & (table["n"] > 0)]
    columns = [own for _, own in methods.groupby("embedding_dim", dropna=False) if own["label"].nunique() > 1]
    if not columns:
        return None
    bests = [own.iloc[int(own["mean"].argmax())] for own in columns]
    pairs = [
        (row, top) for own, top in zip(columns, bests, strict=True) for _, row in own.drop(index=top.name).iterrows()
    ]
    differences = tested(pairs)
    told = {item.row.name for item in differences if item.paired and item.paired.p_holm <= LEVEL}
    ties = {item.row.name for item in differences if math.isclose(item.row["mean"], item.base["mean"])}
    unsure = [own for own in columns if not told & {*own.index}]
    untold = {item.row.name for item in differences} - told - ties - {name for own in unsure for name in own.index}
    return Best(
        frozenset({top.name for top in bests} | ties),
        frozenset(untold),
        tuple(own["embedding_dim"].iloc[0] for own in unsure),
        len(columns),
        tuple(item.paired for item in differences if item.paired),
    )
