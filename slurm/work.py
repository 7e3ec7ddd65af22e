"""Carry out runs of a manifest: each under its lock, each to its records, whatever becomes of it."""

import os
import platform
import random
from datetime import datetime
from functools import partial
from pathlib import Path

from submitit.helpers import TorchDistributedEnvironment

from benchmark.networks.base import Job
from benchmark.running.folder import RETRIED, alone, state_of
from benchmark.running.runner import Data, carry_out, check, data_loader, summary
from benchmark.runtime.devices import check_usable, resolve_device
from benchmark.runtime.errors import DiskFull, UserError, full_disk_told
from benchmark.runtime.failures import NO_SPACE
from benchmark.runtime.process import process
from benchmark.runtime.provenance import job_id
from benchmark.runtime.signals import Interrupted, Requests
from benchmark.runtime.tracking.base import check as check_trackers
from benchmark.suite.expand import Cell
from results.record import MeasurementRecord, NetworkRecord, measurement_path
from slurm.manifest import Submission
from slurm.requeue import ASKED, DISK_FULL, fail, write_failure
from slurm.survey import NETWORK, Records

# A node that went down may still run what was requeued elsewhere: Slurm ends that when the node is back.
_LOCK_PATIENCE_SECONDS = 600.0


def work(manifest: Path, indices: tuple[int, ...], requests: Requests) -> int:
    """Carry out the runs at ``indices``; returns the exit code of the job."""
    submission = Submission.read(manifest)
    suite = submission.as_suite()
    # Tell torch of the job's other tasks. Each keeps all GPUs of its node in sight and takes the one of its rank.
    if "SUBMITIT_EXECUTOR" in os.environ:
        os.environ.pop("MASTER_PORT", None)  # of the shell that it was submitted from
        tasks = TorchDistributedEnvironment()
        tasks.master_port = _port()
        tasks.export(set_cuda_visible_devices=False, overwrite=True)
    try:
        device = _device(submission, suite.execution.device)
    except UserError as error:
        message = f"{error} (on {platform.node()})"
        print(f"error: {message}", flush=True)
        fail(submission, message, indices)
        return 1
    codes: list[int] = []
    with process(device) as this:
        runs = Path(submission.runs)
        data = data_loader(suite.execution, runs, this, requests, partial(print, flush=True))
        for index in indices:
            requests.next_run()
            number = f"as job {job_id()} " if job_id() else ""
            print(f"{submission.entries[index].id}  {number}on {platform.node()}", flush=True)
            job = Job(submission.run_folder(index), this, requests, suite.execution)
            codes.append(_guarded(submission, index, suite.cells[index], data, job))
            if this.all_reduce_max(requests.suite_must_end):
                break
    return ASKED if len(codes) < len(indices) else max(codes)


def _port() -> int:
    """Where the tasks of one attempt at a job meet: the next attempt finds another, should this one be taken.

    Below the ports that a kernel gives to whoever asks for any.
    """
    return random.Random(f"{job_id()} {os.environ.get('SLURM_RESTART_COUNT', '0')}").randint(20000, 32767)


def _device(submission: Submission, name: str) -> str:
    """The device of this task, by the name in the suite's settings: what was given GPUs runs on them, or not at all.

    Raises :class:`UserError` where it is not what was asked for: the GPUs, or the number of tasks.
    """
    asked, world_size = submission.resources, int(os.environ.get("WORLD_SIZE", "1"))
    expected = asked.nodes * asked.tasks_per_node
    if world_size != expected:
        raise UserError(f"{expected} tasks were asked for, and this one is of {world_size}")
    name = "cuda" if name == "auto" and asked.gpus_per_node else name
    try:
        check_usable(resolve_device(name))
    except UserError as error:
        raise UserError(f"gpus_per_node is {asked.gpus_per_node}, and {error}") from error
    return name


def _guarded(submission: Submission, index: int, cell: Cell, data: Data, job: Job) -> int:
    try:
        with full_disk_told(job.folder):
            return _carry_out(submission, cell, data, job)
    except Interrupted:
        return ASKED
    except UserError as error:
        print(f"error: {error}", flush=True)
        disk_full, this = isinstance(error, DiskFull), job.process
        is_first = this.is_first_to_fail(NO_SPACE if disk_full else "failed", str(error))
        # What is there, a record of another version say, is not written over.
        if is_first and not disk_full and Records.of(job.folder).missing(()):
            write_failure(submission, index, NETWORK, str(this.failures.first()))
        code = DISK_FULL if disk_full else 1
        if this.group is not None:
            raise SystemExit(code) from error  # the others may be anywhere, and are told
        this.failures.agreed()
        return code


def _carry_out(submission: Submission, cell: Cell, data: Data, job: Job) -> int:
    several, stage, this = submission.profile.executor == "local", submission.stage, job.process
    patience = 0.0 if several else _LOCK_PATIENCE_SECONDS
    hurried, lock = (lambda: job.requests.suite_must_end), job.execution.lock
    with alone(job.folder, this, lock=lock, patience=patience, hurried=hurried) as mine:
        if not mine:
            print(f"{cell.run.id}  is being run by another program", flush=True)
            return 0 if several else ASKED
        retry = this.broadcast(_bring_back(cell, submission, job.folder) if this.is_main else None)
        state = this.broadcast(state_of(cell.run, job.folder) if this.is_main else None)
        if state.network_missing(retry):
            if stage == "measure":
                print(f"{cell.run.id}  has no network that could be measured", flush=True)
                return 1
            check_trackers(job.execution.tracking)
            check([(job.folder, state)], retry, data, this)
        trains, measures = stage != "measure", stage != "train"
        state = carry_out(cell, submission.suite, data, job, retry=retry, train=trains, measure=measures)
        print(f"{cell.run.id}  {summary(state)}", flush=True)
        if state.network_missing() or (measures and state.measurements_missing()):
            return ASKED
        is_made = state.network is not None and state.network.status == "done"
        return int(not (state.is_done if measures else is_made))


def _bring_back(cell: Cell, submission: Submission, folder: Path) -> bool:
    """Set measurements aside that failed before they were submitted again; returns whether the network had.

    What fails in this job is not repeated when it is requeued.
    """
    if not submission.retry:
        return False

    def failed_before(record: NetworkRecord | MeasurementRecord) -> bool:
        finished = datetime.fromisoformat(record.provenance.finished)
        return record.status in RETRIED and finished < datetime.fromisoformat(submission.submitted)

    state = state_of(cell.run, folder)
    for record in filter(None, state.measurements.values()):
        if failed_before(record):
            path = measurement_path(folder, record.id)
            path.replace(path.with_name(f"{path.name}.{record.status}"))
    return state.network is not None and failed_before(state.network)
