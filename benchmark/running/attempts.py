"""The story of a run's attempts: one line of ``attempts.jsonl`` where one starts, and one where its end was seen.

The file is only appended to: the last block of a file takes a line even where the disk has none left for a new file.
"""

import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmark.runtime.provenance import job_id, now
from results.record import ATTEMPTS_NAME, MEASUREMENTS_NAME, METRICS_NAME, PROGRESS_NAME, network_path

# What measurements have done so far: checkpoints of their own, parts of features.
SCRATCH_NAME = "measuring"


def start(folder: Path) -> None:
    """An attempt begins: note where, and how many seconds of the ones before were not kept."""
    _append(folder, "start", host=socket.gethostname(), lost_seconds=_seconds_not_kept(folder))


def measuring(folder: Path, measurement: str) -> None:
    _append(folder, "measure", measurement=measurement)


def end(folder: Path, why: str, **facts: Any) -> None:
    """An attempt ended before its work was done: note why, and what is kept."""
    _append(folder, "end", why=why, kept=kept(folder), **facts)


def read(folder: Path) -> list[dict[str, Any]]:
    """Every event so far, oldest first; a line that a kill or a full disk cut short is left out."""
    path, events = folder / ATTEMPTS_NAME, []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError):
            events.append(json.loads(line))
    return [event for event in events if isinstance(event, dict) and "event" in event]


def count(folder: Path) -> int:
    return sum(event["event"] == "start" for event in read(folder))


def lost_seconds(folder: Path) -> float:
    """Seconds of training, over all attempts, that were done and not kept."""
    return sum(event.get("lost_seconds", 0.0) for event in read(folder))


def _newest_checkpoint(folder: Path) -> Path | None:
    return max((folder / "checkpoints").glob("step-*.pt"), default=None)


def kept(folder: Path) -> str:
    """What a later attempt goes on from, in words; equal where nothing was gained in between.

    The step of the training, how many measurements have ended, and the parts that others have saved.
    """
    newest = _newest_checkpoint(folder)
    step = int(newest.name.split("-")[1]) if newest else 0
    measured = sum(_has_ended(path) for path in (folder / MEASUREMENTS_NAME).glob("*.json"))
    parts: dict[str, list[str]] = {}
    for path in sorted((folder / SCRATCH_NAME).rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            parts.setdefault(path.parent.name, []).append(path.stem.rsplit("-", 1)[0])
    saved = [f"{len(names)} of {name} up to {max(names)}" for name, names in parts.items()]
    return ", ".join([f"step {step}", *([f"{measured} measured"] if measured else []), *saved])


def begun(folder: Path) -> str | None:
    """The id of the measurement that the last attempt was at; None where it had begun none."""
    marks = [event for event in read(folder) if event["event"] in ("start", "measure")]
    return marks[-1].get("measurement") if marks else None


def progress(folder: Path, measurement: str) -> str:
    """What a measurement under way is at, and how far: ``epoch 3/100``; '' where it says nothing."""
    for path in (folder / SCRATCH_NAME).glob(f"*/{measurement}/{PROGRESS_NAME}"):
        with suppress(OSError, ValueError, KeyError):
            note = json.loads(path.read_bytes())
            return f"{note['what']} {note['done']}/{note['total']}"
    return ""


def _has_ended(record: Path) -> bool:
    try:
        return bool(json.loads(record.read_bytes())["status"] != "interrupted")
    except (ValueError, KeyError, OSError):
        return False


def _seconds_not_kept(folder: Path) -> float:
    """From the last checkpoint, or else the last attempt's start, to the last line that attempt logged."""
    starts = [event for event in read(folder) if event["event"] == "start"]
    log, newest, network = folder / METRICS_NAME, _newest_checkpoint(folder), network_path(folder)
    is_made = network.exists() and b'"status": "done"' in network.read_bytes()
    if not starts or not log.exists() or is_made:
        return 0.0
    began = datetime.fromisoformat(starts[-1]["time"]).timestamp()
    kept = max(began, newest.stat().st_mtime) if newest else began
    return round(max(0.0, log.stat().st_mtime - kept), 1)


def _append(folder: Path, event: str, **facts: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": now(), "event": event, "job": job_id(), **facts}) + "\n"
    with (folder / ATTEMPTS_NAME).open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # a kill or a full disk cut the last line short
                line = f"\n{line}"
        file.write(line.encode())
