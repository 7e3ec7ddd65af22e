"""The kind ``weights``: a backbone from anybody's file, known by its content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field

from benchmark.data import DataSet
from benchmark.data.images import OF_IMAGENET
from benchmark.networks.base import FrozenModule, Input, Network, need_images
from benchmark.networks.layouts import Branch, build, read_backbone
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.spec import Spec


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
        content, found = file_digest(Path(self.path)), read_backbone(Path(self.path), self.branch).architecture
        backbone = FileBackbone(name=found.name, stem=found.stem, channels=found.channels)
        return self.model_copy(update={"content": content, "backbone": backbone})

    @property
    def title(self) -> str:
        return self.name

    def canonical(self) -> dict[str, Any]:
        """The file's content, wherever it lies and whatever it is called."""
        return self.model_dump(mode="json", include={"kind", "content", "branch", "normalise"})

    def check(self, data: DataSet, process: Process) -> None:
        need_images(data, self.path)
        if self.backbone is not None:
            self._input(self.backbone.channels, data)

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenModule:
        """The backbone. Raises :class:`UserError` where the file is no longer what it was."""
        if file_digest(Path(self.path)) != self.content:
            raise UserError(f"{self.path}: is another file than when its measurements began (digest {self.content})")
        loaded = read_backbone(Path(self.path), self.branch)
        module = build(loaded.architecture)
        module.load_state_dict(loaded.state)
        input = self._input(loaded.architecture.channels, data)
        return FrozenModule("backbone", module.to(device), input, loaded.architecture.feature_dim, epochs=None)

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
