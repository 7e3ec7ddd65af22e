"""Cost cells, what one loss or one training step took at one shape and precision: their records and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from results.formats import MIB, NOT_RUN, Table, for_programs, format_table, join
from results.record import (
    PACKED_NAME,
    Frozen,
    MemoryCounter,
    Provenance,
    Quartiles,
    RecordFile,
    Status,
    parse_json,
    write_atomically,
)

CELLS_FOLDER = "cells"
_PACKED_CELLS = b'{"line":"cells","schema_version":1}'

# Of a loss and its gradient: time and memory, or errors against float64. Time and memory of a training step; of a fit
# in the kernel regime, whose `batch_size` is the number of rows and whose `embedding_dim` is that of components; of a
# probe's fits, whose `embedding_dim` is that of features.
# Of an epoch, loader and step: CPU time of all processes an image, or on a GPU by the clock.
# Of views: CPU time of the loading processes an image; `method` is the recipe, `embedding_dim` the side in pixels.
Scope = Literal["loss", "errors", "step", "epoch", "fit", "probe", "views"]
Clock = Literal["wall", "cpu"]


class Measurement(Frozen):
    """What one implementation took."""

    seconds: Quartiles
    peak_bytes: int = Field(description="the most that lived at once beyond the inputs; of a step, everything")
    peak_rss_bytes: int | None = Field(default=None, description="of the whole process, where that was asked for")
    flop: int | None = Field(default=None, description="of products and convolutions, by torch's formulas")
    phases: dict[str, float] = Field(default={}, description="of a step, or of views: median seconds of its parts")

    def over(self, other: Measurement) -> tuple[float, float]:
        """The ratios of time and of memory, this over the other's."""
        return self.seconds.median / other.seconds.median, self.peak_bytes / max(1, other.peak_bytes)


class CostCell(RecordFile):
    """One cell of a cost sweep, and where it was measured."""

    what: ClassVar[str] = "cost cell"
    schema_version: Literal[1] = 1
    scope: Scope
    method: str
    title: str = Field(description="the method's name in tables")
    form: str | None = Field(default=None, description="primal, dual, rowwise or sliced, as it was computed")
    embedding_dim: int
    batch_size: int
    precision: str
    settings: tuple[str, ...] = Field(default=(), description="of a loss: options beside its defaults, NAME=VALUE")
    network: str = Field(default="", description="of a step: the suite, its backbone and the size of its images")
    status: Status
    message: str = ""
    input_bytes: int | None = Field(default=None, description="of the two embeddings, or of the two views")
    measured: Measurement | None = None
    reference: Measurement | None = Field(default=None, description="the textbook form, interleaved with ours")
    reference_status: Status | None = None
    peers: dict[str, Measurement] = {}
    memory_counter: MemoryCounter | None = None
    clock: Clock = Field(default="wall", description="of the times; cpu: of the process, which has one thread")
    product_rate: float | None = Field(default=None, description="flop/s of a large square matrix product, interleaved")
    value_error: float | None = Field(
        default=None, description="relative, against float64 on the same embeddings; of a fit, of the induced kernel"
    )
    gradient_error: float | None = Field(default=None, description="relative, in the Frobenius norm")
    objective_ratio: float | None = Field(default=None, description="of a solver: the reference's over ours, at most")
    ridges: int | None = Field(default=None, description="of a path")
    reference_ridges: int | None = Field(default=None, description="how many the reference came to before it was ended")
    provenance: Provenance

    @property
    def shape(self) -> tuple[str | int, ...]:
        """What a method was measured at: all but the form that it took."""
        return self.scope, self.method, self.embedding_dim, self.batch_size, self.precision, self.network

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
            **({"settings": " ".join(self.settings)} if self.settings else {}),
            **self.model_dump(include={"network", "status", "message", "input_bytes"}),
            **_flat("", own),
            "rate_fraction": rate,
            "product_rate": self.product_rate,
            **({"clock": self.clock} if self.clock != "wall" else {}),
            **compared,
            **{key: value for name, peer in self.peers.items() for key, value in _flat(f"{name}_", peer).items()},
            **self.model_dump(include={"value_error", "gradient_error", "objective_ratio"}, exclude_none=True),
            **self.model_dump(include={"ridges", "reference_ridges"}, exclude_none=True),
            **{name: getattr(self.provenance, name) for name in ("device", "threads", "commit")},
        }


