"""The records of a runs folder: the only thing the harness and the tables share.

``RUNS/<network>/`` holds ``network.json`` (:class:`NetworkRecord`), ``metrics.jsonl`` (one line a logged step), the
network's weights, and ``measurements/<probe>-<digest>.json`` (:class:`MeasurementRecord`), one file a measurement.
"""

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, field_serializer, model_validator

SCHEMA_VERSION: Final = 2
NETWORK_NAME = "network.json"
MEASUREMENTS_NAME = "measurements"
METRICS_NAME = "metrics.jsonl"
# How far a measurement is that is under way: what it is at, how much of it is done, of how much.
PROGRESS_NAME = ".progress.json"
# The story of a network's attempts: a line where one starts, and one where its end was seen.
ATTEMPTS_NAME = "attempts.jsonl"
# Beside the networks: whose runs these are, and what is listed to be measured.
SUITE_NAME = "suite.json"
# In a measurement's details: by the metric's name, its values on each draw, the same label sets for every network.
DRAWS = "draws"
# A folder that holds a packed file of this name, and no records, is read as the folder that was packed.
PACKED_NAME = "records.jsonl"

Status = Literal["done", "failed", "diverged", "out-of-memory", "interrupted"]
ProtocolValue = str | int | float
MemoryCounter = Literal["tensor storages", "cuda allocator", "numpy arrays", "resident pages"]


