"""Carry out a suite: what is missing of it, one run after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.data import DataSet, load
from benchmark.networks.kernel_check import check as check_rows
from benchmark.networks.precision import doubt
from benchmark.probes.evaluate import check as check_evaluation
from benchmark.running.execute import execute
from benchmark.running.folder import all_done, alone, check_owner, claim_folder, is_pending, pending, read_record
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import Suite
from benchmark.suite.run import BASELINES, DataSpec, Execution, Run
from benchmark.views.loader import check_batch
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
        check_data(cell.run, data.get(cell.run.data), process)
        if doubtful := doubt(cell.run):
            report(f"warning: {doubtful}")
    if process.is_main:
        claim_folder(suite, folder)
    for place, cell in enumerate(cells):
        requests.next_run()
        if process.highest(requests.suite_must_end):
            break
        run_folder = folder / cell.run.id
        with alone(run_folder, process) as mine:
            # Another program may hold the run, or have ended it since `missing` was found.
            if mine and process.told(is_pending(read_record(run_folder), retry) if process.is_main else None):
                told = summary(execute(cell, suite, run_folder, data.get(cell.run.data), process, requests))
            else:
                told = f"{cell.run.id}  is another program's; left to it"
        report(f"[{place + 1}/{len(cells)}] {told}")
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


def check_data(run: Run, data: DataSet, process: Process) -> None:
    """Raise :class:`UserError` where the run cannot be evaluated on the data, or its batch does not fit them."""
    check_rows(data, run)
    check_evaluation(data, run)
    if run.method in BASELINES or run.regime is not None:
        return
    check_batch(run.batch_size, len(data.train), process.world_size)