def _flat(prefix: str, measured: Measurement | None) -> dict[str, Any]:
    if measured is None:
        return {f"{prefix}seconds": None, f"{prefix}peak_bytes": None}
    seconds = measured.seconds
    found = {"seconds": seconds.median, "seconds_q1": seconds.q1, "seconds_q3": seconds.q3, "repeats": seconds.n}
    found |= measured.model_dump(include={"peak_bytes", "flop", "peak_rss_bytes"}, exclude_none=True)
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
    places = {f"{packed}, line {number}": line for number, line in enumerate(lines[1:], 2)}
    return [CostCell.from_json(parse_json(line, place, CostCell.what), place) for place, line in places.items()]


def pack_cells(cells: Sequence[CostCell], to: Path) -> None:
    """Write a sweep's cells as one file, a line each, atomically; :func:`cells_in` reads it."""
    lines = [_PACKED_CELLS, *(cell.model_dump_json().encode() for cell in cells)]
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(to, b"".join(line + b"\n" for line in lines))


# By scope: what its tables are called, what stands beside ours, and the note below.
_SCOPES = {
    "loss": (
        "Loss and gradient",
        "textbook",
        "Loss and gradient. Median time of calls made in turns. Memory: the most that lives at once beyond the two "
        "views' embeddings, the gradients included; in brackets, over the bytes of the embeddings. Rate: of the "
        "flop of matrix products, as a part of what a large square product reaches on the same device, in turns.",
    ),
    "step": (
        "Training step: ",
        "textbook",
        "Forward with the loss, backward and update, medians. Memory: everything that lives at the peak of a step. "
        "Rate: above 100 % where a convolution takes fewer operations than are counted. Wait: from asking for a batch "
        "of views, of images in memory, to having it, as a part of the step with it.",
    ),
    "epoch": (
        "Epoch: ",
        "lightly",
        "Loader and step of whole epochs, in turns. Images/s a core: of the CPU time of all processes, or on a GPU by "
        "the clock; by the clock: on the machine as it then was. Waits: the least and the most that the processes "
        "worked on a batch while a step waited for it, over five epochs; beside what a batch takes, loader and step. "
        "Ratios over the same recipe in lightly's transforms, a torch DataLoader and lightly's loss, around "
        "torchvision's network and an optimiser that goes parameter by parameter.",
    ),
    "views": (
        "Views: ",
        "torchvision",
        "CPU time of a loading process for all views of an image, to decode it and to crop, resize and flip; and the "
        "time of what is done to batches on the device. Medians. Waits: the least and the most that one loading "
        "process and this one worked on a batch while it was waited for, over three epochs; beside what a batch takes. "
        "Ratio over torchvision's pipeline of the same recipe "
        "(transforms.v2), all of it in the loading process.",
    ),
    "fit": (
        "Fit in the kernel regime",
        "scikit-learn",
        "Fitting alone, on N views of 32 x 32 pixels, 16 of an image; D components; landmarks: 2,000. Memory: of "
        "NumPy's arrays beyond the rows that were there before (streamed, there are none). Ratios over scikit-learn's "
        "KernelPCA (exact) and Nystroem with PCA (streamed), which relate no views, on the same rows, by the solvers "
        "that they choose. Error: of the induced kernel among 256 new images, against float64.",
    ),
    "probe": (
        "Fits of the probe transfer",
        "scikit-learn",
        "45 ridges from 1e5 to 1e-6, the strongest first, on N rows of D features in float32 and 100 classes that "
        "overlap, each fit begun from those before it. Time: of the CPU, all threads together. Memory: resident beyond "
        "the features. Ratios over scikit-learn's LogisticRegression, warm-started on the same features, each fit "
        "until its objective is ours within 0.1 %, at 1,000 iterations and tolerance 1e-8 at the latest; it is ended "
        "after ten times our time, with the ridges that it came to. Objective: scikit-learn's over ours, the largest.",
    ),
}


