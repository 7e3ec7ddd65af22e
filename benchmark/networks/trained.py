"""The kind ``trained``: an encoder trained with a joint-embedding loss, and the file of weights that it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import AfterValidator, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from benchmark.data import DataSet, DataSpec
from benchmark.networks.backbones import BackboneSpec, Encoder, ProjectorSpec, build_encoder
from benchmark.networks.base import WEIGHTS_NAME, Diverged, FrozenModule, Input, Job, Made, Network
from benchmark.networks.optimizers import OptimizerSpec
from benchmark.runtime.clock import quartiles
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.process import Process
from benchmark.views import recipe
from benchmark.views.loader import check_batch
from methods import registry
from results.record import Cost, write_atomically

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
    augmentation: Annotated[str, AfterValidator(lambda name: recipe(name).name)]
    backbone: BackboneSpec
    projector: ProjectorSpec = ProjectorSpec()
    optimizer: OptimizerSpec

    offers: ClassVar[frozenset[str]] = frozenset({"features", "rows", "embedding", "backbone"})
    leaves_weights: ClassVar[bool] = True

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
        super().check(data, process)
        check_batch(self.batch_size, len(data.train), process.world_size)

    def make(self, data: DataSet, job: Job) -> Made:
        """Train to the last epoch, going on from the newest checkpoint in the job's folder."""
        from benchmark.networks.pretraining import Pretraining  # which builds on this module

        with full_disk_told(job.folder):
            training = Pretraining(self, data, job)
            training.train()
        weights, state = training.step.encoder.state_dict(), training.state
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values() if tensor.is_floating_point()):
            raise Diverged(f"a weight is not finite after {self.epochs} epochs, though the loss was")
        if job.process.is_main:
            save_weights(job.folder, weights, Input.of(data))
        step_seconds = quartiles(state.step_seconds)
        cost = Cost(
            step_seconds=step_seconds,
            images_per_second=self.batch_size / step_seconds.median if step_seconds else None,
            peak_bytes_step=state.peak_bytes or None,
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


def save_weights(folder: Path, state: Mapping[str, Tensor], input: Input) -> None:
    """Write the weights, atomically: one safetensors file, with the network's input in its header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    content = save(tensors, {"input": json.dumps(asdict(input))})
    with full_disk_told(folder):
        write_atomically(folder / WEIGHTS_NAME, content)


def load_weights(folder: Path) -> tuple[dict[str, Tensor], Input]:
    """The weights in ``folder``, on the CPU. Raises :class:`UserError` where they are not there or damaged."""
    path = folder / WEIGHTS_NAME
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            header = json.loads(file.metadata()["input"])
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; its weights were not kept, or cleaned away") from error
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged: {error}") from error
    return state, Input(**{**header, "mean": tuple(header["mean"]), "std": tuple(header["std"])})


def keep_backbone(folder: Path) -> None:
    """Drop the projector from the weights in ``folder``."""
    state, input = load_weights(folder)
    if any(name.startswith("projector.") for name in state):
        save_weights(folder, {name: value for name, value in state.items() if name.startswith("backbone.")}, input)


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
