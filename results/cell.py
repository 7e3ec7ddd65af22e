"""The record of one cost cell: what one loss, or one training step, took at one shape and precision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from results.record import (
    PACKED_NAME,
    Frozen,
    MemoryCounter,
    Provenance,
    Quartiles,
    Status,
    first_line,
    write_atomically,
)

CELLS_FOLDER = "cells"
_PACKED_CELLS = b'{"line":"cells","schema_version":1}'

# Of a loss and its gradient: time and memory, or errors against float64. Time and memory of a training step; of a fit
# in the kernel regime, whose `batch_size` is the number of rows and whose `embedding_dim` is that of components.
Scope = Literal["loss", "errors", "step", "fit"]


class Measurement(Frozen):
    """What one implementation took."""

    seconds: Quartiles
    peak_bytes: int = Field(description="the most that lived at once beyond the inputs; of a step, everything")
    peak_rss_bytes: int | None = Field(default=None, description="of the whole process, where that was asked for")
    flop: int | None = Field(default=None, description="of products and convolutions, by torch's FlopCounterMode")
    phases: dict[str, float] = Field(default={}, description="of a step: median seconds of its parts")

    def over(self, other: Measurement) -> tuple[float, float]:
        """The ratios of time and of memory, this over the other's."""
        return self.seconds.median / other.seconds.median, self.peak_bytes / max(1, other.peak_bytes)


class CostCell(Frozen):
    """One cell of a cost sweep, and where it was measured."""

    schema_version: Literal[1] = 1
    scope: Scope
    method: str
    title: str = Field(description="the method's name in tables")
    form: str | None = Field(default=None, description="primal, dual or rowwise, as it was computed")
    embedding_dim: int
    batch_size: int
    precision: str
    network: str = Field(default="", description="of a step: the suite, its backbone and the size of its images")
    status: Status
    message: str = ""
    input_bytes: int | None = Field(default=None, description="of the two embeddings, or of the two views")
    measured: Measurement | None = None
    reference: Measurement | None = Field(default=None, description="the textbook form, interleaved with ours")
    reference_status: Status | None = None
    peers: dict[str, Measurement] = {}
    memory_counter: MemoryCounter | None = None
    product_rate: float | None = Field(default=None, description="flop/s of a large square matrix product, interleaved")
    value_error: float | None = Field(default=None, description="relative, against float64 on the same embeddings")
    gradient_error: float | None = Field(default=None, description="relative, in the Frobenius norm")
    provenance: Provenance

    def row(self) -> dict[str, Any]:
        """The cell on one level; ratios are reference over ours, the rate's fraction is of that of a large product."""
        own, rate, compared = self.measured, None, {}
        if own and own.flop is not None and self.product_rate:
            rate = own.flop / own.seconds.median / self.product_rate
        if self.reference_status is not None:
            time, memory = self.reference.over(own) if own and self.reference else (None, None)
            ratios = {"time_ratio": time, "memory_ratio": memory}
            compared = {"reference_status": self.reference_status, **_flat("reference_", self.reference), **ratios}
        return {
            **self.model_dump(include={"scope", "method", "form", "embedding_dim", "batch_size", "precision"}),
            **self.model_dump(include={"network", "status", "message", "input_bytes"}),
            **_flat("", own),
            "rate_fraction": rate,
            "product_rate": self.product_rate,
            **compared,
            **{key: value for name, peer in self.peers.items() for key, value in _flat(f"{name}_", peer).items()},
            **self.model_dump(include={"value_error", "gradient_error"}, exclude_none=True),
            **{name: getattr(self.provenance, name) for name in ("device", "threads", "commit")},
        }

    @classmethod
    def read(cls, path: Path) -> CostCell:
        """Read a cell. Raises ``ValueError`` with one sentence where the file is damaged."""
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, content: bytes, place: str) -> CostCell:
        """A cell from its JSON, found at ``place``. Raises ``ValueError`` with one sentence where it is damaged."""
        try:
            return cls.model_validate(json.loads(content))
        except ValueError as error:
            raise ValueError(f"damaged cost cell {place}: {first_line(error)}") from error


def _flat(prefix: str, measured: Measurement | None) -> dict[str, Any]:
    if measured is None:
        return {f"{prefix}seconds": None, f"{prefix}peak_bytes": None}
    seconds, more = measured.seconds, {"flop": measured.flop, "peak_rss_bytes": measured.peak_rss_bytes}
    found = {"seconds": seconds.median, "seconds_q1": seconds.q1, "seconds_q3": seconds.q3, "repeats": seconds.n}
    found |= {"peak_bytes": measured.peak_bytes, **{name: value for name, value in more.items() if value is not None}}
    found |= {f"{phase}_seconds": value for phase, value in measured.phases.items()}
    return {prefix + name: value for name, value in found.items()}


def cells_in(place: Path) -> list[CostCell]:
    """The cells of a sweep's folder, or of its packed file, in the order of their names; none where it is no sweep.

    Raises ``ValueError`` with one sentence where one is damaged.
    """
    if paths := sorted((place / CELLS_FOLDER).glob("*.json")):
        return [CostCell.read(path) for path in paths]
    packed = place / PACKED_NAME if place.is_dir() else place
    lines = packed.read_bytes().splitlines() if packed.is_file() else []
    if lines[:1] != [_PACKED_CELLS]:
        return []
    return [CostCell.parse(line, f"{packed}, line {number}") for number, line in enumerate(lines[1:], 2)]


def pack_cells(cells: Sequence[CostCell], to: Path) -> None:
    """Write a sweep's cells as one file, a line each, atomically; :func:`cells_in` reads it."""
    lines = [_PACKED_CELLS, *(cell.model_dump_json().encode() for cell in cells)]
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(to, b"".join(line + b"\n" for line in lines))
