"""Tells a training's curve to trackers, each in a thread of its own: no step waits for one, nor fails with it."""

import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from benchmark.runtime.errors import in_one_line
from benchmark.runtime.tracking.base import Curve, Line, Tracker, trackers

# What is told at once: a kill takes about this much from a store that writes what it is told.
EVERY_SECONDS = 1.0
# What a training waits for trackers at its end, and where it is gone on from later, with what they then lack.
PATIENCE_SECONDS, SHORT_PATIENCE_SECONDS = 60.0, 5.0


class Tracking:
    """Inside, trackers are told what was logged, before or since, as far as their stores lack it."""

    def __init__(self, names: Iterable[str], curve: Curve) -> None:
        self.curve = curve
        self._tellers: list[_Teller] = []
        for name in names:
            try:
                self._tellers.append(_Teller(trackers()[name](curve)))
            except Exception as error:  # installed, but does not work
                _warn(curve, name, in_one_line(error))

    def log(self, line: Line) -> None:
        for teller in self._tellers:
            if not teller.failed:
                teller.lines.append(line)

    def __enter__(self) -> Self:
        for teller in self._tellers:
            teller.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        for teller in self._tellers:
            teller.ending.set()
        seconds = PATIENCE_SECONDS if kind is None else SHORT_PATIENCE_SECONDS
        until = time.monotonic() + seconds
        for teller in self._tellers:
            teller.join(max(0.0, until - time.monotonic()))
            if teller.is_alive():
                _warn(self.curve, teller.tracker.name, f"after {seconds:g} s it is at step {teller.held} of the curve")


class _Teller(threading.Thread):
    """Tells one tracker what its store lacks, about once a second."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__(name=tracker.name, daemon=True)
        self.tracker, self.ending, self.failed = tracker, threading.Event(), False
        self.lines: deque[Line] = deque()
        self.held = 0  # the last step that it was told

    def run(self) -> None:
        try:
            self.held, ended = self.tracker.open(), False
            while not ended:
                ended = self.ending.wait(EVERY_SECONDS)
                waiting = [self.lines.popleft() for _ in range(len(self.lines))]
                # Steps that a kill took back are logged again: where the store held them, it is not told them again.
                if new := [line for line in waiting if line.step > self.held]:
                    self.tracker.tell(new)
                    self.held = new[-1].step
            self.tracker.close()
        except Exception as error:
            self.failed = True
            _warn(self.tracker.curve, self.tracker.name, in_one_line(error))


def _warn(curve: Curve, name: str, why: str) -> None:
    warnings.warn(f"{curve.id}: tracking by {name} ended, and the run goes on: {why}", stacklevel=2)
