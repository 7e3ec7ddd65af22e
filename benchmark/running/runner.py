"""Carry a suite out, run by run, one after the other or side by side: what is missing of each."""

import atexit
import gc
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from benchmark.data import DataSet, DataSpec, FileImages, Input, load
from benchmark.networks.base import WEIGHTS_NAME, Frozen, Job, keep_backbone
from benchmark.networks.trained import Trained, doubt
from benchmark.probes.base import NO_MORE, Measurement, Probe
from benchmark.probes.subject import projector_of
from benchmark.running import attempts, stages
from benchmark.running.folder import RETRIED, RunState, alone, check_owner, claim_folder, state_of
from benchmark.running.jobs import how_many, side_by_side
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.numerics import check_precision, computing_in
from benchmark.runtime.paths import in_job, is_of_job
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution, Keep
from benchmark.runtime.tracking.base import check as check_trackers
from benchmark.suite.expand import Cell, Suite
from results.record import MeasurementRecord, NetworkRecord

LISTINGS_NAME = ".listings"
# Weights that take more are told of before the first is written.
TOLD_BYTES = 10e9
LEFT = "is another program's; left to it"

Say = Callable[[str], None]
Data = Callable[[DataSpec], DataSet]
Carry = Callable[[Cell], str | None]  # what became of a run, in words; None where another program is at it
Answer = tuple[Cell, str | None]


def data_loader(execution: Execution, folder: Path, process: Process, requests: Requests, report: Say) -> Data:
    """Data sets, each loaded once; the last two are kept, one to learn on and one to test on.

    Images in files are listed by the main process alone, which tells the others, and beside the runs in ``folder``
    from start to start. A request to stop ends a download. What was found of data of one's own, and left out, is told
    once.
    """
    told = {""}

    @lru_cache(maxsize=2)
    def load_once(spec: DataSpec) -> DataSet:
        own_copy = is_of_job(spec.source) or is_of_job(execution.data_root)  # which each node may have elsewhere
        root, listings = in_job(execution.data_root, "data_root"), None if own_copy else folder / LISTINGS_NAME
        look = partial(load, spec, root, download=execution.download, listings=listings)
        with requests.at_once():
            data = look() if own_copy else _listed_once(process, look)
        if data.found not in told:
            told.add(data.found)
            report(data.found)
        return data

    return load_once


def _listed_once(process: Process, look: Callable[[], DataSet]) -> DataSet:
    """What the main process finds, or is refused, on all of them; what is no listing of files each reads by itself."""
    found: DataSet | UserError | None = None
    if process.is_main:
        try:
            found = look()
        except UserError as error:
            found = error
    is_listing = isinstance(found, DataSet) and isinstance(found.train, FileImages)
    told = process.broadcast(found if is_listing or isinstance(found, UserError) else None)
    if isinstance(told, UserError):
        raise told
    if isinstance(told, DataSet):
        return told
    return found if isinstance(found, DataSet) else look()


def execute_suite(
    suite: Suite,
    folder: Path,
    process: Process,
    requests: Requests,
    *,
    retry: bool,
    report: Say,
    train: bool = True,
    after_each: Callable[[], object] = lambda: None,
) -> bool | None:
    """Run what is missing of ``suite``, one run after the other or side by side, and tell ``report`` of each.

    ``train`` false: measure what is there, and leave out networks that are not. ``after_each`` is called by the main
    process once it is through with a run: what it raises ends the suite before the hours of the others.

    Returns whether everything is done; None on the processes that do not write. Raises :class:`UserError` before
    anything is written where data are missing, a batch does not fit them, or the folder is another suite's.
    """
    check_trackers(suite.execution.tracking)
    check_owner(suite, folder)
    missing = process.broadcast(_missing(suite, folder, retry, train, report) if process.is_main else None)
    cells = [cell for cell in suite.cells if cell.run.id in missing]
    todo = [(folder / name, state) for name, state in missing.items()]
    jobs = how_many(suite, process) if cells else 1
    several = f", {jobs} at a time" if jobs > 1 else ""
    report(f"{suite.name}: {len(suite.cells)} runs, {len(suite.cells) - len(cells)} recorded in {folder}{several}")
    data = data_loader(suite.execution, folder, process, requests, report)
    most = check(todo, retry, data, process)
    if len(cells) == len(suite.cells):  # of a part of a suite, other data sets may suffice
        _check_most([one.probe for _, state in todo for one in state.measurements_missing(retry)], most)
    made = [state.run.network for _, state in todo if state.network_missing(retry)]
    _tell([network for network in made if isinstance(network, Trained)], suite.execution.keep, data, report)
    process.barrier()  # nothing is written unless the data of all processes are fine
    if process.is_main:
        claim_folder(suite, folder)
    work, left = _Work(suite.name, folder, suite.execution, retry, train), set[str]()
    if jobs == 1:
        answers = _in_turn(cells, work.on(data, process, requests), process, requests)
    else:
        answers = side_by_side(cells, work.begin, suite.execution.device, jobs, requests)
    with closing(answers):
        for place, (cell, answer) in enumerate(answers, 1):
            if answer is None:
                left.add(cell.run.id)
            report(f"[{place}/{len(cells)}] {cell.run.id}  {answer or LEFT}")
            if process.is_main and answer is not None:
                after_each()
    if not process.is_main:
        return None
    states = [state_of(cell.run, folder / cell.run.id) for cell in suite.cells]
    undone = Counter(_why(state, left) for state in states if not state.is_done)
    if undone:
        reasons = ", ".join(f"{count} {why}" for why, count in undone.items())
        report(f"not done, of {len(states)} runs: {reasons}")
    return not undone


