"""The kind ``trained``: an encoder trained with a joint-embedding loss, resumable at any step."""

import json
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from benchmark.data import DataSet, DataSpec
from benchmark.networks.backbones import BackboneSpec, Encoder, ProjectorSpec, build_encoder, scale_of, sized
from benchmark.networks.base import (
    WEIGHTS_NAME,
    Diverged,
    FrozenModule,
    Input,
    Job,
    Made,
    Network,
    load_weights,
    part_of,
    save_weights,
)
from benchmark.networks.online import OnlineProbe
from benchmark.networks.optimizers import OptimizerSpec, learning_rate
from benchmark.networks.step import TrainingStep
from benchmark.runtime import checkpoints
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.memory import PeakMemory
from benchmark.runtime.process import Process
from benchmark.runtime.progress import Progress, StepClock, quartiles
from benchmark.runtime.signals import Interrupted
from benchmark.runtime.spec import Precision, SettingError
from benchmark.runtime.tracking.base import Curve, Line
from benchmark.runtime.tracking.live import Tracking
from benchmark.views import recipe
from benchmark.views.loader import ViewLoader, check_batch
from methods import registry
from methods.losses.base import Loss
from results.record import METRICS_NAME, Cost, write_atomically

Form = Literal["auto", "primal", "dual"]

# Where half precision costs a gradient more than a per cent, as measured in results/reference/precision: the error of
# Barlow Twins' gradient in bf16 grows with D/N, and is 1.0 % at D = 32768, N = 256.
LARGEST_ERROR, BARLOW_TWINS_RATIO = 0.01, 128

# The first steps of an attempt warm caches up; the step whose memory is counted is slowed down by the counting.
_COUNTED_STEP = 1
_WARM_UP_STEPS = 3
# What may be wanted after a step, in the order of precedence.
_GO_ON, _SAVE, _STOP = 0, 1, 2
# An epoch's end is the cleaner place to go on from: there a checkpoint is due after this share of its interval.
_DUE_AT_EPOCH_END = 0.5
# Of a training step, what a checkpoint holds the state of.
_PARTS = ("encoder", "optimizer", "scaler")


