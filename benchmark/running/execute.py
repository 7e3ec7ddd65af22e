"""Carry out one run: it ends in a record, whatever becomes of it."""

from __future__ import annotations

import shutil
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.cost import losses
from benchmark.data import DataSet
from benchmark.networks.backbones import build_encoder
from benchmark.networks.trained import Diverged, Interrupted, Pretraining
from benchmark.probes.evaluate import evaluate, evaluate_pixels
from benchmark.running import attempts
from benchmark.running.folder import RETRIED, read_record
from benchmark.runtime import checkpoints as checkpoint
from benchmark.runtime.clock import quartiles
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.memory import is_out_of_memory
from benchmark.runtime.process import Process
from benchmark.runtime.provenance import now, provenance
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import Cell, Suite
from benchmark.suite.run import BASELINES, Execution, Run
from benchmark.suite.titles import title
from results.record import RECORD_NAME, Cost, Metric, Record, Status

# What may happen to one process of several and not to the others.
_ALONE: tuple[Status, ...] = ("failed", "out-of-memory")
ERROR_NAME = "error.txt"


@dataclass(frozen=True)
class Outcome:
    """What a run produced: a status, and what is known by then."""

    status: Status
    message: str = ""
    metrics: tuple[Metric, ...] = ()
    cost: Cost = field(default_factory=Cost)
    form: str | None = None


def execute(cell: Cell, suite: Suite, folder: Path, data: DataSet, process: Process, requests: Requests) -> Record:
    """Carry out one Run to its record; every status but a :class:`UserError` ends in one."""
    started = now()
    if process.is_main:
        _begin_attempt(folder)  # and only then may any process fail, and say so in the folder
    process.wait()
    outcome = _outcome(cell.run, data, folder, process, suite.execution, requests)
    record = Record(
        id=cell.run.id,
        suite=suite.name,
        status=outcome.status,
        message=outcome.message,
        title=title(cell.run.method),
        run=cell.run.model_dump(mode="json"),
        axes=cell.axes,
        form=outcome.form,
        metrics=outcome.metrics,
        cost=outcome.cost,
        provenance=provenance(process, started, attempts.count(folder), attempts.lost_seconds(folder)),
    )
    if process.is_main:
        _write_record(record, folder)
    if outcome.status in _ALONE and process.group is not None:
        # The other processes wait for this one in a collective: only its end tells them.
        raise SystemExit(f"process {process.rank} of {process.world_size}: {outcome.status}: {outcome.message}")
    process.wait()
    return record


def _write_record(record: Record, folder: Path) -> None:
    with full_disk_told(folder):
        record.write(folder)
    if record.status == "done":
        checkpoint.clear(folder / "checkpoints")


def _begin_attempt(folder: Path) -> None:
    """Note that an attempt begins; a retry of a run that failed begins from nothing."""
    record = read_record(folder)
    with full_disk_told(folder):
        attempts.start(folder)
    (folder / ERROR_NAME).unlink(missing_ok=True)
    if record is not None and record.status in RETRIED:
        start_afresh(folder)


def start_afresh(folder: Path) -> None:
    """Forget what a failed attempt left: its record is kept aside as ``record.json.failed``."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    (folder / RECORD_NAME).replace(folder / f"{RECORD_NAME}.failed")


def _outcome(
    run: Run, data: DataSet, folder: Path, process: Process, execution: Execution, requests: Requests
) -> Outcome:
    try:
        if run.regime is not None:
            return _closed_form(run, data, folder, process)
        if run.method in BASELINES:
            return _baseline(run, data, process, execution)
        return _trained(run, data, folder, process, execution, requests)
    except Diverged as error:
        return Outcome("diverged", str(error))
    except Interrupted as error:
        return Outcome("interrupted", str(error))
    except UserError:
        raise
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return _failed("out-of-memory", error, folder)
        return _failed("failed", error, folder)
    except Exception as error:
        return _failed("failed", error, folder)


def _failed(status: Status, error: Exception, folder: Path) -> Outcome:
    """Leave the traceback in ``error.txt``. Of several processes the first to fail is told of.

    The others fail as well, once they find its connections closed.
    """
    outcome = Outcome(status, _last_line(error))
    path = folder / ERROR_NAME
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{outcome.status}: {outcome.message}\n\n{''.join(traceback.format_exception(error))}")
    except FileExistsError:
        return _noted(path.read_text(encoding="utf-8")) or outcome
    return outcome


def _noted(text: str) -> Outcome | None:
    """What the first line of ``error.txt`` says; None where it is not yet written."""
    first, _, _ = text.partition("\n\n")
    found = [status for status in _ALONE if first.startswith(f"{status}: ")]
    return Outcome(found[0], first.removeprefix(f"{found[0]}: ")) if found else None


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


def _baseline(run: Run, data: DataSet, process: Process, execution: Execution) -> Outcome:
    if not process.is_main:
        return Outcome("done")
    began = time.perf_counter()
    if run.method == "raw_pixels":
        metrics = evaluate_pixels(data, run, workers=execution.workers)
    else:
        encoder = build_encoder(run, data.channels).to(process.device)
        metrics = evaluate(encoder, data, run, process.device, workers=execution.workers)
    return Outcome("done", metrics=tuple(metrics), cost=Cost(evaluation_seconds=time.perf_counter() - began))


def _closed_form(run: Run, data: DataSet, folder: Path, process: Process) -> Outcome:
    from benchmark.networks.kernel import fit
    from benchmark.probes.kernel import measure, write_picture, write_spectrum

    if not process.is_main:
        return Outcome("done")
    fitted = fit(run, data)
    began = time.perf_counter()
    metrics = tuple(measure(fitted.embedding, data, run))
    with full_disk_told(folder):
        write_spectrum(fitted.embedding, data, run, folder)
        write_picture(fitted.embedding, data, run, folder)
    cost = Cost(
        peak_bytes_step=fitted.peak_bytes,
        memory_counter="numpy arrays",
        train_seconds=fitted.seconds,
        evaluation_seconds=time.perf_counter() - began,
    )
    return Outcome("done", metrics=metrics, cost=cost)


def _trained(
    run: Run, data: DataSet, folder: Path, process: Process, execution: Execution, requests: Requests
) -> Outcome:
    with full_disk_told(folder):
        training = Pretraining(run, data, folder, process, execution)
        training.train(lambda: requests.run_must_end)
    if not process.is_main:
        return Outcome("done")
    began = time.perf_counter()
    metrics = evaluate(training.step.encoder, data, run, process.device, workers=execution.workers)
    seconds = time.perf_counter() - began
    return Outcome("done", metrics=tuple(metrics), cost=_cost(training, seconds), form=training.state.form)


def _cost(training: Pretraining, evaluation_seconds: float) -> Cost:
    run, state, device = training.run, training.state, training.process.device
    step_seconds = quartiles(state.step_seconds)
    loss_seconds, loss_bytes = losses.measure(run, device)
    return Cost(
        step_seconds=step_seconds,
        loss_seconds=loss_seconds,
        images_per_second=run.batch_size / step_seconds.median if step_seconds else None,
        peak_bytes_step=state.peak_bytes or None,
        peak_bytes_loss=loss_bytes,
        memory_counter="cuda allocator" if device.type == "cuda" else "tensor storages",
        train_seconds=state.elapsed,
        evaluation_seconds=evaluation_seconds,
    )
