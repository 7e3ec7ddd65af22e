"""What ``spherebench status`` shows: one row a run, made of where it stands and of what its own files say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.running import attempts
from slurm.survey import FAILED, LIVE, Standing

# Exit codes a script can use; 2 is bad input.
ALL_DONE, SOME_FAILED, UNDER_WAY = 0, 1, 3
_TAIL_BYTES = 8192


def exit_code(standings: Iterable[Standing]) -> int:
    """``ALL_DONE``; ``UNDER_WAY`` while any run waits or runs; ``SOME_FAILED`` where one failed or is gone."""
    states = {standing.state for standing in standings}
    if states & set(LIVE):
        return UNDER_WAY
    return ALL_DONE if states <= {"done"} else SOME_FAILED


def rows(standings: Iterable[Standing], runs: Path) -> list[dict[str, Any]]:
    """One row a run: state, what it is at, images a second, time left, how much is measured, and why it is there."""
    return [_row(standing, runs / standing.run) for standing in standings]


def _row(standing: Standing, folder: Path) -> dict[str, Any]:
    sent, records = standing.sent, standing.records
    running, trained = standing.state == "running", records.network is not None and records.network.status == "done"
    line = last_metrics(folder) if running and not trained else None
    network = next((e.network for e in sent.submission.entries if e.id == standing.run), {}) if sent else {}
    measured = sum(record.status == "done" for record in records.measurements.values())
    return {
        "run": standing.run,
        "state": standing.state,
        "stage": _stage(folder, line, network) if running else None,
        "images/s": round(line["images_per_second"]) if line else None,
        "left": duration(_seconds_left(line, network)) if line else None,
        "measured": f"{measured}/{standing.listed}" if standing.listed else None,
        "requeued": max(0, attempts.count(folder) - 1),
        "job": sent.job.id if sent else None,
        "why": standing.detail,
    }


def _stage(folder: Path, line: dict[str, Any] | None, network: dict[str, Any]) -> str | None:
    """What a running job is at: an epoch, or a probe."""
    if line:
        return f"epoch {line['epoch'] + 1}/{network['epochs']}"
    measurement = attempts.begun(folder)
    return measurement.rpartition("-")[0] if measurement else None


def last_metrics(folder: Path) -> dict[str, Any] | None:
    """The last whole line of a run's ``metrics.jsonl``, read from its end."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            parsed: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        return parsed
    return None


def _seconds_left(line: dict[str, Any], network: dict[str, Any]) -> float:
    steps = line["total_steps"] - line["step"]
    return float(steps * network["batch_size"] / line["images_per_second"])


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
