"""The one reader of runs folders, and the one file that a runs folder packs into.

A packed file holds a JSON object a line: first ``{"line": "runs", "schema_version": ...}``, then the suites
(``"suite"``), then for every network its record (``"network"``), those of its measurements (``"measurement"``) and what
it logged (``"curve"``).
"""

import json
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from results.record import (
    MEASUREMENTS_NAME,
    METRICS_NAME,
    NETWORK_NAME,
    PACKED_NAME,
    SCHEMA_VERSION,
    SUITE_NAME,
    MeasurementRecord,
    NetworkRecord,
    parse_json,
    read_lines,
    write_atomically,
)

_OLD_NAME = "record.json"

R = TypeVar("R")


class LeftOut(UserWarning):
    """A record that could not be used."""


@dataclass(frozen=True, eq=False)
class Records:
    """The records of one network and of its measurements, and ``place``: its folder, or the packed file."""

    network: NetworkRecord
    measurements: tuple[MeasurementRecord, ...]
    place: Path
    packed: tuple[dict[str, Any], ...] | None = None

    def curve(self) -> list[dict[str, Any]]:
        """The lines that it logged as it was trained, as they were written; one that a kill tore is passed over."""
        return read_lines(self.place / METRICS_NAME) if self.packed is None else list(self.packed)


def read_runs(places: Iterable[Path]) -> list[Records]:
    """What is in ``places``: runs folders, networks' folders, folders of runs folders, packed files.

    Nothing is written. A record that is damaged or of a newer version, and a network that was already read from another
    place, are left out with a :class:`LeftOut` warning. Raises ``ValueError`` in one sentence where a place is missing,
    holds no readable record, or is of an older version.
    """
    found = without_repeats(records for place in places for records in _read(Path(place)))
    if not found:
        raise ValueError("no runs folder was named")
    return found


def without_repeats(found: Iterable[Records]) -> list[Records]:
    """Each network once: one that was read from another place before is left out with a :class:`LeftOut` warning."""
    kept: dict[str, Records] = {}
    for records in found:
        name, first = records.network.id, kept.setdefault(records.network.id, records).place
        if first.resolve() != records.place.resolve():
            _warn(f"network {name} is in {first} and again in {records.place}: the first is used")
    return list(kept.values())


def headlines(places: Iterable[Path]) -> tuple[str, ...]:
    """The metrics that the suites in ``places`` begin with, as :func:`results.record.matches` takes them."""
    notes: list[dict[str, Any]] = []
    for place in map(Path, places):
        notes += _suites(place)
        for path in [place] if place.is_file() else within(place, PACKED_NAME, depth=1):
            with path.open("rb") as lines:
                next(lines)
                of_suites = takewhile(lambda line: line.startswith(b'{"line":"suite"'), lines)
                notes += [parse_json(line, path)["suite"] for line in of_suites]
    return tuple(dict.fromkeys(name for note in notes for name in note.get("headline", ())))


def _suites(place: Path) -> list[dict[str, Any]]:
    paths = sorted(within(place, SUITE_NAME, depth=1))
    found = [_left_out(lambda path: parse_json(path.read_bytes(), path), path) for path in paths]
    return [suite for suite in found if suite]


def pack(folder: Path, to: Path) -> int:
    """Write what :func:`read_runs` reads in ``folder`` as one file, atomically; returns the number of networks.

    The same records give the same bytes. Raises ``ValueError`` as :func:`read_runs` does, and for what is packed.
    """
    found = read_runs([folder])
    if any(records.packed is not None for records in found):
        raise ValueError(f"{folder} is packed already")
    lines: list[dict[str, Any]] = [{"line": "runs", "schema_version": SCHEMA_VERSION}]
    lines += [{"line": "suite", "suite": suite} for suite in _suites(folder)]
    for records in found:
        lines += [{"line": "network", "record": records.network.model_dump(mode="json")}]
        for record in records.measurements:
            # A metric's name says its protocol once more.
            content = record.model_dump(mode="json", exclude={"metrics": {"__all__": {"name"}}})
            lines += [{"line": "measurement", "record": content}]
        if curve := records.curve():
            lines += [{"line": "curve", "network": records.network.id, "log": curve}]
    # JSON has no numbers that are not finite: they are written as text, which ``float`` reads back.
    finite = [json.loads(json.dumps(line), parse_constant=lambda text: str(float(text))) for line in lines]
    text = "".join(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in finite)
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(to, text.encode())
    return len(found)


