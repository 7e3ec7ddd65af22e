"""The record of one run: the only thing the harness and the tables share.

A run folder holds ``record.json`` (this schema), ``metrics.jsonl`` (one line a logged step) and checkpoints; in the
kernel regime, ``spectrum.json`` and ``kernel.npz``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, field_serializer, field_validator

SCHEMA_VERSION: Final = 1
RECORD_NAME = "record.json"
# Beside the record of a run in the kernel regime: the embedding's spectrum, and the kernel's picture in the plane.
SPECTRUM_NAME = "spectrum.json"
KERNEL_NAME = "kernel.npz"

Status = Literal["done", "failed", "diverged", "out-of-memory", "interrupted"]
ProtocolValue = str | int | float


class Frozen(BaseModel):
    """A validated value: no unknown keys, no changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(Frozen):
    """One measured figure with the protocol that gives it meaning."""

    metric: str = Field(description="what is measured: knn_top1, linear_top1, rankme, ...")
    protocol: dict[str, ProtocolValue] = Field(description="how: probe, k, T, split, epoch, ...")
    value: float
    unit: Literal["fraction", "nats", "dimensions", "squared distance"] = "fraction"
    sd: float | None = Field(default=None, description="standard deviation over draws, where the protocol draws")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def name(self) -> str:
        """The metric and its protocol in one string, e.g. ``knn_top1[k=20,T=0.07,split=test,epoch=60]``."""
        return f"{self.metric}[{','.join(f'{key}={value}' for key, value in self.protocol.items())}]"

    @field_serializer("value", "sd", when_used="json")
    def _finite_or_text(self, value: float | None) -> float | str | None:
        # JSON has no NaN: a figure that is not finite is written as text, and read back by _from_text.
        return value if value is None or math.isfinite(value) else str(value)

    @field_validator("value", "sd", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return float(value) if isinstance(value, str) else value


class Quartiles(Frozen):
    """Median and quartiles of ``n`` samples, in seconds."""

    median: float
    q1: float
    q3: float
    n: int


class Cost(Frozen):
    """What a run took. Seconds and bytes; peaks are of live tensor storage or of the CUDA allocator."""

    step_seconds: Quartiles | None = None
    loss_seconds: Quartiles | None = None
    images_per_second: float | None = None
    peak_bytes_step: int | None = None
    peak_bytes_loss: int | None = None
    memory_counter: Literal["tensor storages", "cuda allocator", "numpy arrays"] | None = None
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0


class Provenance(Frozen):
    """Where a number comes from."""

    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    device: str
    host: str
    threads: int
    world_size: int = 1
    slurm_job: str | None = None
    attempts: int = 1
    lost_seconds: float = Field(default=0.0, description="training that earlier attempts did and could not keep")
    started: str
    finished: str


class Record(Frozen):
    """One run, whatever became of it: ``run`` is the resolved Run, ``axes`` its values on the suite's axes."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    suite: str
    status: Status
    message: str = ""
    title: str = Field(description="the method's name in tables")
    run: dict[str, Any]
    axes: dict[str, Any]
    form: str | None = Field(default=None, description="the form the loss ran in: primal, dual, rowwise")
    metrics: tuple[Metric, ...] = ()
    cost: Cost = Cost()
    provenance: Provenance

    def write(self, folder: Path) -> Path:
        """Write ``record.json`` in ``folder``, atomically."""
        path = folder / RECORD_NAME
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())
        return path

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record. Raises ``ValueError`` with one sentence where the file is damaged."""
        try:
            # Metric.name is derived: written for readers of the JSON, dropped before validation.
            return cls.model_validate(_without_names(json.loads(path.read_bytes())))
        except (ValidationError, ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"damaged record {path}: {first_line(error)}") from error


def _without_names(raw: Mapping[str, Any]) -> dict[str, Any]:
    metrics = [{key: value for key, value in metric.items() if key != "name"} for metric in raw.get("metrics", ())]
    return {**raw, "metrics": metrics}


def first_line(error: BaseException) -> str:
    """What an error says, in one line: for a validation error the place and the reason of its first fault."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return ": ".join(filter(None, [".".join(str(part) for part in fault["loc"]), fault["msg"]]))
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: to a neighbour first, flushed to disk, then renamed over ``path``."""
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with neighbour.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
    finally:
        neighbour.unlink(missing_ok=True)
