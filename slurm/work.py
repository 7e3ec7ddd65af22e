"""Carry out runs of a manifest: each under its lock, each to its record, whatever becomes of it."""

from __future__ import annotations

import os
from pathlib import Path

from benchmark.running.execute import execute
from benchmark.running.folder import alone, is_pending, read_record
from benchmark.running.sweep import DataCache, check_data, summary
from benchmark.runtime.errors import DiskFull, UserError, full_disk_told
from benchmark.runtime.process import Process, process
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import Cell, Suite
from results.record import Record
from slurm.manifest import Submission
from slurm.packing import suite_of
from slurm.requeue import ASKED, DISK_FULL, bare_provenance

# A node that went down may still run what was requeued elsewhere: Slurm ends that when the node is back.
_LOCK_PATIENCE_SECONDS = 600.0


def work(manifest: Path, indices: tuple[int, ...], requests: Requests) -> int:
    """Carry out the runs at ``indices``; returns the exit code of the job."""
    submission = Submission.read(manifest)
    suite = suite_of(submission)
    _join_the_others()
    codes: list[int] = []
    with process(suite.execution.device) as this:
        data = DataCache(suite.execution)
        for index in indices:
            codes.append(_guarded(submission, index, suite, this, data, requests))
            if this.highest(requests.suite_must_end):
                break
    return ASKED if len(codes) < len(indices) else max(codes)


def _join_the_others() -> None:
    """Tell torch of the job's other tasks. Each keeps all GPUs of its node in sight and takes the one of its rank."""
    from submitit.helpers import TorchDistributedEnvironment

    if "SUBMITIT_EXECUTOR" in os.environ:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)


def _guarded(
    submission: Submission, index: int, suite: Suite, this: Process, data: DataCache, requests: Requests
) -> int:
    folder = submission.run_folder(index)
    try:
        with full_disk_told(folder):
            return _carry_out(suite.cells[index], suite, submission, this, data, requests)
    except DiskFull as error:
        print(f"error: {error}", flush=True)
        return DISK_FULL
    except UserError as error:
        print(f"error: {error}", flush=True)
        if this.is_main:
            submission.failure(index, str(error), bare_provenance(submission, folder)).write(folder)
        return 1


def _carry_out(
    cell: Cell, suite: Suite, submission: Submission, this: Process, data: DataCache, requests: Requests
) -> int:
    folder = Path(submission.runs) / cell.run.id
    several = submission.profile.executor == "local"
    patience = 0.0 if several else _LOCK_PATIENCE_SECONDS
    with alone(folder, this, patience=patience, hurried=lambda: requests.suite_must_end) as mine:
        if not mine:
            print(f"{cell.run.id}  is being run by another program", flush=True)
            return 0 if several else ASKED
        record = this.told(read_record(folder) if this.is_main else None)
        if is_pending(record, submission.retry):
            images = data.get(cell.run.data)
            check_data(cell.run, images, this)
            requests.next_run()
            record = execute(cell, suite, folder, images, this, requests)
            print(summary(record), flush=True)
        return _code(record)


def _code(record: Record | None) -> int:
    if record is None or record.status == "interrupted":
        return ASKED
    return 0 if record.status == "done" else 1
