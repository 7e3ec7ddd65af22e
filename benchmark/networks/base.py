"""What a network is: settings with a digest, a way to make it, the weights it leaves, and, frozen, features of images.

Each kind of network is one module: its settings, a :class:`Network` with a ``kind`` of its own, beside the code that
makes it. :mod:`benchmark.networks.kinds` lists them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from benchmark.data import DataSet, DataSpec, ImageSet, Input, Points
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution, Spec, digest_of
from results.record import Cost, write_atomically

WEIGHTS_NAME = "weights.safetensors"


class Diverged(Exception):
    """The loss, or a weight, is not finite."""


@dataclass(frozen=True)
class Job:
    """Where and how a network is made."""

    folder: Path
    process: Process
    requests: Requests
    execution: Execution


@dataclass(frozen=True)
class Made:
    """What making a network took, and the form that its loss was computed in."""

    cost: Cost = field(default_factory=Cost)
    form: str | None = None


class Network(Spec):
    """What decides a network's weights, and nothing of what is measured on it."""

    kind: str
    method: str

    # What a probe may need of it: ``features`` of every image; ``rows`` to learn from, several of an image maybe; an
    # ``embedding`` that a loss saw; a ``backbone``, a module that can be trained on; a ``kernel``.
    offers: ClassVar[frozenset[str]] = frozenset({"features", "rows"})
    leaves_weights: ClassVar[bool] = False  # under WEIGHTS_NAME, once it is made
    # Raised whenever a change of the code changes the weights of an unchanged network: part of every digest.
    protocol_version: ClassVar[int] = 2

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        """What suites call networks of this kind: the literals that its ``method`` may be."""
        return get_args(cls.model_fields["method"].annotation)

    def resolved(self) -> Self:
        """With every default filled in that the digest shall cover.

        Raises ``ValueError``, or :class:`SettingError` that names a key, where a value does not go with the others.
        """
        return self

    @property
    def title(self) -> str:
        """Its name in tables."""
        raise NotImplementedError

    def canonical(self) -> dict[str, Any]:
        """What its digest covers."""
        fields = self.model_dump(mode="json")
        data: DataSpec | None = getattr(self, "data", None)
        return fields if data is None else {**fields, "data": data.canonical()}

    @property
    def digest(self) -> str:
        """Hex digest of the canonical form: sorted JSON of every field and of the protocol's version."""
        return digest_of({"protocol": self.protocol_version, **self.canonical()})

    @property
    def id(self) -> str:
        """Its folder's name: readable first, then enough of the digest to be unique."""
        parts = (("d", getattr(self, "embedding_dim", None)), ("s", getattr(self, "seed", None)))
        told = [f"{mark}{value}" for mark, value in parts if value is not None]
        return "-".join([self.method, *told, self.digest[:10]])

    def check(self, data: DataSet, process: Process) -> None:
        """Raise :class:`UserError` where it cannot be made of these data: cheap, before anything runs."""
        need_images(data, self.method)

    def make(self, data: DataSet, job: Job) -> Made:
        """Train or fit it and leave its weights in the job's folder, on all processes; nothing where it has none.

        Raises :class:`Diverged`, and :class:`Interrupted` once somebody asked: what can be gone on from is saved.
        """
        return Made()

    def is_kept(self, folder: Path) -> bool:
        """Whether it can be measured with what lies in ``folder``."""
        return not self.leaves_weights or (folder / WEIGHTS_NAME).exists()

    def load(self, folder: Path, data: DataSet, device: torch.device) -> Frozen:
        """The network, to be measured on ``data``. Raises :class:`UserError` where its weights are not there."""
        raise NotImplementedError


def need_images(data: DataSet, by: str) -> None:
    """Raise :class:`UserError` where the data set holds points."""
    if isinstance(data.test, Points):
        raise UserError(f"data.source {data.name}: holds points, not images; {by} needs images")


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


class Frozen:
    """A network that is measured. ``name`` says what its features are, in every protocol.

    A :class:`FrozenModule` goes over batches, and who measures makes them; any other kind maps whole sets of images.
    """

    name: str
    epochs: int | None  # that it was trained for; None where nobody knows
    views: int = 1  # rows that each labelled image gives to learn from

    def check(self, data: DataSet) -> None:
        """Raise :class:`UserError` where it cannot see such images: cheap, so that it can be asked before hours."""
        raise NotImplementedError

    def extract(self, images: ImageSet) -> Tensor:
        """Features (N, F) of all images in order."""
        raise NotImplementedError

    def bank(self, images: ImageSet) -> Tensor:
        """Rows (N · views, F) to learn from, an image's views one after the other."""
        return self.extract(images)


@dataclass(frozen=True, eq=False)
class FrozenModule(Frozen):
    """A module from images (n, C, H, W), made as ``input`` says, to rows (n, F), and what a loss saw these through."""

    name: str
    module: nn.Module
    input: Input
    feature_dim: int
    epochs: int | None
    projector: nn.Module | None = None

    def check(self, data: DataSet) -> None:
        self.input.check(data)


@contextmanager
def frozen(modules: Iterable[nn.Module | None]) -> Iterator[None]:
    """Inside, modules are in evaluation mode and nothing records gradients; afterwards their modes are as before."""
    modes = [(module, module.training) for module in modules if module is not None]
    for module, _ in modes:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, was_training in modes:
            module.train(was_training)
