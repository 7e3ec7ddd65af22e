"""What people ask of runs that were submitted: how they are, what they print, and that they end. Loads no torch."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.running import attempts
from benchmark.runtime.errors import UserError
from results.record import METRICS_NAME
from slurm import queue
from slurm.manifest import submissions
from slurm.survey import FAILED, LIVE, Standing, is_alive, survey

# Exit codes a script can use; 2 is bad input.
ALL_DONE, SOME_FAILED, UNDER_WAY = 0, 1, 3
_TAIL_BYTES = 8192
_POLL_SECONDS = 1.0
# How often Slurm is asked as logs are followed: seldom, many people may.
_ASK_SECONDS = 15.0


def exit_code(standings: Iterable[Standing]) -> int:
    """``ALL_DONE``; ``UNDER_WAY`` while any run waits or runs; ``SOME_FAILED`` where one failed or is gone."""
    states = {standing.state for standing in standings}
    if states & set(LIVE):
        return UNDER_WAY
    return ALL_DONE if states <= {"done"} else SOME_FAILED


def row(standing: Standing, folder: Path) -> dict[str, Any]:
    """Of one run: state, what it is at, images a second, time left, how much is measured, and why it is there."""
    job, records, running = standing.job, standing.records, standing.state == "running"
    stage = rate = left = None
    if running and job and not records.is_made and (line := last_metrics(folder)):
        network = next(entry.network for entry in job.submission.entries if entry.id == standing.run)
        stage = f"epoch {line['epoch'] + 1}/{network['epochs']}"
        rate = round(line["images_per_second"])
        left = duration((line["total_steps"] - line["step"]) * network["batch_size"] / line["images_per_second"])
    elif running and (measurement := attempts.begun(folder)):
        stage = ", ".join(filter(None, [measurement.rpartition("-")[0], attempts.progress(folder, measurement)]))
    measured = sum(record.status == "done" for record in records.measurements.values())
    return {
        "run": standing.run,
        "state": standing.state,
        "stage": stage,
        "images/s": rate,
        "left": left,
        "measured": f"{measured}/{standing.listed}" if standing.listed else None,
        "requeued": max(0, attempts.count(folder) - 1),
        "job": job.id if job else None,
        "why": standing.detail,
    }


def last_metrics(folder: Path) -> dict[str, Any] | None:
    """The last whole line of a run's ``metrics.jsonl``, read from its end."""
    path = folder / METRICS_NAME
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    for line in reversed(lines):
        with suppress(ValueError):
            parsed: dict[str, Any] = json.loads(line)
            return parsed
    return None


def duration(seconds: float) -> str:
    """Seconds as people read them: ``42 s``, ``13 min``, ``5.2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def summary(standings: Iterable[Standing]) -> str:
    """How many runs are in each state, in one line."""
    counts = Counter(standing.state for standing in standings)
    order = ("done", *LIVE, *FAILED)
    states = sorted(counts, key=lambda state: (order.index(state) if state in order else len(order), state))
    return f"{sum(counts.values())} runs: " + ", ".join(f"{counts[state]} {state}" for state in states)


def show_logs(folder: Path, follow: bool, say: Callable[[str], None]) -> None:
    """Print the logs of the run in ``folder``, one job after the other, from its last training on.

    With ``follow`` go on, across requeues, until it neither waits nor runs.
    Raises :class:`UserError` where it has none.
    """
    printed: Counter[Path] = Counter()
    while True:
        try:
            standing = survey(folder.parent).get(folder.name)
        except queue.NoAnswer:
            if not (follow and printed):
                raise
            time.sleep(_POLL_SECONDS)  # what was printed stays, and the next answer goes on from there
            continue
        if standing is None:
            raise UserError(f"{folder}: is no run that was submitted; spherebench status {folder.parent} lists them")
        if not standing.trail:
            raise UserError(f"{folder}: was not submitted, so it has no log")
        _print_on(standing, printed, say)
        if not follow or standing.state not in LIVE:
            return
        # With each record the run may have come to its end: then Slurm is asked at once.
        ask_at, records = time.monotonic() + _ASK_SECONDS, set(folder.rglob("*.json"))
        while time.monotonic() < ask_at and set(folder.rglob("*.json")) == records:
            time.sleep(_POLL_SECONDS)
            _print_on(standing, printed, say)


def _print_on(standing: Standing, printed: Counter[Path], say: Callable[[str], None]) -> None:
    """Print what was added to each log since."""
    trains = [place for place, job in enumerate(standing.trail) if job.submission.stage != "measure"]
    for job in standing.trail[trains[-1] if trains else 0 :]:
        log = job.submission.log(job.id)
        if not log.exists():
            continue
        with log.open("rb") as file:
            file.seek(printed[log])
            content = file.read()
        if content:
            say(content.decode(errors="replace"))
        printed[log] += len(content)


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
    jobs = [job for standing in live for job in standing.trail if job.is_live]
    local = {job.submission.name: job.submission for job in jobs if job.submission.profile.executor == "local"}
    if local and wanted:
        raise UserError("a worker of this machine takes many runs: cancel all of them, without naming a run")
    groups: dict[tuple[str, str], list[str]] = {}
    for job in jobs:
        if job.submission.profile.executor == "slurm":
            groups.setdefault((job.submission.cluster, job.submission.user), []).append(job.id)
    here = queue.configuration().get("ClusterName") if groups else None
    refused: dict[tuple[str, str], queue.NoAnswer] = {}
    for (cluster, user), ids in groups.items():
        try:
            queue.ask(queue.ASKING_SECONDS, "scancel", *queue.on("" if cluster == here else cluster), *ids)
        except queue.NoAnswer as error:
            refused[cluster, user] = error
    for submission in local.values():
        submission.cancelled.touch()
        for pid in filter(is_alive, submission.jobs):
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
    cancelled = []
    for standing in live:
        if not any(job.is_live and (job.submission.cluster, job.submission.user) in refused for job in standing.trail):
            # Slurm forgets; and where a job has not begun, nobody else could tell.
            attempts.end(runs / standing.run, "cancelled")
            cancelled.append(standing.run)
    if refused:
        told = "; ".join(f"jobs of {user or queue.user()}: {error}" for (_, user), error in refused.items())
        raise UserError(f"{told}; cancelled {len(cancelled)} of {len(live)} runs")
    return cancelled
