"""Carry out a suite: what is missing of it, one run after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.data import DataSet, load
from benchmark.distributed import Process
from benchmark.errors import UserError
from benchmark.execute import execute
from benchmark.folder import all_done, alone, check_owner, claim_folder, pending
from benchmark.run import BASELINES, DataSpec, Execution, Run
from benchmark.signals import Requests
from benchmark.suite import Suite
from results.record import Record


def execute_suite(
    suite: Suite,
    folder: Path,
    process: Process,
    requests: Requests,
    *,
    retry: bool,
    report: Callable[[str], None],
) -> bool | None:
    """Run what is missing of ``suite``, one run after the other, and tell ``report`` of each.

    Returns whether every run is done; None on the processes that do not write. Raises :class:`UserError` before
    anything is written where data are missing, a batch does not fit them, or the folder is another suite's.
    """
    check_owner(suite, folder)
    missing = set(process.told(pending(suite, folder, retry) if process.is_main else None))
    cells = [cell for cell in suite.cells if cell.run.id in missing]
    report(f"{suite.name}: {len(suite.cells)} runs, {len(suite.cells) - len(cells)} recorded in {folder}")
    data = DataCache(suite.execution)
    for cell in cells:
        check_batch(cell.run, data.get(cell.run.data), process)
    if process.is_main:
        claim_folder(suite, folder)
    for place, cell in enumerate(cells):
        requests.next_run()
        if process.agree(requests.suite_must_end):
            break
        with alone(folder / cell.run.id, process) as mine:
            if mine:
                record = execute(cell, suite, folder / cell.run.id, data.get(cell.run.data), process, requests)
                report(f"[{place + 1}/{len(cells)}] {summary(record)}")
            else:
                report(f"[{place + 1}/{len(cells)}] {cell.run.id}  is being run by another program; left to it")
    return all_done(suite, folder) if process.is_main else None


def summary(record: Record) -> str:
    """One record in one line: what became of it, how long it took, and its first accuracy."""
    message = f": {record.message}" if record.message else ""
    seconds = record.cost.train_seconds + record.cost.evaluation_seconds
    accuracy = next((metric for metric in record.metrics if metric.unit == "fraction"), None)
    figure = f"  {accuracy.metric} {100 * accuracy.value:.1f} %" if accuracy else ""
    return f"{record.id}  {record.status}{message}  {seconds:.1f} s{figure}"


@dataclass
class DataCache:
    """Data sets, each loaded once; the last one is kept."""

    execution: Execution
    _spec: DataSpec | None = None
    _data: DataSet | None = None

    def get(self, spec: DataSpec) -> DataSet:
        """The data of ``spec``."""
        if self._data is None or spec != self._spec:
            self._spec, self._data = spec, load(spec, self.execution)
        return self._data


def check_batch(run: Run, data: DataSet, process: Process) -> None:
    """Raise :class:`UserError` where a batch is larger than the training set or does not divide over the processes."""
    if run.method in BASELINES:
        return
    process.share(run.batch_size)
    if run.batch_size > len(data.train):
        raise UserError(
            f"batch_size is {run.batch_size}, must be at most the {len(data.train)} training images of {data.name}: "
            "a larger batch is never whole and would be dropped"
        )