class Trained(Network):
    """Views of images, an encoder, a loss and an optimiser."""

    kind: Literal["trained"] = "trained"
    loss: dict[str, Any] = Field(default_factory=dict, description="the method's options, resolved")
    embedding_dim: int = Field(ge=2)
    batch_size: int = Field(ge=2, description="images in a step, over all processes")
    epochs: int = Field(ge=1)
    seed: int = Field(0, ge=0)
    precision: Precision = "fp32"
    form: Form = "auto"
    joint_forward: bool = Field(False, description="one forward pass over all views of a size, instead of one a view")
    compile: bool = Field(False, description="the network through torch.compile")
    data: DataSpec
    augmentation: Annotated[str, AfterValidator(lambda name: recipe(name).name)]
    backbone: BackboneSpec
    projector: ProjectorSpec = ProjectorSpec()
    optimizer: OptimizerSpec

    offers: ClassVar[frozenset[str]] = frozenset({"features", "rows", "embedding", "backbone"})
    leaves_weights: ClassVar[bool] = True
    protocol_version: ClassVar[int] = 3

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        return registry.names()

    def resolved(self) -> Self:
        if (warmup := self.optimizer.warmup_epochs) > self.epochs:
            key = "optimizer.warmup_epochs"
            raise SettingError(key, f"is {warmup:g}, must be at most the {self.epochs} epochs of the run")
        loss = registry.get(self.method).resolve(self.loss, self.embedding_dim)
        return self.model_copy(update={"loss": dict(loss), "data": sized(self.data, self.backbone)})

    @property
    def title(self) -> str:
        return registry.get(self.method).title

    def build(self, channels: int) -> Encoder:
        """The encoder before its first step, on the CPU."""
        size = self.data.image_size
        return build_encoder(self.backbone, self.projector, self.embedding_dim, channels, self.seed, size)

    def input(self, data: DataSet) -> Input:
        """What its images are made into."""
        return Input.of(data, scale_of(self.backbone))

    def loader(self, data: DataSet, process: Process, workers: int) -> ViewLoader:
        """The views that it is trained on, this process's part of every batch."""
        views, input = recipe(self.augmentation), self.input(data)
        size, seed = self.batch_size, self.seed
        return ViewLoader(data.train, views, input, process, batch_size=size, seed=seed, workers=workers)

    def check(self, data: DataSet, process: Process) -> None:
        """Images, and enough of them for a batch that divides over the processes."""
        super().check(data, process)
        check_batch(self.batch_size, len(data.train), process.world_size)

    def make(self, data: DataSet, job: Job) -> Made:
        """Train to the last epoch, going on from the newest checkpoint in the job's folder."""
        with full_disk_told(job.folder):
            training = Pretraining(self, data, job)
            training.train()
        weights, state = training.step.encoder.state_dict(), training.state
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values() if tensor.is_floating_point()):
            raise Diverged(f"a weight is not finite after {self.epochs} epochs, though the loss was")
        if job.process.is_main:
            save_weights(job.folder, weights, self.input(data))
        step_seconds = quartiles(state.step_seconds)
        cost = Cost(
            step_seconds=step_seconds,
            images_per_second=self.batch_size / step_seconds.median if step_seconds else None,
            peak_bytes_step=state.peak_bytes or None,
            resident_bytes=state.resident_bytes or None,
            memory_counter="cuda allocator" if job.process.device.type == "cuda" else "tensor storages",
            train_seconds=state.elapsed,
        )
        return Made(cost, state.form)

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenModule:
        """The encoder, with its projector where that was kept."""
        state, input = load_weights(folder)
        encoder, projector_state = self.build(input.channels), part_of(state, "projector.")
        try:
            encoder.backbone.load_state_dict(part_of(state, "backbone."))
            if projector_state:
                encoder.projector.load_state_dict(projector_state)
        except RuntimeError as error:
            raise UserError(f"{folder / WEIGHTS_NAME}: is damaged: its tensors are not those of {self.id}") from error
        projector = encoder.projector.to(device) if projector_state else None
        return FrozenModule("backbone", encoder.backbone.to(device), input, encoder.feature_dim, self.epochs, projector)


def doubt(network: Trained) -> str | None:
    """What to say before a training whose gradient has a relative error above :data:`LARGEST_ERROR`; else None."""
    harmed = (network.method, network.precision) == ("barlow_twins", "bf16")
    if not harmed or network.embedding_dim <= BARLOW_TWINS_RATIO * network.batch_size:
        return None
    return (
        f"{network.id}: in bf16 the gradient of Barlow Twins has an error above {100 * LARGEST_ERROR:g} % where D is "
        f"more than {BARLOW_TWINS_RATIO} times the batch; precision fp16 or fp32 has not"
    )


@dataclass
class State:
    """Where a run is, and what it took so far: the part of a checkpoint that is plain numbers."""

    step: int = 0
    elapsed: float = 0.0
    peak_bytes: int = 0
    resident_bytes: int = 0
    step_seconds: list[float] = field(default_factory=list)
    form: str = ""