def reference_name(cell: CostCell) -> str:
    """What a cell's reference is called: the textbook form, or scikit-learn's nearest."""
    return _SCOPES[cell.scope][1]


_REFERENCE_NOTE = (
    "Ratios over the textbook form of the same loss (autograd through the full Gram matrix; VICReg and Barlow Twins "
    "through the D x D matrix), or the step written plainly around it."
)
_ERROR_NOTE = (
    "Against float64 on the same embeddings, which are of the precision already; of gradients in the Frobenius norm. "
    "In fp16 the loss is scaled by 65,536, as training scales it."
)


def line(cell: CostCell) -> str:
    """One cell in one line, for somebody who waits for the next."""
    name = " ".join(part for part in (cell.scope, cell.method, cell.form) if part)
    shape = f"{name} D={cell.embedding_dim} N={cell.batch_size} {cell.precision}"
    if cell.gradient_error is not None:
        return f"{shape}: relative errors of value {cell.value_error:.1e} and gradient {cell.gradient_error:.1e}"
    own = cell.measured
    if own is None:
        return f"{shape}: {cell.status} {cell.message}"
    ratio = cell.row().get("time_ratio")
    beside = f", {ratio:.2f}x as fast as {_SCOPES[cell.scope][1]}" if ratio else ""
    return f"{shape}: {_brief(1e3 * own.seconds.median, 3)} ms, {_brief(own.peak_bytes / MIB, 2)} MiB{beside}"


def render(cells: Sequence[CostCell], format: str = "plain") -> str:
    """``plain``, ``md`` and ``latex``: tables for reading. ``csv`` and ``json``: a row a cell, in full precision."""
    if for_programs(format):
        return format_table([cell.row() for cell in cells], format)
    return join(tables(cells), format)


def tables(cells: Sequence[CostCell]) -> list[Table]:
    """A table a scope, network and machine: a row a method, form, precision, N and D."""

    def place(cell: CostCell) -> tuple[str, str, str, int]:
        return cell.scope, cell.network, cell.provenance.device, cell.provenance.threads

    found = []
    ordered = sorted(cells, key=lambda cell: (cell.title, cell.form or "", cell.batch_size, cell.embedding_dim))
    ordered.sort(key=lambda cell: (*place(cell), cell.precision))
    for (scope, network, device, threads), group in groupby(ordered, place):
        own, machine = list(group), f"{device}, threads={threads}"
        if scope == "errors":
            found += [_errors(own, name, machine) for name in ("gradient", "value")]
            continue
        what, _, note = _SCOPES[scope]
        compared = any(cell.reference_status for cell in own)
        notes = [note, _REFERENCE_NOTE] if compared and scope in ("loss", "step") else [note]
        if peers := sorted({name for cell in own for name in cell.peers}):
            known = {(name, cell.provenance.versions.get(name, "")) for cell in own for name in cell.peers}
            versions = ", ".join(sorted(" ".join(pair).strip() for pair in known))
            notes.append(f"Peers as they come, with their own defaults: {versions}.")
        if any(cell.clock == "cpu" for cell in own):
            notes.append("Times are CPU times of one thread.")
        rows = [_row(cell, compared, peers) for cell in own]
        found.append(Table(f"{what}{network}; {machine}", rows, notes))
    return found


