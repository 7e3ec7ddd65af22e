"""The kind ``trained``: an encoder trained with a joint-embedding loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator
from torch import nn

from benchmark.data import DataSet, DataSpec
from benchmark.networks.backbones import BackboneSpec, Encoder, ProjectorSpec, build_encoder
from benchmark.networks.base import Diverged, FrozenModule, Input, Job, Made, Network, need_images
from benchmark.networks.optimizers import OptimizerSpec
from benchmark.networks.store import WEIGHTS_NAME, all_finite, load_weights, part_of, save_weights
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.process import Process
from benchmark.runtime.progress import quartiles
from benchmark.views import recipe
from benchmark.views.loader import check_batch
from methods import registry
from results.record import Cost

if TYPE_CHECKING:  # which builds on this module
    from benchmark.networks.pretraining import State

Precision = Literal["fp32", "bf16", "fp16"]
Form = Literal["auto", "primal", "dual"]

# Where half precision costs a gradient more than a per cent, as measured in results/reference/precision: the error of
# Barlow Twins' gradient in bf16 grows with D/N, and is 1.0 % at D = 32768, N = 256.
LARGEST_ERROR, BARLOW_TWINS_RATIO = 0.01, 128


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
    joint_forward: bool = Field(False, description="one forward pass over both views, instead of one a view")
    compile: bool = Field(False, description="the network through torch.compile")
    data: DataSpec
    augmentation: str
    backbone: BackboneSpec
    projector: ProjectorSpec = ProjectorSpec()
    optimizer: OptimizerSpec

    offers: ClassVar[frozenset[str]] = frozenset({"features", "rows", "embedding", "backbone"})

    @field_validator("augmentation")
    @classmethod
    def _known_recipe(cls, name: str) -> str:
        return recipe(name).name

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        return registry.names()

    def resolved(self) -> Self:
        loss = registry.get(self.method).resolve(self.loss, self.embedding_dim)
        return self.model_copy(update={"loss": dict(loss)})

    @property
    def title(self) -> str:
        return registry.get(self.method).title

    def build(self, channels: int) -> Encoder:
        """The encoder before its first step, on the CPU."""
        return build_encoder(self.backbone, self.projector, self.embedding_dim, channels, self.seed)

    def check(self, data: DataSet, process: Process) -> None:
        """Images, and enough of them for a batch that divides over the processes."""
        need_images(data, self.method)
        check_batch(self.batch_size, len(data.train), process.world_size)

    def make(self, data: DataSet, job: Job) -> Made:
        """Train to the last epoch, going on from the newest checkpoint in the job's folder."""
        from benchmark.networks.pretraining import Pretraining

        with full_disk_told(job.folder):
            training = Pretraining(self, data, job)
            training.train()
        state = training.step.encoder.state_dict()
        if not all_finite(state):
            raise Diverged(f"a weight is not finite after {self.epochs} epochs, though the loss was")
        if job.process.is_main:
            save_weights(job.folder, state, Input.of(data))
        return Made(self._cost(training.state, job.process.device), training.state.form)

    def _cost(self, state: State, device: torch.device) -> Cost:
        step_seconds = quartiles(state.step_seconds)
        return Cost(
            step_seconds=step_seconds,
            images_per_second=self.batch_size / step_seconds.median if step_seconds else None,
            peak_bytes_step=state.peak_bytes or None,
            memory_counter="cuda allocator" if device.type == "cuda" else "tensor storages",
            train_seconds=state.elapsed,
        )

    def is_kept(self, folder: Path) -> bool:
        return (folder / WEIGHTS_NAME).exists()

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenModule:
        """The encoder, with its projector where that was kept."""
        state, input = load_weights(folder)
        encoder = self.build(input.channels)
        projector: nn.Module | None = None
        try:
            encoder.backbone.load_state_dict(part_of(state, "backbone."))
            if projector_state := part_of(state, "projector."):
                projector = encoder.projector
                projector.load_state_dict(projector_state)
                projector.to(device)
        except RuntimeError as error:
            raise UserError(f"{folder / WEIGHTS_NAME}: is damaged: its tensors are not those of {self.id}") from error
        return FrozenModule("backbone", encoder.backbone.to(device), input, encoder.feature_dim, self.epochs, projector)


def doubt(network: Trained) -> str | None:
    """What to say before a training whose gradient has a relative error above :data:`LARGEST_ERROR`; else None."""
    if (network.method, network.precision) != ("barlow_twins", "bf16"):
        return None
    if network.embedding_dim <= BARLOW_TWINS_RATIO * network.batch_size:
        return None
    return (
        f"{network.id}: in bf16 the gradient of Barlow Twins has an error above {100 * LARGEST_ERROR:g} % where D is "
        f"more than {BARLOW_TWINS_RATIO} times the batch; precision fp16 or fp32 has not"
    )
