"""Weights & Biases, offline: its files in the network's folder, for ``wandb sync RUNS/*/wandb/offline-run-*``.

Every process begins a file of its own, under the network's id as the run's, and ``wandb sync`` joins them to one run.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from benchmark.runtime.tracking.base import Curve, Line, Tracker, register

# Nothing is sent, reports of errors neither; it is read as wandb is imported.
_PRIVATE = {"WANDB_ERROR_REPORTING": "false"}


@register
class WeightsAndBiases(Tracker):
    """wandb's own process gathers what it is told, and writes some seconds later: a kill takes that from the file."""

    name: ClassVar[str] = "wandb"

    def __init__(self, curve: Curve) -> None:
        super().__init__(curve)
        os.environ.update(_PRIVATE)
        import wandb

        self._wandb = wandb

    def open(self) -> int:
        # By their names newest first; a file that is not the first holds nothing, or steps beyond those of all before.
        files = sorted(self.curve.folder.glob("wandb/offline-run-*/*.wandb"), reverse=True)
        held = next(filter(None, map(_last_step, files)), 0)
        self._run = self._wandb.init(
            project=re.sub(r"[/\\#?%:]", "-", self.curve.project),
            id=self.curve.id,
            name=self.curve.id,
            config=dict(self.curve.settings),
            dir=str(self.curve.folder),
            mode="offline",
            resume="allow",  # without, a file that is synced replaces what came of those before
            reinit="create_new",
            settings=self._wandb.Settings(
                silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True
            ),
        )
        return held

    def tell(self, lines: Sequence[Line]) -> None:
        for step, numbers in lines:
            self._run.log(numbers, step=step, commit=True)

    def close(self) -> None:
        self._run.finish()


def _last_step(file: Path) -> int:
    """The last step in a file, by wandb's own reader; 0 where there is none."""
    command, last = [sys.executable, "-P", "-m", "wandb", "leet", "inspect", "--json", str(file)], None
    environment = {**os.environ, **_PRIVATE}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as inspect:
        assert inspect.stdout is not None
        for record in inspect.stdout:
            if '"type":"history"' in record:
                last = record
    if inspect.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {inspect.returncode}")
    return int(json.loads(last)["history"]["step"]["num"]) if last else 0
