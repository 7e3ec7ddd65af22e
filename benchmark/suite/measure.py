"""A suite that measures: what it lists, data and probes, on networks that are there already.

Its file has ``measure`` in place of ``grid``: settings of ``data`` and ``evaluation``, a row each, over ``defaults``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.data import DataSpec
from benchmark.data.datasets import SOURCES, check_there
from benchmark.networks.base import Network
from benchmark.networks.kinds import Weights
from benchmark.networks.trained import Trained
from benchmark.probes.base import Measurement
from benchmark.runtime.errors import UserError
from benchmark.suite.config import Settings, lookup, nest, validated
from benchmark.suite.expand import SuiteFile, placed
from benchmark.suite.run import check_keys, check_not_filled_in, measurements

Row = tuple[DataSpec, Settings]  # what is measured on, and the settings of ``evaluation``
Skipped = list[tuple[dict[str, Any], str]]


def rows_of(
    file: SuiteFile, sources: Sequence[str], changes: Settings, root: Path, *, download: bool, where: str
) -> tuple[list[Row], Skipped]:
    """What a suite measures, of the data sets that are there; and of the others how to get them.

    ``sources``: of the suite's data sets these only, and others as its defaults say; ``changes``: those of ``--set``.
    Raises :class:`UserError`, or :class:`SettingError` of ``--set``, naming the key that is not known or not allowed.
    """
    listed = {f"{where}: measure.{number}.": nest(own) for number, own in enumerate(file.measure)}
    if sources:
        own = {place: row for place, row in listed.items() if lookup(row, "data.source") in sources}
        others = set(sources) - {lookup(row, "data.source") for row in own.values()}
        listed = own | {f"--data {source}: ": {"data": {"source": source}} for source in sources if source in others}
    rows: list[Row] = []
    skipped: Skipped = []
    for place, row in listed.items():
        layers = {f"{where}: defaults.": nest(file.defaults), place: row, "--set ": changes}
        with placed(layers, where) as settings:
            check_keys(settings)
            check_not_filled_in(settings)
            data = validated(DataSpec, settings.get("data", {}), "data")
        evaluation = settings.get("evaluation", {})
        read = [data.source, evaluation.get("tested_on") or data.source]
        try:
            for source in read if not download else ():
                if source in SOURCES:
                    check_there(source, root)
        except UserError as error:
            skipped.append(({"data": " to ".join(dict.fromkeys(read))}, str(error)))
        else:
            rows.append((data.identified(), evaluation))
    return rows, skipped


def measured(network: Network, rows: Sequence[Row]) -> tuple[tuple[Measurement, ...], Skipped]:
    """The measurements of a network, and of rows that its images cannot be of, why.

    Raises :class:`SettingError` naming the key of an option that is not known or not allowed.
    """
    found: dict[str, Measurement] = {}
    skipped: Skipped = []
    for data, evaluation in rows:
        asked, seen = measurements(evaluation, network, data), _channels_seen(network)
        reads = dict.fromkeys(spec for one in asked for spec in one.reads)
        unfit = {_channels_of(spec) for spec in reads} - {None, 1, seen}
        if seen is None or not unfit:
            found |= {one.id: one for one in asked}
        else:
            reason = f"its images have {unfit.pop()} channels, not for networks that see {seen}"
            skipped.append(({"data": " to ".join(spec.source for spec in reads)}, reason))
    return tuple(found.values()), skipped


def _channels_seen(network: Network) -> int | None:
    """Of images that a network takes; None of one that takes any, or where only its data could tell."""
    if isinstance(network, Weights) and network.backbone is not None:
        return network.backbone.channels
    return _channels_of(network.data) if isinstance(network, Trained) else None


def _channels_of(data: DataSpec) -> int | None:
    return len(SOURCES[data.source].mean) if data.source in SOURCES else None
