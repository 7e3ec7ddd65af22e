"""The two stages of a run, on all processes: its network is made, then measured, probe by probe.

Each ends in a record of its own, whatever becomes of it: a failure as a status and one line, its traceback beside.
"""

import gc
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from benchmark.cost import losses
from benchmark.data import DataSet, DataSpec
from benchmark.networks.base import Diverged, Job, Made, Network
from benchmark.networks.trained import Trained
from benchmark.probes.base import Found, Measurement
from benchmark.probes.subject import FAILED, GO_ON, STOP, AllStopped, Learnt, OtherFailed, Subject
from benchmark.running import attempts
from benchmark.running.attempts import SCRATCH_NAME
from benchmark.running.folder import read_record
from benchmark.runtime import checkpoints
from benchmark.runtime.errors import DiskFull, UserError, full_disk_told, in_one_line
from benchmark.runtime.failures import NO_SPACE
from benchmark.runtime.memory import is_out_of_memory
from benchmark.runtime.numerics import computing_in
from benchmark.runtime.process import is_lost_peer
from benchmark.runtime.provenance import now, provenance
from benchmark.runtime.signals import Interrupted
from benchmark.suite.expand import Cell
from results.record import (
    METRICS_NAME,
    Cost,
    MeasurementCost,
    MeasurementRecord,
    NetworkRecord,
    Status,
    measurement_path,
    network_path,
)

CHECKPOINTS = "checkpoints"
ERROR_NAME = "error.txt"


Outcome = tuple[Status, str]  # and what the error said
DONE: Outcome = ("done", "")
STOPPED: Outcome = ("interrupted", "stopped; what it had is saved")


def _failure(error: Exception) -> Outcome:
    return "out-of-memory" if is_out_of_memory(error) else "failed", in_one_line(error)


def make(cell: Cell, suite: str, data: DataSet, job: Job) -> NetworkRecord:
    """Train or fit the network of ``cell`` to its record; all but a full disk, and a process that dies, ends in one.

    A failure ends all processes: the others may wait for this one where only its end tells them.
    """
    started, network, process = now(), cell.run.network, job.process
    process.barrier()  # none has failed before it came here, and left a record of that
    if process.is_main:
        _set_aside(job.folder)  # and only then may any process fail, and say so in the folder
    process.barrier()
    made, (status, message), writes = Made(), DONE, process.is_main
    try:
        made = network.make(data, job)
    except Diverged as error:
        status, message = "diverged", str(error)
    except Interrupted as error:
        status, message = "interrupted", str(error)
    except DiskFull:
        raise
    except Exception as error:
        if is_lost_peer(error):
            raise
        status, message = _failure(error)
        writes = process.is_first_to_fail(status, message)
        if writes:
            told = f"{status}: {message}\n\n{''.join(traceback.format_exception(error))}"
            (job.folder / ERROR_NAME).write_text(told, encoding="utf-8")
    gc.collect()  # what training held is let go before anything is measured
    record = NetworkRecord(
        id=network.id,
        suite=suite,
        status=status,
        message=message,
        title=network.title,
        network=network.model_dump(mode="json"),
        axes={axis: value for axis, value in cell.axes.items() if axis.partition(".")[0] != "evaluation"},
        form=made.form,
        cost=_with_loss(made.cost, network, job) if status == "done" else made.cost,
        provenance=provenance(process, started, attempts.count(job.folder), attempts.lost_seconds(job.folder)),
    )
    if writes:
        with full_disk_told(job.folder):
            record.write(network_path(job.folder))
    if status in ("failed", "out-of-memory"):
        if process.group is not None:
            raise SystemExit(f"process {process.rank} of {process.world_size}: {status}: {message}")
        process.failures.agreed()
    if process.is_main and status == "done":
        checkpoints.clear(job.folder / CHECKPOINTS)
    process.barrier()
    return record


def _set_aside(folder: Path) -> None:
    """A record of an earlier attempt is kept as ``network.json.failed``; training goes on from what it had saved.

    Not where it diverged: it would again. Features of weights that are made anew are dropped: they may differ in bits.
    """
    (folder / ERROR_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder / SCRATCH_NAME, ignore_errors=True)
    path = network_path(folder)
    record = read_record(NetworkRecord, path)
    if record is None or record.status == "interrupted":
        return
    if record.status in ("diverged", "done"):
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        (folder / METRICS_NAME).unlink(missing_ok=True)
    path.replace(path.with_name(f"{path.name}.{record.status}"))


def _with_loss(cost: Cost, network: Network, job: Job) -> Cost:
    """With what the loss costs alone. The network is there: nothing that fails here may cost it."""
    if not isinstance(network, Trained) or not job.process.is_main:
        return cost
    try:
        seconds, peak_bytes = losses.measure(network, job.process.device)
    except Exception as error:
        warnings.warn(f"{network.id}: the cost of its loss was not measured: {in_one_line(error)}", stacklevel=2)
        return cost
    return cost.model_copy(update={"loss_seconds": seconds, "peak_bytes_loss": peak_bytes})


def measure(
    network: Network, measurements: Sequence[Measurement], load: Callable[[DataSpec], DataSet], job: Job
) -> list[MeasurementRecord]:
    """Measure all of ``measurements``; those that read the same share their features, and those to learn on.

    Ends after one that somebody asked to stop. Raises :class:`DiskFull` where a record does not fit on the disk.
    """

    def reads(measurement: Measurement) -> tuple[str, ...]:
        data = (spec.model_dump_json() for spec in measurement.reads)
        return (*data, measurement.precision, measurement.split)

    records: list[MeasurementRecord] = []
    for _, alike in groupby(sorted(measurements, key=reads), key=lambda own: (own.data, own.precision)):
        made: Learnt = {}  # features to learn on, whatever is tested
        for _, group in groupby(alike, key=reads):
            subject: Subject | None = None
            for measurement in group:
                with computing_in(measurement.precision):
                    record, subject = _measured(network, measurement, subject, made, load, job)
                records.append(record)
                if record.status == "interrupted":
                    return records
            made = subject.let_go() if subject is not None else made
    return records