def _row(cell: CostCell, compared: bool, peers: Sequence[str]) -> dict[str, str]:
    own, row = cell.measured, _head(cell) | {"D": str(cell.embedding_dim)}
    if own is None:
        return row | {"Time (ms)": cell.status}
    rate = cell.row()["rate_fraction"]
    over_inputs = f" ({own.peak_bytes / cell.input_bytes:.2f}x)" if cell.scope == "loss" and cell.input_bytes else ""
    memory = _brief(own.peak_bytes / MIB, 2) + over_inputs
    if cell.scope == "views":
        return _views_row(cell, own)
    if cell.scope == "epoch":
        return _epoch_row(cell, own)
    row |= {"Time (ms)": _brief(1e3 * own.seconds.median, 3), "Memory (MiB)": memory}
    row |= {"Rate": f"{100 * rate:.0f} %" if rate else NOT_RUN}
    if cell.scope == "step":
        step, wait = own.seconds.median, own.phases.get("data", 0.0)
        row |= {"Images/s": f"{cell.batch_size / step:.0f}"}
        row |= {f"{name} (ms)": f"{1e3 * own.phases[name]:.0f}" for name in ("forward", "backward", "update")}
        row |= {"Wait": f"{100 * wait / (step + wait):.1f} %"}
    if cell.objective_ratio is not None:
        row |= {"Objective": f"{cell.objective_ratio:.4g}x", "Ridges": f"{cell.reference_ridges} of {cell.ridges}"}
    if cell.scope == "fit":
        row["Error"] = NOT_RUN if cell.value_error is None else f"{cell.value_error:.0e}"
    if compared:
        row |= _ratios(_SCOPES[cell.scope][1], own, cell.reference, cell.reference_status)
    for name in peers:
        row |= _ratios(name, own, cell.peers.get(name))
    return row


def _views_row(cell: CostCell, own: Measurement) -> dict[str, str]:
    seconds, phases = own.seconds.median, own.phases
    row = {"Recipe": cell.title, "Side": str(cell.embedding_dim), "Batch": str(cell.batch_size)}
    row |= {"Loading (ms)": _brief(1e3 * seconds, 3), "Images/s a core": f"{1 / seconds:.0f}"}
    row |= {f"{name} (ms)": _brief(1e3 * phases[name], 3) for name in ("decode", "crop", "device")}
    row["Waits (s)"] = _waits(phases)
    if cell.reference:
        row["Loading, torchvision"] = f"{cell.reference.over(own)[0]:.2f}x"
    return row


def _waits(phases: dict[str, float]) -> str:
    """Of a batch: the least and the most, and what the batch takes."""
    return f"{phases['shortest_wait']:.2f}–{phases['longest_wait']:.2f}; {phases['batch']:.2f}"


def _epoch_row(cell: CostCell, own: Measurement) -> dict[str, str]:
    phases, row = own.phases, {"Method": cell.title, "N": str(cell.batch_size), "D": str(cell.embedding_dim)}
    row["Images/s a core"] = _brief(1 / own.seconds.median, 3)
    row |= {f"{name} (ms)": _brief(1e3 * phases[name], 3) for name in ("loading", "process")}
    row["Images/s by the clock"] = _brief(1 / phases["wall"], 3)
    row["Waits (s)"] = _waits(phases)
    if cell.reference:
        row["Time, lightly"] = f"{cell.reference.over(own)[0]:.2f}x"
        row["By the clock, lightly"] = f"{cell.reference.phases['wall'] / phases['wall']:.2f}x"
    return row


def _head(cell: CostCell) -> dict[str, str]:
    form = cell.form or NOT_RUN
    return {"Method": cell.title, "Form": form, "Precision": cell.precision, "N": str(cell.batch_size)}


def _ratios(name: str, own: Measurement, other: Measurement | None, status: str | None = None) -> dict[str, str]:
    columns = (f"Time, {name}", f"Memory, {name}")
    if other is None:
        return dict.fromkeys(columns, status if status and status != "done" else NOT_RUN)
    return dict(zip(columns, (f"{ratio:.2f}x" for ratio in other.over(own)), strict=True))


def _errors(cells: Sequence[CostCell], name: str, machine: str) -> Table:
    """Relative errors of gradient or value: a row a method, form, precision and N, a column an embedding dimension."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    dimensions = {f"D={dim}": NOT_RUN for dim in sorted({cell.embedding_dim for cell in cells})}
    for cell in cells:
        head = _head(cell)
        row = rows.setdefault(tuple(head.values()), {**head, **dimensions})
        error = cell.gradient_error if name == "gradient" else cell.value_error
        row[f"D={cell.embedding_dim}"] = cell.status if error is None else f"{error:.1e}"
    return Table(f"Relative error of the {name}; {machine}", list(rows.values()), [_ERROR_NOTE])


def _brief(value: float, digits: int) -> str:
    """To so many digits, and in full before the point."""
    return f"{value:.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"