def _read(place: Path) -> list[Records]:
    """Every network in ``place``, and of each runs folder that holds none, those in its packed file."""
    if not place.exists():
        raise ValueError(f"runs folder {place}: there is no such folder")
    networks = within(place, NETWORK_NAME)
    folders = {path.parent.parent for path in networks}
    packed = [path for path in within(place, PACKED_NAME, depth=1) if path.parent not in folders]
    found: list[Records] = []
    for path in [place] if place.is_file() else sorted(networks + packed):
        found += _in_folder(path.parent) if path.name == NETWORK_NAME else _unpacked(path)
    old = sorted(within(place, _OLD_NAME))
    if old and not found:
        raise ValueError(
            f"runs folder {place}: was written by an older version of spherebench, whose records this one cannot read; "
            "run the suite again into another folder"
        )
    if not found:
        raise ValueError(f"runs folder {place}: no readable {NETWORK_NAME} or {PACKED_NAME} in it or two levels down")
    for path in old:
        _warn(f"record {path} is of an older version of spherebench; left out")
    return found


def within(place: Path, name: str, depth: int = 2) -> list[Path]:
    """The files of a name, or pattern, in a place, its runs folders and their networks."""
    # No deeper than runs/<suite>/<network>: a network's folder may hold a copy of this repository with its records.
    return [path for level in range(depth + 1) for path in place.glob("*/" * level + name)]


def _in_folder(folder: Path) -> list[Records]:
    record = _left_out(NetworkRecord.read, folder / NETWORK_NAME)
    if record is None:
        return []
    paths = sorted((folder / MEASUREMENTS_NAME).glob("*.json"))
    measurements = [found for path in paths if (found := _left_out(MeasurementRecord.read, path)) is not None]
    for other in [measurement for measurement in measurements if measurement.network != record.id]:
        _warn(f"{folder}: measurement {other.id} is of {other.network}, another network; left out")
        measurements.remove(other)
    return [Records(record, tuple(measurements), folder)]


def _unpacked(path: Path) -> list[Records]:
    """The networks of a packed file."""
    first, *lines = path.read_bytes().split(b"\n")
    if not re.fullmatch(rb'\{"line":"runs","schema_version":\d+\}', first):
        raise ValueError(f"{path}: is a file, but none that `spherebench pack` wrote")
    if (version := json.loads(first)["schema_version"]) != SCHEMA_VERSION:
        age = "a newer" if version > SCHEMA_VERSION else "an older"
        raise ValueError(f"{path}: was packed by {age} version of spherebench, whose records this one cannot read")
    networks: list[NetworkRecord] = []
    measurements: dict[str, list[MeasurementRecord]] = defaultdict(list)
    curves: dict[str, tuple[dict[str, Any], ...]] = {}

    def take(text: bytes, place: str) -> None:
        line = parse_json(text, place)
        try:
            if line["line"] == "network":
                networks.append(NetworkRecord.from_json(line["record"], place))
            elif line["line"] == "measurement":
                record = MeasurementRecord.from_json(line["record"], place)
                measurements[record.network].append(record)
            elif line["line"] == "curve":
                curves[line["network"]] = tuple(line["log"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"damaged record {place}: {error!r}") from error

    for number, text in enumerate(lines, 2):
        if text:
            _left_out(take, text, f"{path}, line {number}")
    return [Records(own, tuple(measurements[own.id]), path, curves.get(own.id, ())) for own in networks]


def _left_out(read: Callable[..., R], *args: Any) -> R | None:
    """What ``read`` returns; a warning, and None, where it could not."""
    try:
        return read(*args)
    except (ValueError, OSError) as error:
        _warn(f"{error}; left out")
        return None


def _warn(sentence: str) -> None:
    warnings.warn(sentence, LeftOut, stacklevel=4)