class Pretraining:
    """The training of one network. ``train`` carries on from the newest checkpoint in the job's folder."""

    def __init__(self, network: Trained, data: DataSet, job: Job) -> None:
        self.network, self.job, self.folder = network, job, job.folder
        self.process = process = job.process
        self.loader = network.loader(data, process, job.execution.workers)
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.total_steps = network.epochs * self.steps_per_epoch
        self.step = TrainingStep(network, data.channels, process)
        probed = job.execution.online_probe
        self.online = OnlineProbe(self.step.encoder.feature_dim, data, process) if probed else None
        self.state = State()
        self.clock = StepClock(process.device)
        curve = Curve(network.id, network.model_dump(mode="json"), self.folder)
        self.tracking = Tracking(job.execution.tracking if process.is_main else (), curve)
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
        shown, alone = self.process.is_main, self.process.jobs == 1
        progress = Progress(title, *sizes, first_step=state.step, shown=shown, alone=alone)
        with self.tracking, closing(progress):
            while state.step < self.total_steps:
                self._train_epoch(state.step // self.steps_per_epoch, progress)
            self.save()

    def _train_epoch(self, epoch: int, progress: Progress) -> None:
        self.step.encoder.train()
        self.clock.tick()
        for batch in self.loader.epoch(epoch, first_step=self.state.step % self.steps_per_epoch):
            loss = self._step(batch.views)
            if self.online is not None:
                assert self.step.features_nF is not None
                self.online.learn(self.step.features_nF, batch.labels)
            self.clock.tick()
            self.state.step += 1
            progress.update()
            ends_epoch = self.state.step % self.steps_per_epoch == 0
            if ends_epoch or self.state.step % self.job.execution.log_every == 0:
                self._log(epoch, loss, progress, ends_epoch)
            interval = self.job.execution.checkpoint_seconds * (_DUE_AT_EPOCH_END if ends_epoch else 1)
            due = self.process.is_main and time.perf_counter() - self._saved > interval
            asked = _STOP if self.job.requests.run_must_end else _SAVE if due else _GO_ON
            wanted = self.process.all_reduce_max(asked)  # the most that any process wants, told in one collective
            if wanted != _GO_ON:
                self._pause_clock()
                self.save()
                self.process.barrier()  # the others wait for the disk here, and not in the next step's collectives
                self.clock.tick()
            if wanted == _STOP:
                raise Interrupted(f"stopped at step {self.state.step} of {self.total_steps}; its state is saved")
        self._pause_clock()

    def _step(self, views: tuple[Tensor, ...]) -> Loss:
        """One step; the second one of a run under the memory counter."""
        rate = learning_rate(
            self.state.step,
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.network.epochs,
            spec=self.network.optimizer,
            batch_size=self.network.batch_size,
        )
        for group in self.step.optimizer.param_groups:
            group["lr"] = rate
        if self.state.step == min(_COUNTED_STEP, self.total_steps - 1):
            with PeakMemory(self.step.encoder, self.step.optimizer, *views, device=self.process.device) as memory:
                loss = self.step(views, self.state.step)
            self.state.peak_bytes = memory.baseline_bytes + memory.peak_bytes
            self.state.resident_bytes = memory.resident_bytes
        else:
            loss = self.step(views, self.state.step)
        self._finite &= torch.isfinite(loss.value.detach())
        self.state.form = loss.form
        return loss

    def _log(self, epoch: int, loss: Loss, progress: Progress, ends_epoch: bool) -> None:
        if not bool(self._finite):
            raise Diverged(f"the loss became {loss.value.item()} by epoch {epoch + 1}, step {self.state.step}")
        if not self.process.is_main:
            return
        terms = {name: value.item() for name, value in loss.terms.items()}
        (step_then, time_then), self._logged = self._logged, (self.state.step, time.perf_counter())
        speed = (self.state.step - step_then) * self.network.batch_size / (self._logged[1] - time_then)
        line = {
            "epoch": epoch,
            "step": self.state.step,
            "total_steps": self.total_steps,
            "loss": loss.value.item(),
            "terms": terms,
            "lr": self.step.optimizer.param_groups[0]["lr"],
            "images_per_second": speed,
        }
        if self.online is not None:
            line["online_probe"] = self.online.read()
        with (self.folder / METRICS_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.tracking.log(Line.of(line))
        progress.report(epoch, terms, speed)
        if ends_epoch:
            left = (self.total_steps - self.state.step) * self.network.batch_size / speed
            progress.end_epoch(epoch, terms, speed, left)

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
        if self.online is not None:
            snapshot["online_probe"] = self.online.state_dict()
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
            if self.online is not None and "online_probe" in snapshot:  # it may not have been on
                self.online.load_state_dict(snapshot["online_probe"])
        if self.process.is_main:
            for line in _cut_log(self.folder / METRICS_NAME, self.state.step):
                self.tracking.log(line)


def _cut_log(path: Path, last_step: int) -> list[Line]:
    """Drop the lines of steps that were lost with a kill, and a line that a kill cut short; returns those kept."""
    kept: list[tuple[str, Line]] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError, KeyError):
            line = Line.of(json.loads(text))
            if line.step <= last_step:
                kept.append((f"{text}\n", line))
    if path.exists():
        write_atomically(path, "".join(text for text, _ in kept).encode())
    return [line for _, line in kept]
