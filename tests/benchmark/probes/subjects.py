"""Subjects for tests: small images, a small network, features that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmark.data import DataSet, PixelImages
from benchmark.networks.base import Frozen, FrozenModule, Input
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution

CPU = torch.device("cpu")
ALONE = Process(CPU)
CLASSES = 3


class Given(Frozen):
    """No network: its features are given."""

    name = "given"
    epochs = None

    def __init__(self, views: int = 1) -> None:
        self.views = views


def make_subject(network: Frozen, data: DataSet, folder: Path, **changed: Any) -> Subject:
    """A subject on one process, in batches of 16; ``changed`` replaces fields, ``seconds`` are between checkpoints."""
    seconds = changed.pop("seconds", 1e9)
    given = {
        "split": "test",
        "precision": "fp32",
        "augmentation": "grey",
        "process": ALONE,
        "requests": Requests(),
        "execution": Execution(checkpoint_seconds=seconds, feature_batch_size=16),
        **changed,
    }
    scratch = folder / "measuring"
    return Subject(network=network, data=data, folder=scratch / "data", own=scratch / "own", **given)


def of_features(
    bank: Features, queries: Features, folder: Path, *, views: int = 1, classes: int = CLASSES, **changed: Any
) -> Subject:
    """A subject whose features are these; ``changed`` as of :func:`make_subject`."""
    images = PixelImages(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), bank.labels[:1].numpy())
    data = DataSet("given", images, images, images, images, classes, 1, 8, (0.0,), (1.0,))
    subject = make_subject(Given(views), data, folder, **changed)
    subject._made[("labelled", "bicubic")] = bank
    subject._made[("test", "bicubic")] = queries
    return subject


def stripes(size: int, seed: int, noise: int = 120, classes: int = CLASSES) -> PixelImages:
    """8 x 8 images with a bright horizontal band where their class says, under noise."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % classes
    pixels = torch.randint(noise, (size, 1, 8, 8), generator=draws, dtype=torch.uint8)
    for row in range(2):
        pixels[torch.arange(size), 0, 3 * labels + row] += 100
    return PixelImages(pixels, labels.numpy())


def striped() -> DataSet:
    """48 images to learn from, 21 to tune on, 30 to test on."""
    train = stripes(48, 0)
    return DataSet("stripes", train, train, stripes(21, 1), stripes(30, 2), CLASSES, 1, 8, mean=(0.3,), std=(0.2,))


def small_network(epochs: int | None = 7) -> FrozenModule:
    """A convolution to 12 features, and a projector to 16."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 12))
        projector = nn.Linear(12, 16, bias=False)
    return FrozenModule("backbone", backbone, Input(1, 8, (0.3,), (0.2,)), 12, epochs, projector)


def pixels(data: DataSet) -> FrozenModule:
    """The images themselves."""
    size = data.channels * data.image_size**2
    return FrozenModule("pixels", nn.Flatten(), Input.of(data), size, epochs=0)


class AskedAfter(Requests):
    """Requests that are counted when they are looked at, and made after so many ``looks``; or fails then."""

    BREAKS = "it broke where it looks at what was asked"

    def __init__(self, after: float = float("inf"), *, raises: bool = False) -> None:
        self.looks, self._after, self._breaks = 0, after, raises
        super().__init__()

    @property
    def run_must_end(self) -> bool:
        """Whether it was looked at often enough."""
        self.looks += 1
        if self._breaks and self.looks > self._after:
            raise RuntimeError(self.BREAKS)
        return self.looks > self._after

    @run_must_end.setter
    def run_must_end(self, value: bool) -> None:
        """What is asked depends on the looks alone."""
