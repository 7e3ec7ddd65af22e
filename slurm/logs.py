"""Print the logs of a run, training and measuring, and follow them across requeues."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmark.runtime.errors import UserError
from slurm.survey import LIVE, Standing, survey

_POLL_SECONDS = 1.0
# Where Slurm is asked: seldom, many people may follow logs.
_ASK_SECONDS = 15.0


def show(folder: Path, follow: bool, say: Callable[[str], None]) -> None:
    """Print the logs of the run in ``folder``, one job after the other, from its last training on.

    With ``follow`` go on until the run neither waits nor runs. Raises :class:`UserError` where it has none.
    """
    standing = _standing_of(folder)
    if not standing.trail:
        raise UserError(f"{folder}: was not submitted, so it has no log")
    printed: dict[Path, int] = {}
    _print_on(standing, printed, say)
    asked, ended = time.monotonic(), _ends(folder)
    while follow and standing.state in LIVE:
        time.sleep(_POLL_SECONDS)
        if time.monotonic() - asked > _ASK_SECONDS or _ends(folder) != ended:
            standing, asked, ended = _standing_of(folder), time.monotonic(), _ends(folder)
        _print_on(standing, printed, say)


def _standing_of(folder: Path) -> Standing:
    standing = survey(folder.parent).get(folder.name)
    if standing is None:
        raise UserError(f"{folder}: is no run that was submitted; spherebench status {folder.parent} lists them")
    return standing


def _ends(folder: Path) -> int:
    """How many records there are: with each the run may have come to its end."""
    return len(list(folder.rglob("*.json")))


def _print_on(standing: Standing, printed: dict[Path, int], say: Callable[[str], None]) -> None:
    """Print what was added to each log since."""
    trains = [place for place, sent in enumerate(standing.trail) if sent.submission.stage != "measure"]
    for sent in standing.trail[trains[-1] if trains else 0 :]:
        if not sent.log.exists():
            continue
        with sent.log.open("rb") as file:
            file.seek(printed.get(sent.log, 0))
            content = file.read()
        if content:
            say(content.decode(errors="replace"))
        printed[sent.log] = printed.get(sent.log, 0) + len(content)
