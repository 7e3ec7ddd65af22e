"""Figures as tables for people show them: rounded, with their intervals, and what is to be said of these."""

import math

import pandas as pd

from results.collect import PROTOCOL
from results.summary import over_draws

_NO_DRAWS = "The records do not hold the figures of single draws:"


def outcome(row: pd.Series, usual_n: int) -> str:
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


def usual_seeds(table: pd.DataFrame) -> int:
    """The number of seeds that most figures of a table have, which is said once, below it."""
    return int(table.loc[table["n"] > 0, "n"].mode().max()) if table["n"].any() else 0


def seeds_and_draws(table: pd.DataFrame) -> tuple[str, list[str]]:
    """What a table's figures are over, the start of a note, and what is to be said of draws where there are several."""
    draws = pd.to_numeric(table[f"{PROTOCOL}draws"]) if f"{PROTOCOL}draws" in table else 0 * table["n"]
    several = table[(draws > 1) & (table["n"] > 1)]
    kept = [over_draws(own) for own in several["by_seed"]]
    notes = []
    if any(kept):
        notes.append(
            "Draws are the same label sets for every network: intervals are over seeds and draws, two crossed random"
            " effects, the half-widths of both added in squares (Howe, JASA 69, 1974)."
        )
    if not all(kept):
        where = "Some records do not hold the figures of single draws: there" if any(kept) else _NO_DRAWS
        notes.append(f"{where} draws count as fixed, and intervals are over seeds, for these label sets only.")
    n, interval = usual_seeds(table), "interval" if any(kept) else "t-interval"
    over = f"Mean ± 95 % {interval} over n={n} seeds" if n > 1 else "One seed (n=1), no interval"
    return f"{over}, where no other n is given", notes
