"""Cancel runs, and bring back those that failed, were cancelled or were lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.running import attempts
from benchmark.runtime.errors import UserError
from slurm import queue
from slurm.manifest import Entry, Submission, submissions
from slurm.survey import FAILED, LIVE, UNFINISHED, Standing, survey

if TYPE_CHECKING:
    from slurm.submit import Plan


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
    """Cancel runs that wait or run, in both stages; returns their ids. A running one is told to save first."""
    live = chosen(runs, wanted, LIVE)
    sent = [s for standing in live for s in standing.trail if s.job.is_live]
    workers = {pid for s in sent if s.submission.profile.executor == "local" for pid in s.submission.jobs}
    in_slurm = [s.job.id for s in sent if s.submission.profile.executor == "slurm"]
    if workers and wanted:
        raise UserError("a worker of this machine takes many runs: cancel all of them, without naming a run")
    if in_slurm:
        queue.call("scancel", *in_slurm)
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGTERM)
    for standing in live:
        # Slurm forgets; and where a job has not begun, nobody else could tell.
        attempts.end(runs / standing.run, "cancelled")
    return [standing.run for standing in live]


def retry(runs: Path, wanted: Sequence[str]) -> list[Plan]:
    """Submit again what failed, was cancelled, interrupted or lost, by the profile that it was last submitted with."""
    again = {standing.run for standing in chosen(runs, wanted, (*FAILED, *UNFINISHED))}
    last: dict[str, tuple[Submission, Entry]] = {}
    for submission in submissions(runs):
        for entry in submission.entries:
            before = last[entry.id][1].measurements if entry.id in last else {}
            last[entry.id] = submission, entry.model_copy(update={"measurements": before | entry.measurements})
    groups: dict[str, tuple[Submission, list[Entry]]] = {}
    for run_id in sorted(again):
        if run_id not in last:
            raise UserError(f"{run_id}: was not submitted from {runs}; spherebench run --retry failed does it again")
        submission, entry = last[run_id]
        groups.setdefault(submission.name, (submission, []))[1].append(entry)
    return [_again(runs, submission, entries) for submission, entries in groups.values()]


def _again(runs: Path, before: Submission, entries: list[Entry]) -> Plan:
    from slurm.packing import suite_of
    from slurm.submit import submit

    suite = suite_of(before.model_copy(update={"entries": tuple(entries)}))
    return submit(suite, runs, before.profile, retry=True)
