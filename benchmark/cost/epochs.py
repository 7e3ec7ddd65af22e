"""What a whole epoch costs, loader and step: ours, and what a user would pick instead, in turns.

The other is written with lightly as its examples are: an image at a time through its transforms in the loading
processes of a torch DataLoader, its loss, torchvision's network, and the optimiser parameter by parameter.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmark.cost.losses import PEER, peer_loss, timed
from benchmark.cost.steps import PlainStep, described
from benchmark.cost.waiting import Waited, children, cpu_seconds
from benchmark.data import DataSet, FileImages, ImageSet, load
from benchmark.networks.step import TrainingStep
from benchmark.networks.trained import Trained
from benchmark.runtime.errors import UserError
from benchmark.runtime.numerics import AUTOCAST
from benchmark.runtime.paths import in_job
from benchmark.runtime.process import Process
from benchmark.runtime.progress import quartiles
from benchmark.views import recipe
from methods.losses.base import Loss

if TYPE_CHECKING:  # which builds on this module
    from benchmark.cost.sweep import Cell

EPOCHS = 5  # in turns; one before is not counted

# Our recipes in lightly's words, by its modules: a transform a view, and what it is told beside size and scale. Its
# crops are bilinear, and it blurs by Pillow: either takes less than what the recipe says.
_SIMCLR, _BYOL = ("simclr_transform", "SimCLRViewTransform"), "byol_transform"
TRANSFORMS: dict[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {
    "simclr": ((*_SIMCLR, {}),) * 2,
    "simclr_small": ((*_SIMCLR, {"cj_strength": 0.5, "gaussian_blur": 0.0}),) * 2,
    "vicreg": ((_BYOL, "BYOLView1Transform", {}), (_BYOL, "BYOLView2Transform", {})),
}

LOSSES = ("simclr", "vicreg", "barlow_twins")
Views = tuple[Tensor, ...]
Transform = Callable[[PIL.Image.Image], Tensor]


@dataclass(frozen=True)
class Transformed(Dataset):
    """Images as lightly's loaders have them, from a file or from an array, through a transform a view."""

    images: ImageSet
    transforms: tuple[Transform, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        if isinstance(self.images, FileImages):
            with PIL.Image.open(os.fsdecode(self.images.paths[index])) as file:
                image = file.convert("RGB")
        else:
            image = PIL.Image.fromarray(self.images.image(index).permute(1, 2, 0).numpy())
        return [transform(image) for transform in self.transforms]


class PeerStep(PlainStep):
    """The plain step with the peer's loss."""

    def __init__(self, network: Trained, channels: int, device: torch.device) -> None:
        super().__init__(network, channels, device)
        self._loss = peer_loss(network.method, network.loss)

    def forward(self, views: Views, step: int = 0) -> Loss:
        """The loss of the views."""
        dtype = AUTOCAST[self.network.precision]
        with torch.autocast(self.process.device.type, dtype=dtype, enabled=dtype != torch.float32):
            embeddings, _ = self.views(views)
            return Loss(self._loss(*embeddings), {}, PEER)


@dataclass
class Side:
    """Epochs of one implementation: batches without end, a step of each, and what they took, an image."""

    batches: Iterator[Views]
    step: Callable[[Views], object]
    images: int
    steps: int
    workers: set[int] = field(default_factory=set)
    taken: dict[str, list[float]] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    _loaded: float = 0.0

    def warm_up(self) -> None:
        """An epoch that is not counted; the processes that it starts are this side's."""
        before = children()
        for views in islice(self.batches, self.steps):
            self.step(views)
        self.workers = children() - before
        self._loaded = cpu_seconds(self.workers)

    def epoch(self, device: torch.device) -> None:
        """One epoch; of its loading processes all counts that they took since the last."""
        waited, own = Waited(islice(self.batches, self.steps), self.workers), time.process_time()
        wall, _ = timed(lambda: deque(map(self.step, waited), maxlen=0), device)
        own = time.process_time() - own
        before, self._loaded = self._loaded, cpu_seconds(self.workers)
        self.waits += waited.seconds
        for name, seconds in (("wall", wall), ("process", own), ("loading", self._loaded - before)):
            self.taken.setdefault(name, []).append(seconds / self.images)

    def measured(self, device: torch.device, batch_bytes: int) -> dict[str, Any]:
        """Seconds an image: on the CPU of all processes' cores, on a GPU by the clock."""
        cores = np.add(self.taken["process"], self.taken["loading"])
        seconds = quartiles(cores.tolist() if device.type == "cpu" else self.taken["wall"])
        phases = {name: float(np.median(seconds)) for name, seconds in self.taken.items()}
        return {"seconds": seconds, "peak_bytes": batch_bytes, "phases": phases}


def ours(network: Trained, data: DataSet, workers: int, device: torch.device) -> Side:
    """As a network is trained here."""
    process = Process(device)
    loader = network.loader(data, process, workers)
    batches = (batch.views for batch in chain.from_iterable(map(loader.epoch, count())))
    step, steps = TrainingStep(network, data.channels, process), loader.steps_per_epoch
    return Side(batches, step, steps * network.batch_size, steps)


def transforms(recipe: str, image_size: int, mean: Sequence[float], std: Sequence[float]) -> tuple[Transform, ...]:
    """Lightly's of this recipe, one a view."""
    scale = {"mean": list(mean), "std": list(std)}
    return tuple(
        getattr(importlib.import_module(f"{PEER}.transforms.{module}"), name)(
            input_size=image_size, normalize=scale, **options
        )
        for module, name, options in TRANSFORMS[recipe]
    )


def theirs(network: Trained, data: DataSet, workers: int, device: torch.device) -> Side:
    """As lightly's examples have it."""
    input = network.input(data)
    loader = DataLoader(
        Transformed(data.train, transforms(network.augmentation, input.image_size, input.mean, input.std)),
        batch_size=network.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
        pin_memory=device.type == "cuda",
    )
    batches = (tuple(view.to(device, non_blocking=True) for view in views) for _ in count() for views in loader)
    return Side(batches, PeerStep(network, data.channels, device), len(loader) * network.batch_size, len(loader))


def check(cell: Cell) -> tuple[Trained, DataSet, int]:
    """Network, data and number of loading processes. Raises :class:`UserError` where these cannot be compared."""
    execution, network = cell.loaded().execution, cell.network()
    data = load(network.data, in_job(execution.data_root, "data_root"))
    if cell.reference:
        if importlib.util.find_spec(PEER) is None:
            raise UserError(f"--reference: an epoch is compared with {PEER}, which is not installed")
        for key, value, allowed in (
            ("--method", network.method, LOSSES),
            ("--set augmentation", network.augmentation, TRANSFORMS),
        ):
            if value not in allowed:
                raise UserError(f"{key}: is {value!r}; {PEER} is compared with {', '.join(allowed)}")
        if data.channels != 3:
            raise UserError(f"data.source {data.name}: is of grey images; {PEER}'s transforms are for colour")
    return network, data, execution.workers


def measure(cell: Cell, device: torch.device) -> dict[str, Any]:
    """Fields of a record."""
    network, data, workers = check(cell)
    sides = {"ours": ours(network, data, workers, device)}
    if cell.reference:
        sides["reference"] = theirs(network, data, workers, device)
    for side in sides.values():
        side.warm_up()
    for _ in range(EPOCHS):
        for side in sides.values():
            side.epoch(device)
    own = sides["ours"]
    pixels = sum(side**2 for side in recipe(network.augmentation).sides(data.image_size))
    batch_bytes = 4 * data.channels * pixels * cell.batch_size
    found = {name: side.measured(device, batch_bytes) for name, side in sides.items()}
    batch = found["ours"]["seconds"].median * cell.batch_size
    found["ours"]["phases"] |= {"shortest_wait": min(own.waits), "longest_wait": max(own.waits), "batch": batch}
    place = "in memory" if data.train.pixels is not None else "in files"
    return {
        "measured": found["ours"],
        "reference": found.get("reference"),
        "reference_status": "done" if cell.reference else None,
        "network": f"{described(network)}; {own.images} images of {data.short_name} {place}, workers={workers}",
    }
