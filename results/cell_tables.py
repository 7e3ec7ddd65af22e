"""Tables of a cost sweep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from results.cell import CostCell, Measurement
from results.formats import for_programs, format_table
from results.tables import MIB, NOT_RUN, Table, join

_LOSS_NOTE = (
    "Loss and gradient. Median time of calls made in turns. Memory: the most that lives at once beyond the two views' "
    "embeddings, the gradients included; in brackets, over the bytes of the embeddings. Rate: of the flop of matrix "
    "products, as a part of what a large square product reaches on the same device, in turns."
)
_STEP_NOTE = (
    "Forward with the loss, backward and update, medians. Memory: everything that lives at the peak of a step. "
    "Rate: above 100 % where a convolution takes fewer operations than are counted. Wait: from asking for a batch of "
    "views, of images in memory, to having it, as a part of the step with it."
)
_ERROR_NOTE = (
    "Against float64 on the same embeddings, which are of the precision already; of gradients in the Frobenius norm. "
    "In fp16 the loss is scaled by 65,536, as training scales it."
)
_FIT_NOTE = (
    "Fitting alone, on N views of 32 x 32 pixels, 16 of an image; D components; landmarks: 2,000. Memory: of NumPy's "
    "arrays beyond the rows that were there before (streamed, there are none). Ratios over scikit-learn's KernelPCA "
    "(exact) and Nystroem with PCA (streamed), which relate no views, on the same rows."
)
_REFERENCE_NOTE = (
    "Ratios over the textbook form of the same loss (autograd through the full Gram matrix; VICReg and Barlow Twins "
    "through the D x D matrix), or the step written plainly around it."
)
_SCOPES = {
    "loss": ("Loss and gradient", _LOSS_NOTE),
    "step": ("Training step: ", _STEP_NOTE),
    "fit": ("Fit in the kernel regime", _FIT_NOTE),
}
_BESIDE = {"loss": "textbook", "step": "textbook", "fit": "scikit-learn"}


def line(cell: CostCell) -> str:
    """One cell in one line, for somebody who waits for the next."""
    name = " ".join(part for part in (cell.scope, cell.method, cell.form) if part)
    shape = f"{name} D={cell.embedding_dim} N={cell.batch_size} {cell.precision}"
    if cell.gradient_error is not None:
        return f"{shape}: relative errors of value {cell.value_error:.1e} and gradient {cell.gradient_error:.1e}"
    if cell.measured is None:
        return f"{shape}: {cell.status} {cell.message}"
    row = cell.row()
    ratio = f", {row['time_ratio']:.2f}x as fast as {_BESIDE[cell.scope]}" if row.get("time_ratio") else ""
    return f"{shape}: {_milliseconds(cell.measured)} ms, {_mebibytes(cell.measured)} MiB{ratio}"


def render(cells: Sequence[CostCell], format: str = "plain") -> str:
    """``plain``, ``md`` and ``latex``: tables for reading. ``csv`` and ``json``: a row a cell, in full precision."""
    if for_programs(format):
        return format_table([cell.row() for cell in cells], format)
    return join(tables(cells), format)


def tables(cells: Sequence[CostCell]) -> list[Table]:
    """A table a scope, network and machine: a row a method, form, precision, N and D."""

    def place(cell: CostCell) -> tuple[str, str, str, int]:
        return cell.scope, cell.network, cell.provenance.device, cell.provenance.threads

    def shape(cell: CostCell) -> tuple[str, str, str, int, int]:
        return cell.precision, cell.title, cell.form or "", cell.batch_size, cell.embedding_dim

    found = []
    ordered = sorted(cells, key=lambda cell: (*place(cell), *shape(cell)))
    for (scope, network, device, threads), group in groupby(ordered, place):
        own, machine = list(group), f"{device}, threads={threads}"
        if scope == "errors":
            found += [_errors(own, name, machine) for name in ("gradient", "value")]
        else:
            what, note = _SCOPES[scope]
            found.append(_table(own, f"{what}{network}; {machine}", note))
    return found


def _table(cells: Sequence[CostCell], title: str, note: str) -> Table:
    compared = any(cell.reference_status for cell in cells)
    notes = [note, *([_REFERENCE_NOTE] if compared and cells[0].scope != "fit" else [])]
    peers = sorted({name for cell in cells for name in cell.peers})
    versions = {f"{name} {cell.provenance.versions.get(name, '')}".strip() for cell in cells for name in cell.peers}
    notes += [f"Peers as they come, with their own defaults: {', '.join(sorted(versions))}."] if peers else []
    return Table(title, [_row(cell, compared, peers) for cell in cells], notes)


def _row(cell: CostCell, compared: bool, peers: Sequence[str]) -> dict[str, str]:
    own, row = cell.measured, _head(cell) | {"D": str(cell.embedding_dim)}
    if own is None:
        return row | {"Time (ms)": cell.status}
    rate = cell.row()["rate_fraction"]
    over_inputs = f" ({own.peak_bytes / cell.input_bytes:.2f}x)" if cell.scope == "loss" and cell.input_bytes else ""
    row |= {"Time (ms)": _milliseconds(own), "Memory (MiB)": _mebibytes(own) + over_inputs}
    row |= {"Rate": f"{100 * rate:.0f} %" if rate else NOT_RUN}
    if cell.scope == "step":
        step, wait = own.seconds.median, own.phases.get("data", 0.0)
        row |= {"Images/s": f"{cell.batch_size / step:.0f}"}
        row |= {f"{name} (ms)": f"{1e3 * own.phases[name]:.0f}" for name in ("forward", "backward", "update")}
        row |= {"Wait": f"{100 * wait / (step + wait):.1f} %"}
    if compared:
        row |= _ratios(_BESIDE[cell.scope], own, cell.reference, cell.reference_status)
    for name in peers:
        row |= _ratios(name, own, cell.peers.get(name))
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


def _milliseconds(measured: Measurement) -> str:
    milliseconds = 1e3 * measured.seconds.median
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def _mebibytes(measured: Measurement) -> str:
    mebibytes = measured.peak_bytes / MIB
    return f"{mebibytes:.0f}" if mebibytes >= 10 else f"{mebibytes:.2g}"
