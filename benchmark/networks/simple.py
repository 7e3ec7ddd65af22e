"""The kinds that train nothing: ``pixels``, and ``random_init``, the backbone as it is initialised."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from benchmark.data import DataSet, DataSpec
from benchmark.networks.backbones import BackboneSpec, build_backbone
from benchmark.networks.base import FrozenModule, Input, Network, need_images
from benchmark.runtime.process import Process


class _OfImages(Network):
    data: DataSpec

    def check(self, data: DataSet, process: Process) -> None:
        need_images(data, self.method)


class Pixels(_OfImages):
    """The images' normalised pixels: the row that every network must beat."""

    kind: Literal["pixels"] = "pixels"
    method: Literal["raw_pixels"]

    @property
    def title(self) -> str:
        return "Raw pixels"

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenModule:
        size = data.channels * data.image_size**2
        return FrozenModule("pixels", nn.Flatten(), Input.of(data), size, epochs=0)


class RandomInit(_OfImages):
    """A backbone with the weights that its seed draws; no embedding, since no loss saw one."""

    kind: Literal["random_init"] = "random_init"
    method: Literal["untrained"]
    seed: int = Field(0, ge=0)
    backbone: BackboneSpec

    offers: ClassVar[frozenset[str]] = frozenset({"features", "rows", "backbone"})

    @property
    def title(self) -> str:
        return "Untrained network"

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenModule:
        """Drawn anew: nothing of it is kept."""
        backbone, feature_dim = build_backbone(self.backbone, data.channels, self.seed)
        return FrozenModule("backbone", backbone.to(device), Input.of(data), feature_dim, epochs=0)
