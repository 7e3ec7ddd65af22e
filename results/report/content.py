"""What the page shows, as JSON: a chapter a suite, a chapter a cost sweep. Statistics are made here, the page draws.

Its floats have six significant digits; the records have them all.
"""

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from results import __version__
from results.cell import CostCell, cells_in
from results.collect import tabulate
from results.record import NETWORK_NAME, PACKED_NAME
from results.report import curves, runs, sweep, tables
from results.report.regime import regime
from results.runs import LeftOut, Records, headlines, read_runs, without_repeats
from results.summary import summarise

# Suites of candidates come after what was chosen.
_TUNING = "-tune"
_WHOLE = 2**53  # what JavaScript knows as whole numbers


def content(places: Iterable[Path]) -> dict[str, Any]:
    """Everything that the page shows of runs folders, packed files, cost sweeps and folders of these.

    A record that was left out is named, in ``left_out``. Raises ``ValueError`` as :func:`results.runs.read_runs` does.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LeftOut)
        sweeps, folders = _told_apart(places)
        suites: dict[str, list[Records]] = defaultdict(list)
        wanted: dict[str, list[str]] = defaultdict(list)
        for folder in folders:  # one by one: a network may be of two suites
            first, found = headlines([folder]), read_runs([folder])
            there = {(name, own.network.id) for name, suite in suites.items() for own in suite}
            # What was measured of a suite's networks elsewhere, transfer say, is a chapter of its own.
            again = any((own.network.suite, own.network.id) in there for own in found)
            for records in found:
                name = folder.stem if again else records.network.suite
                suites[name].append(records)
                wanted[name] += first
        points = curves.points_each(sum(map(len, suites.values())))
        ordered = sorted(suites.items(), key=lambda item: (item[0].endswith(_TUNING), item[0]))
        chapters = [_suite(name, without_repeats(found), wanted[name], points) for name, found in ordered]
    chapters += [sweep.chapter(name, cells) for name, cells in sweeps.items()]
    left_out = [str(warning.message) for warning in caught]
    return {"version": __version__, "chapters": chapters, "left_out": list(dict.fromkeys(left_out))}


def encode(tree: Any) -> str:
    """JSON in which no number is infinite or ``nan``."""
    return json.dumps(_rounded(tree), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _told_apart(places: Iterable[Path]) -> tuple[dict[str, list[CostCell]], list[Path]]:
    """Cost sweeps by name, and places of runs; a folder that holds sweeps beside runs folders stands for its own."""
    sweeps: dict[str, list[CostCell]] = {}
    folders: list[Path] = []
    for place in places:
        below = {child: cells_in(child) for child in sorted(place.glob("*/"))} if place.is_dir() else {}
        if cells := cells_in(place):
            below = {place: cells}
        elif not any(below.values()):
            folders.append(place)
            continue
        for child, cells in below.items():
            if cells:
                sweeps[str(child) if child.name in sweeps else child.name] = cells
            elif (child / PACKED_NAME).exists() or any(child.glob(f"*/{NETWORK_NAME}")):
                folders.append(child)
    return sweeps, folders


def _suite(name: str, found: Sequence[Records], wanted: Sequence[str], points: int) -> dict[str, Any]:
    collection = tabulate(found, list(dict.fromkeys(wanted)))
    summary = summarise(collection)
    own = tables.Configurations.of(collection, summary)
    shown, differences = tables.tables(collection, summary, own)
    return {
        "kind": "runs",
        "name": name,
        "about": runs.about(found),
        "methods": own.methods,
        "configurations": own.rows,
        "tables": shown,
        "differences": differences,
        "regime": regime(collection, summary),
        "published": tables.published(summary),
        "runs": runs.runs(collection, own, points),
    }


def _rounded(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(key): _rounded(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_rounded(value) for value in tree]
    tree = tree.item() if hasattr(tree, "item") else tree
    if not isinstance(tree, float):
        return tree
    if not math.isfinite(tree):
        return None
    return int(tree) if tree.is_integer() and abs(tree) < _WHOLE else float(f"{tree:.6g}")
