"""The record of one cost cell: what one loss, or one training step, took at one shape and precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from results.record import Frozen, Provenance, Quartiles, Status, first_line

CELLS_FOLDER = "cells"

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
    memory_counter: Literal["tensor storages", "cuda allocator", "numpy arrays"] | None = None
    product_rate: float | None = Field(default=None, description="flop/s of a large square matrix product, interleaved")
    value_error: float | None = Field(default=None, description="relative, against float64 on the same embeddings")
    gradient_error: float | None = Field(default=None, description="relative, in the Frobenius norm")
    provenance: Provenance

    def row(self) -> dict[str, Any]:
        """The cell on one level, for tables and programs; ratios are reference over ours."""
        return {
            **self.model_dump(include={"scope", "method", "form", "embedding_dim", "batch_size", "precision"}),
            **self.model_dump(include={"network", "status", "message", "input_bytes"}),
            **_flat("", self.measured),
            "rate_fraction": self._rate_fraction(),
            "product_rate": self.product_rate,
            **({} if self.reference_status is None else self._against_reference()),
            **{key: value for name, peer in self.peers.items() for key, value in _flat(f"{name}_", peer).items()},
            **self._errors(),
            **{name: getattr(self.provenance, name) for name in ("device", "threads", "commit")},
        }

    def _against_reference(self) -> dict[str, Any]:
        ratios: dict[str, Any] = {"time_ratio": None, "memory_ratio": None}
        if self.measured and self.reference:
            ratios["time_ratio"] = self.reference.seconds.median / self.measured.seconds.median
            ratios["memory_ratio"] = self.reference.peak_bytes / max(1, self.measured.peak_bytes)
        return {"reference_status": self.reference_status, **_flat("reference_", self.reference), **ratios}

    def _rate_fraction(self) -> float | None:
        """Flop per second over those of a large matrix product."""
        if self.measured is None or self.measured.flop is None or not self.product_rate:
            return None
        return self.measured.flop / self.measured.seconds.median / self.product_rate

    def _errors(self) -> dict[str, float]:
        errors = {"value_error": self.value_error, "gradient_error": self.gradient_error}
        return {name: error for name, error in errors.items() if error is not None}

    @classmethod
    def read(cls, path: Path) -> CostCell:
        """Read a cell. Raises ``ValueError`` with one sentence where the file is damaged."""
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except (ValidationError, ValueError) as error:
            raise ValueError(f"damaged cost cell {path}: {first_line(error)}") from error


def _flat(prefix: str, measured: Measurement | None) -> dict[str, Any]:
    if measured is None:
        return {f"{prefix}seconds": None, f"{prefix}peak_bytes": None}
    seconds = measured.seconds
    return {
        f"{prefix}seconds": seconds.median,
        f"{prefix}seconds_q1": seconds.q1,
        f"{prefix}seconds_q3": seconds.q3,
        f"{prefix}repeats": seconds.n,
        f"{prefix}peak_bytes": measured.peak_bytes,
        **({} if measured.flop is None else {f"{prefix}flop": measured.flop}),
        **({} if measured.peak_rss_bytes is None else {f"{prefix}peak_rss_bytes": measured.peak_rss_bytes}),
        **{f"{prefix}{phase}_seconds": value for phase, value in measured.phases.items()},
    }


def cells_in(folder: Path) -> list[CostCell]:
    """The cells of a sweep's folder, in the order of their names; none where it holds no sweep."""
    return [CostCell.read(path) for path in sorted((folder / CELLS_FOLDER).glob("*.json"))]
