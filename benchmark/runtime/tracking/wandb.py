"""Weights & Biases, offline: its files in the network's folder, for ``wandb sync RUNS/*/wandb/offline-run-*``.

Every process begins a file of its own, under the network's id as the run's, and ``wandb sync`` joins whole ones to one
run. It stops at a file that a kill tore, for good: such a file is dropped, and what it held is told again.
"""

import json
import os
import re
import shutil
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
    """A run of wandb's; its own process gathers what it is told, and writes some seconds later."""

    name: ClassVar[str] = "wandb"

    def __init__(self, curve: Curve) -> None:
        super().__init__(curve)
        os.environ.update(_PRIVATE)
        import wandb

        self._wandb = wandb

    def open(self) -> int:
        held = 0
        # Newest first, by their names: a file's steps are beyond those of the ones before, which were looked at before.
        for file in sorted(self.curve.folder.glob("wandb/offline-run-*/*.wandb"), reverse=True):
            last, is_whole = _read(file)
            if not is_whole:
                shutil.rmtree(file.parent, ignore_errors=True)
            elif last:
                held = last
                break
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


def _read(file: Path) -> tuple[int, bool]:
    """The last step in a file, 0 where there is none, and whether it was ended, or synced; by wandb's own reader."""
    is_whole = file.with_name(f"{file.name}.synced").exists()
    command, last = [sys.executable, "-P", "-m", "wandb", "leet", "inspect", "--json", str(file)], None
    environment = {**os.environ, **_PRIVATE}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as inspect:
        assert inspect.stdout is not None
        for record in inspect.stdout:
            if '"type":"history"' in record:
                last = record
            is_whole |= '"type":"exit"' in record
    if inspect.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {inspect.returncode}")
    return int(json.loads(last)["history"]["step"]["num"]) if last else 0, is_whole
