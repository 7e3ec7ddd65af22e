"""Step times without waiting for the device in the loop."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import Any

import torch

from results.record import Quartiles


class StepClock:
    """Seconds between consecutive ticks: host time on the CPU, events on a CUDA stream.

    ``pause`` starts a new segment, so that what happens in between (a checkpoint, the next epoch's set-up) is not
    counted as a step.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_cuda = device.type == "cuda"
        self.seconds: list[float] = []
        self._ticks: list[Any] = []  # all of one kind: times, or events

    def tick(self) -> None:
        """A step ends here, or, first after a pause, the first one begins."""
        if not self.on_cuda:
            self._ticks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._ticks.append(event)

    def pause(self) -> None:
        """Turn the ticks so far into step times."""
        if self.on_cuda and self._ticks:
            torch.cuda.synchronize()
        for before, after in pairwise(self._ticks):
            self.seconds.append(before.elapsed_time(after) / 1000 if self.on_cuda else after - before)
        self._ticks.clear()


def quartiles(seconds: list[float]) -> Quartiles | None:
    """Median and quartiles, or None of nothing."""
    if len(seconds) < 2:
        return Quartiles(median=seconds[0], q1=seconds[0], q3=seconds[0], n=1) if seconds else None
    q1, median, q3 = statistics.quantiles(seconds, n=4, method="inclusive")
    return Quartiles(median=median, q1=q1, q3=q3, n=len(seconds))