@dataclass(frozen=True)
class _Work:
    """What is done to every run of a suite; jobs are sent it."""

    suite: str
    folder: Path
    execution: Execution
    retry: bool
    train: bool

    def begin(self, process: Process, requests: Requests) -> Carry:
        """In a job, which tells no more of the data: the first process has."""
        return self.on(data_loader(self.execution, self.folder, process, requests, lambda _: None), process, requests)

    def on(self, data: Data, process: Process, requests: Requests) -> Carry:
        """What carries a run out, and says in words what became of it; None where another program is at it."""

        def carry(cell: Cell) -> str | None:
            job = Job(self.folder / cell.run.id, process, requests, self.execution)
            with alone(job.folder, process, lock=self.execution.lock) as mine:
                if not mine:
                    return None
                state = carry_out(cell, self.suite, data, job, retry=self.retry, train=self.train)
            _forget_what_stays()
            return summary(state)

        return carry


def _in_turn(cells: Sequence[Cell], carry: Carry, process: Process, requests: Requests) -> Generator[Answer]:
    for cell in cells:
        requests.next_run()
        if process.all_reduce_max(requests.suite_must_end):
            return
        yield cell, carry(cell)


@cache
def _forget_what_stays() -> None:
    """Once: else a collection goes through half a million objects of libraries after every run, a third of a second."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


def _why(state: RunState, left: Collection[str]) -> str:
    """Why a run is not done, and what does it."""
    if state.run.id in left:
        return "left to another program"
    found = (record.status for record in state.records if record is not None)
    status = next((status for status in found if status != "done"), None)
    return f"{status} (--retry failed does it again)" if status in RETRIED else status or "without a record"


def _missing(suite: Suite, folder: Path, retry: bool, train: bool, report: Say) -> dict[str, RunState]:
    """The runs that something is to be done of; told of are those that only training again would serve.

    Raises :class:`UserError` where data that somebody asked for earlier are no longer what they were.
    """
    found: dict[str, RunState] = {}
    for run in (cell.run for cell in suite.cells):
        state = state_of(run, folder / run.id)
        if not train and run.network.leaves_weights and state.network_missing(retry):
            report(f"{run.id}: its weights were not kept, so that nothing more can be measured on it")
        elif state.is_missing(retry):
            found[run.id] = state
    if not train:  # else they were looked at as the suite was expanded
        asked = [one for state in found.values() for one in state.measurements_missing(retry)]
        for spec in dict.fromkeys(spec for one in asked for spec in one.reads):
            spec.check_content()
    return found


def _tell(networks: Sequence[Trained], keep: Keep, data: Data, report: Say) -> None:
    """What is doubtful of networks that are to be trained, or large."""
    for doubtful in filter(None, map(doubt, networks)):
        report(f"warning: {doubtful}")
    if (size := _weights_bytes(networks, keep, data)) > TOLD_BYTES:
        less = "(--set keep=backbone or keep=none: less)"
        report(f"the weights of {len(networks)} networks will take {size / 1e9:.0f} GB {less}")


def check(todo: Sequence[tuple[Path, RunState]], retry: bool, data: Data, process: Process) -> dict[str, int]:
    """Raise :class:`UserError` where what is missing of runs cannot be done: all that can be asked before hours.

    ``todo``: of each run its folder, and where it stands. Returns, by a probe's option, the largest value that some
    data set suffices for.
    """
    asked: dict[str, Measurement] = {}
    for _, state in todo:
        network = state.run.network
        if state.network_missing(retry) and (own := getattr(network, "data", None)) is not None:
            network.check(data(own), process)
        check_precision(getattr(network, "precision", "fp32"), process.device)
        asked |= {one.id: one for one in state.measurements_missing(retry)}
    most: dict[str, int] = {}
    for measurement in sorted(asked.values(), key=lambda one: [spec.digest for spec in one.reads]):
        found = stages.read(measurement, data)
        tune = found[-1 if measurement.split == "tune" else 0].tune
        measurement.probe.check(replace(found[0], tune=tune, test=found[-1].test), measurement.split)
        check_precision(measurement.precision, process.device, "evaluation.precision")
        for option, value in measurement.probe.most(found[0].labelled.labels).items():
            most[option] = max(value, most.get(option, 0))
    _check_seen(todo, retry, data)
    return most


def _check_seen(todo: Sequence[tuple[Path, RunState]], retry: bool, data: Data) -> None:
    """Raise :class:`UserError` where a network cannot see what is to be measured on it, or has not what that needs.

    Of networks of a kind that are of the same data one is asked. What is still to be fitted is not; and what is damaged
    costs its own measurements alone.
    """
    asked: dict[tuple[Any, ...], tuple[Path, RunState]] = {}
    for folder, state in todo:
        network = state.run.network
        for one in state.measurements_missing(retry):
            alike = (network.kind, getattr(network, "data", network).digest, "embedding" in one.probe.needs)
            asked.setdefault((one.reads, *alike), (folder, state))
    order = sorted(asked.items(), key=lambda item: [spec.digest for spec in item[0][0]])
    for (reads, *_, embedding), (folder, state) in order:
        network, found = state.run.network, [data(spec) for spec in reads]
        seen: Frozen | Input | None = None
        if not (state.network_missing(retry) and network.leaves_weights):
            with suppress(UserError) if network.leaves_weights else nullcontext():
                seen = network.load(folder, found[0], torch.device("cpu"))
        elif isinstance(network, Trained):
            seen = network.input(found[0])
        if seen is not None:
            for read in found:
                seen.check(read)
        if embedding and isinstance(seen, Frozen):
            projector_of(seen, folder)


def _check_most(probes: Sequence[Probe], most: Mapping[str, int]) -> None:
    """Raise :class:`UserError` for a value that was asked for, and that no data set of the suite suffices for."""
    for probe in probes:
        for option in most.keys() & type(probe).model_fields.keys():
            largest = max(getattr(probe, option))
            if largest > most[option] and (probe.is_asked(option) or min(getattr(probe, option)) > most[option]):
                raise UserError(f"evaluation.{option}: is {largest}, must be at most {most[option]}: {NO_MORE}")


def carry_out(
    cell: Cell, suite: str, data: Data, job: Job, *, retry: bool, train: bool = True, measure: bool = True
) -> RunState:
    """Do what is missing of one run, on all processes, under its lock; returns where it then stands.

    ``train`` false: measure only, a network that is there or leaves no weights. ``measure`` false: train only.
    """
    run, process = cell.run, job.process

    def standing() -> RunState:
        return process.broadcast(state_of(run, job.folder) if process.is_main else None)

    state = standing()
    makes = state.network_missing(retry)
    if not (train or not run.network.leaves_weights if makes else measure and state.measurements_missing(retry)):
        return state
    if process.is_main:
        with full_disk_told(job.folder):
            attempts.start(job.folder)
    if makes:
        own = getattr(run.network, "data", None)
        with computing_in(getattr(run.network, "precision", "fp32")):
            record = stages.make(cell, suite, data(own or run.measurements[0].data), job)
        if record.status != "done" or not measure:
            return standing()
    stages.measure(run.network, state.measurements_missing(retry), data, job)
    state = standing()
    if process.is_main and state.is_done:
        shutil.rmtree(job.folder / attempts.SCRATCH_NAME, ignore_errors=True)
        if job.execution.keep == "none":
            (job.folder / WEIGHTS_NAME).unlink(missing_ok=True)
        elif job.execution.keep == "backbone" and isinstance(run.network, Trained) and run.network.is_kept(job.folder):
            keep_backbone(job.folder)
    return state


def summary(state: RunState) -> str:
    """What became of a run in the last attempt at it, how long that took, and its first accuracy."""
    told, there = "done", [record for record in state.records if record is not None]
    last = max((record.provenance.attempts for record in there), default=0)
    there = [record for record in there if record.provenance.attempts == last]
    fault = next((record for record in there if record.status != "done"), None)
    if fault is not None:
        told = f"{fault.probe} {fault.status}" if isinstance(fault, MeasurementRecord) else fault.status
        told += f": {fault.message}" if fault.message else ""
    measured = [record for record in there if isinstance(record, MeasurementRecord)]
    trained = sum(record.cost.train_seconds for record in there if isinstance(record, NetworkRecord))
    seconds = trained + sum(record.cost.seconds or 0.0 for record in measured)
    metrics = (metric for record in measured for metric in record.metrics if metric.unit == "fraction")
    accuracy = next(metrics, None)
    figure = f"  {accuracy.metric} {100 * accuracy.value:.1f} %" if accuracy else ""
    return f"{told}  {seconds:.1f} s{figure}"


def _weights_bytes(networks: Sequence[Trained], keep: Keep, data: Data) -> int:
    """What the weights of these networks will take on the disk."""
    total = 0
    for network in networks if keep != "none" else ():
        with torch.device("meta"):
            encoder = network.build(data(network.data).channels)
        kept = encoder.backbone if keep == "backbone" else encoder
        total += sum(tensor.numel() * tensor.element_size() for tensor in (*kept.parameters(), *kept.buffers()))
    return total
