"""How far a run is, and its steps' times, without waiting in the loop."""

import statistics
import sys
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from tqdm import tqdm

from results.record import Quartiles

# A log gets a line a tenth of the way, not a line a step.
_LINES = 10
tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a kill leaves behind


class Progress(tqdm):
    """A bar over the steps of one training run; lines in its place on no terminal, and where it does not run alone."""

    def __init__(
        self, title: str, epochs: int, steps_per_epoch: int, *, first_step: int, shown: bool, alone: bool
    ) -> None:
        on_terminal = shown and alone and sys.stderr.isatty()
        self.title, self.epochs, self.in_log = title, epochs, shown and not on_terminal
        super().__init__(
            total=epochs * steps_per_epoch,
            initial=first_step,
            desc=title,
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=not on_terminal,
        )

    def report(self, epoch: int, terms: Mapping[str, float], images_per_second: float) -> None:
        """Show the loss terms of the last logged step, one by one."""
        shown = {name: f"{value:.4g}" for name, value in terms.items()}
        self.set_postfix({"epoch": f"{epoch + 1}/{self.epochs}", **shown, "images/s": f"{images_per_second:.0f}"})

    def end_epoch(self, epoch: int, terms: Mapping[str, float], images_per_second: float, seconds_left: float) -> None:
        """Write a line to the log, ten times a run and at its end."""
        every = max(1, self.epochs // _LINES)
        if self.in_log and ((epoch + 1) % every == 0 or epoch + 1 == self.epochs):
            loss = "  ".join(f"{name} {value:.4g}" for name, value in terms.items())
            speed = f"{images_per_second:.0f} images/s  {seconds_left:.0f} s left"
            line = f"  {self.title}  epoch {epoch + 1}/{self.epochs}  {loss}  {speed}\n"
            print(line, end="", file=sys.stderr, flush=True)  # in one piece: others may write beside it


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
