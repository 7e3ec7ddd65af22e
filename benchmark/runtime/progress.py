"""How far a run is: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from tqdm import tqdm

# A log gets a line a tenth of the way, not a line a step.
_LINES = 10


class Progress:
    """Progress of one training run over its epochs."""

    def __init__(self, title: str, epochs: int, steps_per_epoch: int, *, first_step: int, shown: bool) -> None:
        self.title, self.epochs = title, epochs
        on_terminal = shown and sys.stderr.isatty()
        self.in_log = shown and not on_terminal
        self.bar = tqdm(
            total=epochs * steps_per_epoch,
            initial=first_step,
            desc=title,
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=not on_terminal,
        )

    def close(self) -> None:
        self.bar.close()

    def advance(self) -> None:
        self.bar.update()

    def report(self, epoch: int, terms: Mapping[str, float], images_per_second: float) -> None:
        """Show the loss terms of the last logged step, one by one."""
        shown = {name: f"{value:.4g}" for name, value in terms.items()}
        self.bar.set_postfix({"epoch": f"{epoch + 1}/{self.epochs}", **shown, "images/s": f"{images_per_second:.0f}"})

    def end_epoch(self, epoch: int, terms: Mapping[str, float], images_per_second: float, seconds_left: float) -> None:
        """Write a line to the log, ten times a run and at its end."""
        every = max(1, self.epochs // _LINES)
        if self.in_log and ((epoch + 1) % every == 0 or epoch + 1 == self.epochs):
            loss = "  ".join(f"{name} {value:.4g}" for name, value in terms.items())
            speed = f"{images_per_second:.0f} images/s  {seconds_left:.0f} s left"
            print(f"  {self.title}  epoch {epoch + 1}/{self.epochs}  {loss}  {speed}", file=sys.stderr, flush=True)