def _measured(
    network: Network,
    measurement: Measurement,
    subject: Subject | None,
    made: Learnt,
    load: Callable[[DataSpec], DataSet],
    job: Job,
) -> tuple[MeasurementRecord, Subject | None]:
    started, began, process = now(), time.perf_counter(), job.process
    if process.is_main:
        with full_disk_told(job.folder):
            attempts.measuring(job.folder, measurement.id)
    found, level, resident = Found(), GO_ON, None
    if process.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(process.device)
        resident = torch.cuda.memory_allocated(process.device)

    def ended(status: Status, message: str = "", found: Found = found) -> MeasurementRecord:
        peak = None if resident is None else torch.cuda.max_memory_allocated(process.device) - resident
        cost = MeasurementCost(seconds=time.perf_counter() - began, peak_bytes=peak, resident_bytes=resident)
        return MeasurementRecord(
            id=measurement.id,
            network=network.id,
            probe=measurement.probe.name,
            status=status,
            message=message,
            settings=measurement.settings(),
            metrics=tuple(found.metrics),
            details=found.details,
            cost=cost,
            provenance=provenance(process, started, attempts.count(job.folder), 0.0),
        )

    try:
        if subject is None:
            subject = _subject(network, measurement, load, job, made)
        found = measurement.probe.measure(subject.of(measurement))
        level = process.all_reduce_max(GO_ON)
    except AllStopped:
        level = STOP
    except OtherFailed:
        level = FAILED
    except Interrupted:
        level = process.all_reduce_max(STOP)
    except Exception as error:
        if is_lost_peer(error):
            raise
        if isinstance(error, DiskFull):
            process.is_first_to_fail(NO_SPACE, str(error))
        else:
            status, message = _failure(error)
            if process.is_first_to_fail(status, message):  # before it waits for others, who may not come
                _write(ended(status, str(process.failures.first())), error, job)
        level = process.all_reduce_max(FAILED)
    if level == FAILED:
        failure = process.failures.agreed()
        if failure.status == NO_SPACE:
            raise DiskFull(failure.message)
        return ended("out-of-memory" if failure.status == "out-of-memory" else "failed", str(failure)), subject
    record = ended("done", found=found) if level == GO_ON else ended(*STOPPED)
    if process.is_main:
        _write(record, None, job)
        if level == GO_ON and subject is not None:
            shutil.rmtree(subject.folder / measurement.id, ignore_errors=True)
    return record, subject


def _write(record: MeasurementRecord, error: Exception | None, job: Job) -> None:
    """Beside the record of a failure lies its traceback, and none of an earlier attempt."""
    path = measurement_path(job.folder, record.id)
    with full_disk_told(job.folder):
        record.write(path)
    path.with_suffix(".txt").unlink(missing_ok=True)
    if error is not None:
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")


def _subject(
    network: Network,
    measurement: Measurement,
    load: Callable[[DataSpec], DataSet],
    job: Job,
    made: Learnt | None = None,
) -> Subject:
    data, *others = read(measurement, load)
    loaded = network.load(job.folder, data, job.process.device)
    for found in (data, *others):
        loaded.check(found)
    scratch = job.folder / SCRATCH_NAME
    return Subject(
        network=loaded,
        data=data,
        split=measurement.split,
        precision=measurement.precision,
        augmentation=network.augmentation if isinstance(network, Trained) else None,
        process=job.process,
        requests=job.requests,
        execution=job.execution,
        folder=scratch / "-".join(spec.digest[:10] for spec in measurement.reads),
        own=scratch / measurement.id,
        tested_on=others[0] if others else None,
        _made=dict(made or {}),
    )


def read(measurement: Measurement, load: Callable[[DataSpec], DataSet]) -> list[DataSet]:
    """The data sets that a measurement reads: what its probe learns on, and where it is another, what it is tested on.

    Raises :class:`UserError` where nothing can be probed: cheap, so that it can be asked before training.
    """
    data, *others = found = [load(spec) for spec in measurement.reads]
    probe, split = measurement.probe, measurement.split
    if data.several_labels != probe.several_labels:
        has, wants = ("several labels", "one") if data.several_labels else ("one label", "several")
        raise UserError(f"data.source {data.name}: an image has {has}, {probe.name} is for images of {wants}")
    classes = data.classes if data.several_labels else len(np.unique(data.labelled.labels))
    if classes < 2:
        raise UserError(f"data.source {data.name}: its labelled training images have {classes} class, must have two")
    measured = others[0] if others else data
    if others:
        names = {measured.class_names, data.class_names} - {()}
        if measured.classes != data.classes or len(names) > 1 or measured.several_labels != data.several_labels:
            raise UserError(f"evaluation.tested_on {measured.name}: its classes are not those of {data.name}")
    images = measured.test if split == "test" else measured.tune
    if len(images) < 2:
        held_out = "; data.tune_fraction holds some out" if split == "tune" else ""  # by choice
        raise UserError(
            f"evaluation.split {split}: {measured.name} has {len(images)} images in it, must have two or more{held_out}"
        )
    if split == "tune" and len(lacking := np.setdiff1d(data.labelled.labels, images.labels)):
        name, count = data.class_name(lacking[0]), np.sum(data.labelled.labels == lacking[0])
        raise UserError(
            f"evaluation.split tune: {measured.name} has no image of class {name} in it; data.tune_fraction must be "
            f"large enough for one of its {count}"
        )
    return found