class Frozen(BaseModel):
    """A validated value: no unknown keys, no changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(Frozen):
    """One measured figure with the protocol that gives it meaning."""

    metric: str = Field(description="what is measured: knn_top1, linear_top1, rankme, ...")
    protocol: dict[str, ProtocolValue] = Field(description="how: probe, k, T, split, epoch, ...")
    value: float
    unit: Literal[
        "fraction",
        "nats",
        "dimensions",
        "squared distance",
        "squared norm",
        "correlation",
        "difference",
        "relative",
    ] = "fraction"
    sd: float | None = Field(default=None, description="standard deviation over draws, where the protocol draws")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def name(self) -> str:
        """The metric and its protocol in one string, e.g. ``knn_top1[k=20,T=0.07,split=test,epoch=60]``."""
        return f"{self.metric}[{','.join(f'{key}={value}' for key, value in self.protocol.items())}]"

    @field_serializer("value", "sd", when_used="json")
    def _finite_or_text(self, value: float | None) -> float | str | None:
        # JSON has no NaN: a figure that is not finite is written as text, which pydantic reads back.
        return value if value is None or math.isfinite(value) else str(value)

    @model_validator(mode="before")
    @classmethod
    def _without_name(cls, content: Any) -> Any:
        # Derived: written for readers of the JSON, dropped as it is read.
        return {key: content[key] for key in content if key != "name"} if isinstance(content, dict) else content


def request_of(text: str) -> tuple[str, dict[str, str]]:
    """A metric's name, and any of its protocol's keys with their values.

    ``fewshot_top1[labels_per_class=1,split=tune`` (the last bracket may be there) asks for one label a class, not ten.
    Raises ``ValueError`` where the text is not of this form.
    """
    name, _, inner = text.removesuffix("]").partition("[")
    wanted = [part.partition("=") for part in inner.split(",") if part]
    if not name or not all(key and sign for key, sign, _ in wanted):
        raise ValueError(f"{text!r} asks for no metric: it is a name, or NAME[key=value,key=value]")
    return name, {key.strip(): value.strip() for key, _, value in wanted}


def matches(metric: Metric, request: str) -> bool:
    """Whether ``metric`` is what ``request`` asks for, as :func:`request_of` reads it."""
    name, wanted = request_of(request)
    return metric.metric == name and all(is_as_asked(metric.protocol.get(key), wanted[key]) for key in wanted)


def is_as_asked(value: ProtocolValue | None, text: str) -> bool:
    """Whether a value of a protocol is what a request says of it."""
    if not isinstance(value, int | float):
        return value == text
    with suppress(ValueError):
        return value == float(text)
    return False


class Quartiles(Frozen):
    """Median and quartiles of ``n`` samples, in seconds."""

    median: float
    q1: float
    q3: float
    n: int


class Cost(Frozen):
    """What making a network took. Seconds and bytes; peaks are of live tensor storage or of the CUDA allocator."""

    step_seconds: Quartiles | None = None
    loss_seconds: Quartiles | None = None
    images_per_second: float | None = None
    peak_bytes_step: int | None = None
    resident_bytes: int | None = Field(default=None, description="on a GPU beside the step and not its own: data, say")
    peak_bytes_loss: int | None = None
    memory_counter: MemoryCounter | None = None
    train_seconds: float = 0.0


class Provenance(Frozen):
    """Where a number comes from."""

    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    device: str
    host: str
    threads: int
    flags: dict[str, bool | str] = Field(default={}, description="how the device computes: TF32, cuDNN's choices")
    cost_model: dict[str, float] = Field(default={}, description="its constants on this device, which choose the form")
    world_size: int = 1
    jobs: int = Field(default=1, description="processes side by side on the machine, each on a run of its own")
    slurm_job: str | None = None
    attempts: int = 1
    lost_seconds: float = Field(default=0.0, description="work that earlier attempts did and could not keep")
    started: str
    finished: str


class Converted(Frozen):
    """What a record of an older schema said and this one has no place for."""

    schema_version: int
    id: str
    evaluation_seconds: float = Field(description="of all its probes together")


class OtherVersion(ValueError):
    """A record that another version of this project wrote: nothing of it is damaged."""


class RecordFile(Frozen):
    """A record that is a file of its own."""

    what: ClassVar[str] = "record"

    def write(self, path: Path) -> Path:
        """Write the record to ``path``, atomically; its folder is made where there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record. Raises ``ValueError`` with one sentence where the file is damaged or of another version."""
        return cls.from_json(parse_json(path.read_bytes(), path, cls.what), path)

    @classmethod
    def from_json(cls, content: Any, place: object) -> Self:
        """A record from its JSON, found at ``place``.

        Raises ``ValueError`` with one sentence where it is none, :class:`OtherVersion` where it may be whole.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            ours = cls.model_fields["schema_version"].default
            version = content.get("schema_version") if isinstance(content, dict) else None
            version = version if isinstance(version, int) else ours
            # Damage takes keys away; keys and values that nobody here knows were written by somebody later.
            unknown = isinstance(content, dict) and any(fault["type"] != "missing" for fault in error.errors())
            if version != ours or unknown:
                age = "an older" if version < ours else "a newer"
                raise OtherVersion(f"{cls.what} {place} is of {age} version of spherebench") from error
            raise ValueError(f"damaged {cls.what} {place}: {first_line(error)}") from error


class NetworkRecord(RecordFile):
    """One network, whatever became of it: ``network`` is its resolved settings, ``axes`` its values on the axes."""

    schema_version: Literal[2] = SCHEMA_VERSION
    id: str
    suite: str
    status: Status
    message: str = ""
    title: str = Field(description="the method's name in tables")
    network: dict[str, Any] = Field(description="its kind, and the fields of that kind")
    axes: dict[str, Any]
    form: str | None = Field(default=None, description="the form the loss ran in: primal, dual, rowwise, sliced")
    cost: Cost = Cost()
    provenance: Provenance
    converted: Converted | None = None


class MeasurementCost(Frozen):
    """What a measurement took, the features that it was the first to need included."""

    seconds: float | None = Field(default=None, description="None where only the sum over all probes is known")
    peak_bytes: int | None = Field(default=None, description="on a GPU, beyond what lay there when it began")
    resident_bytes: int | None = Field(default=None, description="on a GPU, what lay there when it began")


class MeasurementRecord(RecordFile):
    """One probe on one network, whatever became of it."""

    schema_version: Literal[2] = SCHEMA_VERSION
    id: str = Field(description="<probe>-<digest>, the name of its file")
    network: str = Field(description="the id of its network")
    probe: str
    status: Status
    message: str = ""
    settings: dict[str, Any] = Field(description="the probe's options, and the data, split and precision it reads in")
    metrics: tuple[Metric, ...] = ()
    details: dict[str, Any] = Field(default={}, description="what figures are drawn of: a spectrum, a picture")
    cost: MeasurementCost = MeasurementCost()
    provenance: Provenance


def network_path(folder: Path) -> Path:
    """The record of the network in ``folder``."""
    return folder / NETWORK_NAME


def measurement_path(folder: Path, measurement: str) -> Path:
    """The record of a measurement, by its id, of the network in ``folder``."""
    return folder / MEASUREMENTS_NAME / f"{measurement}.json"


def first_line(error: BaseException) -> str:
    """What an error says, in one line: for a validation error the place and the reason of its first fault."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return ": ".join(filter(None, [".".join(str(part) for part in fault["loc"]), fault["msg"]]))
    return (str(error).splitlines() or [type(error).__name__])[0]


def parse_json(content: bytes, place: object, what: str = "file") -> Any:
    """What JSON says that was found at ``place``. Raises ``ValueError`` with one sentence where it is damaged."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"damaged {what} {place}: {first_line(error)}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a log, one a line: none where there is no file, and none of a line that a kill tore."""
    lines: list[Any] = []
    with suppress(OSError):
        for text in path.read_bytes().split(b"\n"):
            with suppress(ValueError):
                lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict)]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: to a neighbour first, flushed to disk, then renamed over ``path``.

    Raises ``OSError`` that names ``path``.
    """
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with neighbour.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
    except OSError as error:
        # Not of the neighbour, or of no file, as where the disk is full.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        neighbour.unlink(missing_ok=True)
