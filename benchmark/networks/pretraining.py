"""Pretraining: views in, one joint-embedding loss, resumable at any step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.data import DataSet
from benchmark.networks.base import Diverged, Job
from benchmark.networks.optimizers import learning_rate
from benchmark.networks.step import TrainingStep
from benchmark.networks.trained import Trained
from benchmark.runtime import checkpoints
from benchmark.runtime.memory import PeakMemory
from benchmark.runtime.progress import Progress, StepClock
from benchmark.runtime.signals import Interrupted
from benchmark.views import recipe
from benchmark.views.loader import ViewLoader
from methods.losses.base import Loss
from results.record import METRICS_NAME, write_atomically

# The first steps of an attempt warm caches up; the step whose memory is counted is slowed down by the counting.
_COUNTED_STEP = 1
_WARM_UP_STEPS = 3
# What may be wanted after a step, in the order of precedence.
_GO_ON, _SAVE, _STOP = 0, 1, 2
# An epoch's end is the cleaner place to go on from: there a checkpoint is due after this share of its interval.
_DUE_AT_EPOCH_END = 0.5
# Of a training step, what a checkpoint holds the state of.
_PARTS = ("encoder", "optimizer", "scaler")


@dataclass
class State:
    """Where a run is, and what it took so far: the part of a checkpoint that is plain numbers."""

    step: int = 0
    elapsed: float = 0.0
    peak_bytes: int = 0
    step_seconds: list[float] = field(default_factory=list)
    form: str = ""


class Pretraining:
    """The training of one network. ``train`` carries on from the newest checkpoint in the job's folder."""

    def __init__(self, network: Trained, data: DataSet, job: Job) -> None:
        self.network, self.job, self.folder = network, job, job.folder
        self.process = process = job.process
        self.loader = ViewLoader(
            data.train,
            recipe(network.augmentation),
            batch_size=network.batch_size,
            image_size=data.image_size,
            mean=data.mean,
            std=data.std,
            seed=network.seed,
            workers=job.execution.workers,
            device=process.device,
            rank=process.rank,
            world_size=process.world_size,
        )
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.total_steps = network.epochs * self.steps_per_epoch
        self.step = TrainingStep(network, data.channels, process)
        self.state = State()
        self.clock = StepClock(process.device)
        # One clock over all epochs: an epoch may be shorter than the time between two checkpoints.
        self._began = self._saved = time.perf_counter()
        self._finite = torch.ones((), dtype=torch.bool, device=process.device)
        self._restore()
        self._logged = (self.state.step, self._began)
        self._cold_steps = _WARM_UP_STEPS

    def train(self) -> None:
        """Train to the last epoch.

        Raises :class:`Diverged` where the loss is not finite, :class:`Interrupted` once somebody asked any process to
        stop; the checkpoint is then saved.
        """
        title, state = self.network.id.rpartition("-")[0], self.state
        sizes = self.network.epochs, self.steps_per_epoch
        with closing(Progress(title, *sizes, first_step=state.step, shown=self.process.is_main)) as progress:
            while state.step < self.total_steps:
                self._train_epoch(state.step // self.steps_per_epoch, progress)
        self.save()

    def _train_epoch(self, epoch: int, progress: Progress) -> None:
        self.step.encoder.train()
        self.clock.tick()
        for views in self.loader.epoch(epoch, first_step=self.state.step % self.steps_per_epoch):
            loss = self._counted_step(views)
            self.clock.tick()
            self.state.step += 1
            progress.update()
            ends_epoch = self.state.step % self.steps_per_epoch == 0
            if ends_epoch or self.state.step % self.job.execution.log_every == 0:
                self._log(epoch, loss, progress, ends_epoch)
            wanted = self._wanted(self.job.requests.run_must_end, ends_epoch)
            if wanted != _GO_ON:
                self._pause_clock()
                self.save()
                self.clock.tick()
            if wanted == _STOP:
                raise Interrupted(f"stopped at step {self.state.step} of {self.total_steps}; its state is saved")
        self._pause_clock()

    def _wanted(self, asked: bool, ends_epoch: bool) -> int:
        """What happens after this step: the most that any process wants, told in one collective."""
        interval = self.job.execution.checkpoint_seconds * (_DUE_AT_EPOCH_END if ends_epoch else 1)
        due = self.process.is_main and time.perf_counter() - self._saved > interval
        return self.process.all_reduce_max(_STOP if asked else _SAVE if due else _GO_ON)

    def _counted_step(self, views: tuple[Tensor, ...]) -> Loss:
        """One step; the second one of a run under the memory counter."""
        if self.state.step != min(_COUNTED_STEP, self.total_steps - 1):
            return self._step(views)
        with PeakMemory(self.step.encoder, self.step.optimizer, *views, device=self.process.device) as memory:
            loss = self._step(views)
        self.state.peak_bytes = memory.baseline_bytes + memory.peak_bytes
        return loss

    def _step(self, views: tuple[Tensor, ...]) -> Loss:
        rate = learning_rate(
            self.state.step,
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.network.epochs,
            spec=self.network.optimizer,
            batch_size=self.network.batch_size,
        )
        for group in self.step.optimizer.param_groups:
            group["lr"] = rate
        loss = self.step(views)
        self._finite &= torch.isfinite(loss.value.detach())
        self.state.form = loss.form
        return loss

    def _log(self, epoch: int, loss: Loss, progress: Progress, ends_epoch: bool) -> None:
        if not bool(self._finite):
            raise Diverged(f"the loss became {loss.value.item()} by epoch {epoch + 1}, step {self.state.step}")
        if not self.process.is_main:
            return
        terms = {name: value.item() for name, value in loss.terms.items()}
        speed = self._images_per_second()
        line = {
            "epoch": epoch,
            "step": self.state.step,
            "total_steps": self.total_steps,
            "loss": loss.value.item(),
            "terms": terms,
            "lr": self.step.optimizer.param_groups[0]["lr"],
            "images_per_second": speed,
        }
        with (self.folder / METRICS_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        progress.report(epoch, terms, speed)
        if ends_epoch:
            left = (self.total_steps - self.state.step) * self.network.batch_size / speed
            progress.end_epoch(epoch, terms, speed, left)

    def _images_per_second(self) -> float:
        """Since the last line of the log."""
        step, time_then = self._logged
        self._logged = (self.state.step, time.perf_counter())
        return (self.state.step - step) * self.network.batch_size / (self._logged[1] - time_then)

    def _pause_clock(self) -> None:
        self.clock.pause()
        cold = self.clock.seconds[: self._cold_steps]
        self.state.step_seconds += self.clock.seconds[len(cold) :]
        self._cold_steps -= len(cold)
        self.clock.seconds.clear()

    def save(self) -> None:
        """Write a checkpoint of this very step, unless the loss is not finite."""
        self._saved = time.perf_counter()
        if not self.process.is_main or not bool(self._finite):
            return
        now = time.perf_counter()
        self.state.elapsed += now - self._began
        self._began = now
        parts = {name: getattr(self.step, name).state_dict() for name in _PARTS}
        snapshot = {"network": self.network.digest, "state": asdict(self.state), **parts}
        checkpoints.save(self.folder / "checkpoints", self.state.step, snapshot)

    def _restore(self) -> None:
        # One process looks: others would trip over a damaged file while it is being set aside.
        found = checkpoints.newest_whole(self.folder / "checkpoints") if self.process.is_main else None
        newest: Path | None = self.process.broadcast(found)
        snapshot = checkpoints.load(newest, self.process.device) if newest else None
        if snapshot is not None and snapshot["network"] == self.network.digest:
            self.state = State(**snapshot["state"])
            for name in _PARTS:
                getattr(self.step, name).load_state_dict(snapshot[name])
        if self.process.is_main:
            _cut_log(self.folder / METRICS_NAME, self.state.step)


def _cut_log(path: Path, step: int) -> None:
    """Drop the lines of steps that were lost with a kill, and a line that a kill cut short."""
    if not path.exists():
        return
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _logged_step(line) <= step]
    write_atomically(path, "".join(f"{line}\n" for line in kept).encode())


def _logged_step(line: str) -> float:
    try:
        entry: Mapping[str, Any] = json.loads(line)
        return float(entry["step"])
    except (ValueError, KeyError):
        return math.inf
