"""Measure a network, probe by probe: each ends in a record of its own, whatever becomes of it, and ends no other."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from benchmark.data import DataSet, DataSpec
from benchmark.networks.base import WEIGHTS_NAME, FrozenModule, Job, Network, keep_backbone
from benchmark.networks.trained import Trained
from benchmark.probes.base import Found, Measurement, Split
from benchmark.probes.kept import Kept
from benchmark.probes.subject import FAILED, GO_ON, STOP, AllStopped, OtherFailed, Subject
from benchmark.running import attempts
from benchmark.running.attempts import SCRATCH_NAME
from benchmark.running.failures import DONE, Outcome
from benchmark.runtime.errors import DiskFull, UserError, full_disk_told
from benchmark.runtime.execution import Keep
from benchmark.runtime.provenance import now, provenance
from benchmark.runtime.signals import Interrupted
from results.record import MeasurementCost, MeasurementRecord, measurement_path


def measure(
    network: Network, measurements: Sequence[Measurement], load: Callable[[DataSpec], DataSet], job: Job
) -> list[MeasurementRecord]:
    """Measure all of ``measurements``, on all processes; those that read the same share their features.

    Ends after one that somebody asked to stop. Raises :class:`DiskFull` where a record does not fit on the disk.
    """

    def reads(measurement: Measurement) -> tuple[str, ...]:
        return (measurement.data.model_dump_json(), measurement.precision, measurement.split)

    records: list[MeasurementRecord] = []
    for _, alike in groupby(sorted(measurements, key=reads), key=reads):
        subject: Subject | None = None  # the features of the last one are let go first
        for measurement in alike:
            record, subject = _measured(network, measurement, subject, load, job)
            records.append(record)
            if record.status == "interrupted":
                return records
    return records


def _measured(
    network: Network, measurement: Measurement, subject: Subject | None, load: Callable[[DataSpec], DataSet], job: Job
) -> tuple[MeasurementRecord, Subject | None]:
    started, began, process = now(), time.perf_counter(), job.process
    if process.is_main:
        with full_disk_told(job.folder):
            attempts.measuring(job.folder, measurement.id)
    found, error, level = Found(), None, GO_ON
    on_cuda = process.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(process.device)
    try:
        if subject is None:
            subject = _subject(network, measurement, load, job)
        found = measurement.probe.measure(subject.of(measurement))
        level = process.all_reduce_max(GO_ON)
    except AllStopped:
        level = STOP
    except OtherFailed:
        level = FAILED
    except Interrupted:
        level = process.all_reduce_max(STOP)
    except Exception as caught:
        error, level = caught, process.all_reduce_max(FAILED)
    outcome = _agreed(level, error, job)
    if outcome != DONE:
        found = Found()
    peak_bytes = torch.cuda.max_memory_allocated(process.device) if on_cuda else None
    record = MeasurementRecord(
        id=measurement.id,
        network=network.id,
        probe=measurement.probe.name,
        status=outcome.status,
        message=outcome.message,
        settings=measurement.settings(),
        metrics=tuple(found.metrics),
        details=found.details,
        cost=MeasurementCost(seconds=time.perf_counter() - began, peak_bytes=peak_bytes),
        provenance=provenance(process, started, attempts.count(job.folder), 0.0),
    )
    if process.is_main:
        path = measurement_path(job.folder, measurement.id)
        with full_disk_told(job.folder):
            record.write(path)
        # The traceback of a failure lies beside the records, and none of an earlier attempt.
        path.with_suffix(".txt").unlink(missing_ok=True)
        if error is not None:
            path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    if outcome == DONE and subject is not None:
        subject.of(measurement).kept.clear()
    return record, subject


def _subject(network: Network, measurement: Measurement, load: Callable[[DataSpec], DataSet], job: Job) -> Subject:
    data = load(measurement.data)
    check(data, measurement.split)
    loaded = network.load(job.folder, data, job.process.device)
    if isinstance(loaded, FrozenModule) and data.channels not in (1, loaded.input.channels):  # grey ones are repeated
        what = f"images of {data.channels} channels" if data.channels else "points, not images"
        raise UserError(f"data.source {data.name}: holds {what}; this network sees {loaded.input.channels}")
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
        folder=scratch / measurement.data.digest[:10],
        kept=Kept(scratch, job.process, job.execution.checkpoint_seconds),
    )


def check(data: DataSet, split: Split) -> None:
    """Raise :class:`UserError` where nothing can be probed: cheap, so that it can be asked before training.

    The tune split is held out by choice.
    """
    classes = len(np.unique(data.labelled.labels))
    if classes < 2:
        raise UserError(f"data.source {data.name}: its labelled training images have {classes} class, must have two")
    images = len(data.test if split == "test" else data.tune)
    if images < 2:
        held_out = "; data.tune_fraction holds some out" if split == "tune" else ""
        raise UserError(
            f"evaluation.split {split}: {data.name} has {images} images in it, must have two or more{held_out}"
        )


def _agreed(level: int, error: Exception | None, job: Job) -> Outcome:
    """What became of it, the same on every process: the first cause, whichever process had it."""
    if level == GO_ON:
        return DONE
    if level == STOP:
        return Outcome("interrupted", "stopped; what it had is saved")
    own = None if error is None else (Outcome.of(error), isinstance(error, DiskFull))
    causes = [(rank, *cause) for rank, cause in enumerate(job.process.all_gather(own)) if cause is not None]
    rank, outcome, disk_full = causes[0]
    if disk_full:
        raise DiskFull(outcome.message)
    where = f"process {rank} of {job.process.world_size}: " if job.process.world_size > 1 else ""
    return Outcome(outcome.status, f"{where}{outcome.message}")


def finish(folder: Path, network: Network, keep: Keep) -> None:
    """Everything listed is measured: drop what was kept for it, and of the weights what shall not be kept."""
    shutil.rmtree(folder / SCRATCH_NAME, ignore_errors=True)
    if keep == "none" and network.is_kept(folder):
        (folder / WEIGHTS_NAME).unlink(missing_ok=True)
    elif keep == "backbone" and isinstance(network, Trained) and network.is_kept(folder):
        keep_backbone(folder)
