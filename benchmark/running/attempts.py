"""The story of a run's attempts: one line of ``attempts.jsonl`` where one starts, and one where its end was seen.

The file is only appended to: the last block of a file takes a line even where the disk has none left for a new file.
"""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NAME = "attempts.jsonl"
Event = dict[str, Any]


def job_id() -> str | None:
    """The job this process is part of, as Slurm names it (``123`` or ``123_4``), or ``local-PID``; None outside one."""
    environment = os.environ
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    if "SUBMITIT_LOCAL_JOB_ID" in environment:
        return f"local-{environment['SUBMITIT_LOCAL_JOB_ID']}"
    return environment.get("SLURM_JOB_ID")


def start(folder: Path) -> None:
    """An attempt begins: note where, and how many seconds of the ones before were not kept."""
    lost = _seconds_not_kept(folder)
    _append(folder, {"event": "start", "job": job_id(), "host": socket.gethostname(), "lost_seconds": lost})


def end(folder: Path, why: str, **facts: Any) -> None:
    """An attempt ended without a record: note why, and the step that is kept."""
    _append(folder, {"event": "end", "job": job_id(), "why": why, "step": kept_step(folder), **facts})


def read(folder: Path) -> list[Event]:
    """Every event so far, oldest first; a line that a kill or a full disk cut short is left out."""
    path = folder / NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [event for event in map(_parsed, lines) if event]


def count(folder: Path) -> int:
    """How many attempts began."""
    return sum(event["event"] == "start" for event in read(folder))


def lost_seconds(folder: Path) -> float:
    """Seconds of training, over all attempts, that were done and not kept."""
    return sum(event.get("lost_seconds", 0.0) for event in read(folder))


def kept_step(folder: Path) -> int:
    """The step of the newest checkpoint, or 0."""
    newest = _newest_checkpoint(folder)
    return int(newest.name.split("-")[1]) if newest else 0


def _newest_checkpoint(folder: Path) -> Path | None:
    return max((folder / "checkpoints").glob("step-*.pt"), default=None)


def _seconds_not_kept(folder: Path) -> float:
    """From the last checkpoint, or else the last attempt's start, to the last line that attempt logged."""
    starts = [event for event in read(folder) if event["event"] == "start"]
    log, newest = folder / "metrics.jsonl", _newest_checkpoint(folder)
    if not starts or not log.exists():
        return 0.0
    began = datetime.fromisoformat(starts[-1]["time"]).timestamp()
    kept = max(began, newest.stat().st_mtime) if newest else began
    return round(max(0.0, log.stat().st_mtime - kept), 1)


def _append(folder: Path, event: Event) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **event})
    with (folder / NAME).open("a+b") as file:
        if file.tell() and not _ends_whole(file.name):
            line = f"\n{line}"
        file.write(f"{line}\n".encode())


def _ends_whole(path: str) -> bool:
    with Path(path).open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _parsed(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
