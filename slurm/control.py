"""Cancel runs, and bring back those that failed, were cancelled or were lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.running import attempts
from benchmark.runtime.errors import UserError
from slurm import queue
from slurm.manifest import Submission, submissions
from slurm.packing import suite_of
from slurm.submit import Plan, submit
from slurm.survey import FAILED, LIVE, UNFINISHED, Standing, survey


def chosen(runs: Path, wanted: Sequence[str], states: Sequence[str]) -> list[Standing]:
    """The runs named by ``wanted`` (an id, or the beginning of several; none: all) that are in one of ``states``.

    Raises :class:`UserError` where a name fits no run.
    """
    if not submissions(runs):
        raise UserError(f"{runs}: nothing was submitted from there; spherebench submit does")
    standings = survey(runs)
    for beginning in wanted:
        if not any(name.startswith(beginning) for name in standings):
            raise UserError(f"{beginning!r}: is no run of {runs}; spherebench status {runs} lists them")
    named = [s for name, s in standings.items() if not wanted or name.startswith(tuple(wanted))]
    return [standing for standing in named if standing.state in states]


def cancel(runs: Path, wanted: Sequence[str]) -> list[str]:
    """Cancel runs that wait or run; returns their ids. A running one is told to save first."""
    live = chosen(runs, wanted, LIVE)
    local = [s for s in live if s.job and s.job.id.startswith("local-")]
    in_slurm = [s.job.id for s in live if s.job and not s.job.id.startswith("local-")]
    if in_slurm:
        queue.call("scancel", *in_slurm)
    if local and wanted:
        raise UserError("a worker of this machine takes many runs: cancel all of them, without naming a run")
    for pid in {pid for s in local if s.submission for pid in s.submission.jobs}:
        _ask_worker(int(pid))
    for standing in live:
        # Slurm forgets; and where a job has not begun, nobody else could tell.
        attempts.end(runs / standing.run, "cancelled")
    return [standing.run for standing in live]


def _ask_worker(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def retry(runs: Path, wanted: Sequence[str]) -> list[Plan]:
    """Submit runs again that failed, were cancelled, interrupted or lost, as they were last submitted."""
    again = chosen(runs, wanted, (*FAILED, *UNFINISHED))
    groups: dict[str, tuple[Submission, set[str]]] = {}
    for standing in again:
        before = standing.submission or _last_with(runs, standing.run)
        groups.setdefault(before.name, (before, set()))[1].add(standing.run)
    return [_again(runs, before, ids) for before, ids in groups.values()]


def _last_with(runs: Path, run_id: str) -> Submission:
    found = [s for s in submissions(runs) if any(entry.id == run_id for entry in s.entries)]
    if not found:
        raise UserError(f"{run_id}: was not submitted from {runs}; spherebench run --retry failed does it again")
    return found[-1]


def _again(runs: Path, before: Submission, ids: set[str]) -> Plan:
    suite = suite_of(before)
    cells = tuple(cell for cell in suite.cells if cell.run.id in ids)
    profile = before.profile.model_copy(update={"resources": before.resources, "shapes": ()})
    return submit(replace(suite, cells=cells), runs, profile, retry=True)
