"""Make one network: it ends in a record, whatever becomes of it."""

from __future__ import annotations

import gc
import shutil
import warnings
from pathlib import Path

from benchmark.cost import losses
from benchmark.data import DataSet
from benchmark.networks.base import Diverged, Job, Made, Network
from benchmark.networks.trained import Trained
from benchmark.running import attempts
from benchmark.running.attempts import SCRATCH_NAME
from benchmark.running.failures import DONE, ERROR_NAME, Outcome, in_one_line, note
from benchmark.running.folder import read_record
from benchmark.runtime import checkpoints
from benchmark.runtime.errors import DiskFull, full_disk_told
from benchmark.runtime.process import is_lost_peer
from benchmark.runtime.provenance import now, provenance
from benchmark.runtime.signals import Interrupted
from benchmark.suite.expand import Cell
from results.record import METRICS_NAME, Cost, NetworkRecord, network_path

CHECKPOINTS = "checkpoints"


def make(cell: Cell, suite: str, data: DataSet, job: Job) -> NetworkRecord:
    """Train or fit the network of ``cell``, on all processes, to its record; all but a full disk ends in one."""
    started, network = now(), cell.run.network
    if job.process.is_main:
        _set_aside(job.folder)  # and only then may any process fail, and say so in the folder
    job.process.barrier()
    made, outcome = _made(network, data, job)
    record = NetworkRecord(
        id=network.id,
        suite=suite,
        status=outcome.status,
        message=outcome.message,
        title=network.title,
        network=network.model_dump(mode="json"),
        axes={axis: value for axis, value in cell.axes.items() if axis.partition(".")[0] != "evaluation"},
        form=made.form,
        cost=_with_loss(made.cost, network, job) if outcome == DONE else made.cost,
        provenance=provenance(job.process, started, attempts.count(job.folder), attempts.lost_seconds(job.folder)),
    )
    if job.process.is_main:
        with full_disk_told(job.folder):
            record.write(network_path(job.folder))
        if record.status == "done":
            checkpoints.clear(job.folder / CHECKPOINTS)
    if record.status in ("failed", "out-of-memory") and job.process.group is not None:
        # The other processes wait for this one in a collective: only its end tells them.
        raise SystemExit(f"process {job.process.rank} of {job.process.world_size}: {record.status}: {record.message}")
    job.process.barrier()
    return record


def _made(network: Network, data: DataSet, job: Job) -> tuple[Made, Outcome]:
    try:
        return network.make(data, job), DONE
    except Diverged as error:
        return Made(), Outcome("diverged", str(error))
    except Interrupted as error:
        return Made(), Outcome("interrupted", str(error))
    except DiskFull:
        raise
    except Exception as error:
        if is_lost_peer(error) and not (job.folder / ERROR_NAME).exists():
            # Another process died without a word, of a kill or with its node: no failure of the network, which the next
            # attempt goes on with.
            raise SystemExit(f"process {job.process.rank}: another process has ended: {in_one_line(error)}") from error
        return Made(), note(job.folder, Outcome.of(error), error)
    finally:
        gc.collect()  # what training held is let go before anything is measured


def _set_aside(folder: Path) -> None:
    """A record of an earlier attempt is kept as ``network.json.failed``; training goes on from what it had saved.

    Not where it diverged: it would again. Features of weights that are made anew are dropped: they may differ in bits.
    """
    (folder / ERROR_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder / SCRATCH_NAME, ignore_errors=True)
    record = read_record(NetworkRecord, network_path(folder))
    if record is None or record.status == "interrupted":
        return
    if record.status in ("diverged", "done"):
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        (folder / METRICS_NAME).unlink(missing_ok=True)
    path = network_path(folder)
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
