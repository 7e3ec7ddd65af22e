"""Print the log of a run, and follow it across requeues."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmark.runtime.errors import UserError
from slurm.survey import LIVE, Standing, survey

_POLL_SECONDS = 1.0
# Where Slurm is asked: seldom, many people may follow logs.
_ASK_SECONDS = 15.0


def standing_of(folder: Path) -> Standing:
    """Where the run in ``folder`` stands. Raises :class:`UserError` where nothing of it is known."""
    standing = survey(folder.parent).get(folder.name)
    if standing is None:
        raise UserError(f"{folder}: is no run that was submitted; spherebench status {folder.parent} lists them")
    return standing


def show(folder: Path, follow: bool, say: Callable[[str], None]) -> None:
    """Print the log of the run in ``folder``; with ``follow`` go on until the run neither waits nor runs."""
    standing = standing_of(folder)
    if standing.log is None:
        raise UserError(f"{folder}: was not submitted, so it has no log")
    at = _print_from(standing.log, 0, say)
    asked = time.monotonic()
    while follow and standing.state in LIVE:
        time.sleep(_POLL_SECONDS)
        if time.monotonic() - asked > _ASK_SECONDS or (folder / "record.json").exists():
            standing, asked = standing_of(folder), time.monotonic()
        at = _print_from(standing.log, at, say) if standing.log else at


def _print_from(path: Path, at: int, say: Callable[[str], None]) -> int:
    if not path.exists():
        return at
    with path.open("rb") as file:
        file.seek(at)
        content = file.read()
    if content:
        say(content.decode(errors="replace"))
    return at + len(content)
