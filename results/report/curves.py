"""What networks logged as they were trained, thinned for the page."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from results.record import METRICS_NAME, NETWORK_NAME
from results.runs import Records, within

# Points of a curve: all curves of a page share the second number, none has more than the third or fewer than the first.
_FEWEST, _SHARED, _MOST = 24, 24_000, 160
# What a line says beside the quantities that are drawn over steps.
_PLACES = ("epoch", "step", "total_steps")
_STEP = re.compile(rb'"step": ?(\d+)')


def points_each(networks: int) -> int:
    """How many points each curve of a page of so many networks has."""
    return min(_MOST, max(_FEWEST, _SHARED // max(networks, 1)))


def of_network(records: Records, most: int) -> dict[str, Any] | None:
    """The curve of a network; None where it logged nothing."""
    lines = _in_file(records.place / METRICS_NAME) if records.packed is None else _by_step(records.packed)
    curve = thinned(lines, most)
    return curve if curve["step"] else None


def thinned(lines: Mapping[int, Any], most: int) -> dict[str, Any]:
    """``step`` and, by name, every quantity that was logged: loss, terms, learning rate, an online probe where there is
    one. Every k-th of the ``lines``, by step and parsed or not, and the last, as they were logged.
    """
    steps = sorted(lines)
    kept = {*steps[:: max(1, math.ceil(len(steps) / most))], *steps[-1:]}
    rows = {step: _quantities(line) for step in sorted(kept) if (line := _parsed(lines[step]))}
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {"step": [*rows], "values": {name: [row.get(name) for row in rows.values()] for name in names}}


def under_way(places: Sequence[Path]) -> list[dict[str, Any]]:
    """The networks that have logged and have no record yet: how far each is, and its curve so far."""
    found = []
    for path in sorted(path for place in places for path in within(place, METRICS_NAME)):
        if not (path.parent / NETWORK_NAME).exists():
            lines = _in_file(path)
            last = next((line for step in sorted(lines, reverse=True) if (line := _parsed(lines[step]))), {})
            place = {name: last.get(name) for name in _PLACES}
            found.append({"id": path.parent.name, **place, "curve": thinned(lines, _MOST)})
    return found


def _in_file(path: Path) -> dict[int, bytes]:
    """The lines of a log by step, the later of two; not parsed, of which most never are."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return {}
    return {int(found[1]): line for line in lines if (found := _STEP.search(line))}


def _by_step(log: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    lines = {}
    for line in log:
        with suppress(KeyError, TypeError, ValueError):
            lines[int(line["step"])] = line
    return lines


def _parsed(line: Any) -> dict[str, Any]:
    """A line; nothing where it was torn by a kill, or is half written as it is read."""
    with suppress(ValueError):
        line = json.loads(line) if isinstance(line, bytes) else line
        return line if isinstance(line, dict) else {}
    return {}


def _quantities(line: dict[str, Any]) -> dict[str, float | None]:
    """The numbers of a line but for its place; what is not finite, packed as text or not, is ``None``."""
    terms = line.get("terms")
    flat = {**line, **(terms if isinstance(terms, dict) else {})}
    found: dict[str, float | None] = {}
    for name, value in flat.items():
        with suppress(TypeError, ValueError):
            if name not in _PLACES and not isinstance(value, bool):
                number = float(value)
                found[name] = float(f"{number:.4g}") if math.isfinite(number) else None
    return found
