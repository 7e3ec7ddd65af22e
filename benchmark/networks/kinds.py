"""The kinds of network that there are, and those of them that train nothing: pixels, a backbone as it is drawn, a file.

A new kind is a module of its own, and a word in :data:`KINDS`.
"""

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import nn

from benchmark.data import DataSet, DataSpec
from benchmark.data.images import OF_IMAGENET
from benchmark.networks.backbones import BackboneSpec, build_backbone, scale_of, sized
from benchmark.networks.base import FrozenModule, Input, Network, need_images
from benchmark.networks.kernel import AugmentedBaseKernel, BaseKernel, ClosedForm, KernelPCA, LaplacianEigenmaps
from benchmark.networks.layouts import Branch, build, read_backbone
from benchmark.networks.trained import Trained
from benchmark.networks.wide import WideNetwork
from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import SettingError, Spec


class Pixels(Network):
    """The images' normalised pixels: the row that every network must beat."""

    kind: Literal["pixels"] = "pixels"
    method: Literal["raw_pixels"]
    data: DataSpec

    title: ClassVar[str] = "Raw pixels"

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenModule:
        need_images(data, self.method)
        size = data.channels * data.image_size**2
        return FrozenModule("pixels", nn.Flatten(), Input.of(data), size, epochs=0)


class RandomInit(Network):
    """A backbone with the weights that its seed draws; no embedding, since no loss saw one."""

    kind: Literal["random_init"] = "random_init"
    method: Literal["untrained"]
    data: DataSpec
    seed: int = Field(0, ge=0)
    backbone: BackboneSpec

    title: ClassVar[str] = "Untrained network"
    offers: ClassVar[frozenset[str]] = frozenset({"features", "rows", "backbone"})

    def resolved(self) -> Self:
        return self.model_copy(update={"data": sized(self.data, self.backbone)})

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenModule:
        """Drawn anew: nothing of it is kept."""
        need_images(data, self.method)
        backbone, feature_dim = build_backbone(self.backbone, data.channels, self.seed, self.data.image_size)
        input = Input.of(data, scale_of(self.backbone))
        return FrozenModule("backbone", backbone.to(device), input, feature_dim, epochs=0)


class FileBackbone(Spec):
    """What the shapes of a file's weights say of its architecture."""

    name: str
    stem: str
    channels: int


class Weights(Network):
    """A file of weights, whose layout and architecture are read off it (:mod:`benchmark.networks.layouts`)."""

    kind: Literal["weights"] = "weights"
    method: str = Field("weights", description="the method of its row")
    name: str = Field(description="of it in tables")
    path: str
    content: str | None = Field(None, description="digest of the file, by which it is known; filled in")
    backbone: FileBackbone | None = Field(None, description="read off the file; filled in")
    branch: Branch = Field("teacher", description="of a file that holds both")
    normalise: Literal["data", "imagenet"] = Field("data", description="by whose mean and deviation images are scaled")

    offers: ClassVar[frozenset[str]] = frozenset({"features", "rows", "backbone"})  # projectors are not taken along

    def resolved(self) -> Self:
        """With what the file says of itself. Raises :class:`UserError` where it is not there, or holds no backbone."""
        content, (found, _) = file_digest(Path(self.path)), read_backbone(Path(self.path), self.branch)
        backbone = FileBackbone(name=found.name, stem=found.stem, channels=found.channels)
        return self.model_copy(update={"content": content, "backbone": backbone})

    @property
    def title(self) -> str:
        return self.name

    def canonical(self) -> dict[str, Any]:
        """The file's content, wherever it lies and whatever it is called."""
        return self.model_dump(mode="json", include={"kind", "content", "branch", "normalise"})

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenModule:
        """The backbone. Raises :class:`UserError` where the file is no longer what it was."""
        need_images(data, self.path)
        if file_digest(Path(self.path)) != self.content:
            raise UserError(f"{self.path}: is another file than when its measurements began (digest {self.content})")
        architecture, state = read_backbone(Path(self.path), self.branch)
        module = build(architecture)
        module.load_state_dict(state)
        input = self._input(architecture.channels, data)
        return FrozenModule("backbone", module.to(device), input, architecture.feature_dim, epochs=None)

    def _input(self, channels: int, data: DataSet) -> Input:
        """Grey images are repeated for a network of colours; other channels than the file's are an error."""
        mean, std = OF_IMAGENET if self.normalise == "imagenet" else (data.mean, data.std)
        if len(mean) == 1:
            mean, std = mean * channels, std * channels
        if len(mean) != channels:
            raise UserError(
                f"{self.path}: takes images of {channels} channels, those of {data.name}, scaled by {self.normalise}, "
                f"have {len(mean)}"
            )
        return Input(channels, data.image_size, mean, std)


def file_digest(path: Path) -> str:
    """The first 16 hex digits of a file's SHA-256. Raises :class:`UserError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


# In the order in which `spherebench methods` and messages list what they are called.
_OF_KERNELS = (ClosedForm, BaseKernel, AugmentedBaseKernel, KernelPCA, LaplacianEigenmaps)
KINDS: tuple[type[Network], ...] = (Trained, Pixels, RandomInit, *_OF_KERNELS, WideNetwork)
"""Kinds that a suite's ``method`` names; weights have rows of their own."""


def method_names() -> tuple[str, ...]:
    """Everything that ``method`` and ``baselines`` may say."""
    return tuple(name for kind in KINDS for name in kind.methods())


def kind_of(method: str) -> type[Network]:
    """The kind that a method is of. Raises :class:`SettingError` listing what there is."""
    for kind in KINDS:
        if method in kind.methods():
            return kind
    raise SettingError("method", f"method {method!r} is not known; there are {', '.join(method_names())}")


def parse_network(fields: dict[str, Any]) -> Network:
    """A network from its settings as a record holds them. Raises ``ValueError`` where they are none."""
    kind = Weights if fields.get("kind") == "weights" else kind_of(fields.get("method", ""))
    return kind.of_record(fields)
