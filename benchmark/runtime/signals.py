"""Ctrl-C and SIGTERM ask; the training loop stops at the end of its step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Requests:
    """What was asked so far. Ctrl-C ends the current run; a second one, or SIGTERM, ends the suite."""

    run_must_end: bool = False
    suite_must_end: bool = False

    def next_run(self) -> None:
        """Another run begins: what ended the last one does not end it."""
        self.run_must_end = self.suite_must_end


@contextmanager
def stop_requests() -> Iterator[Requests]:
    """Turn SIGINT and SIGTERM into :class:`Requests` while the body runs."""
    requests = Requests()

    def ask(number: int, frame: FrameType | None) -> None:
        requests.suite_must_end |= requests.run_must_end or number == signal.SIGTERM
        requests.run_must_end = True
        if not requests.suite_must_end:
            print("\ninterrupted: this run ends after its step and is kept; Ctrl-C again ends the suite", flush=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
