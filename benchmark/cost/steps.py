"""What a whole training step costs: forward (with the loss), backward and update apart, and the wait for its views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.cost import timing
from benchmark.cost.cell import Cell
from benchmark.cost.plain import PlainStep
from benchmark.data import PixelImages
from benchmark.data.datasets import SOURCES, Source
from benchmark.networks.step import TrainingStep
from benchmark.networks.trained import Trained
from benchmark.runtime.errors import UserError
from benchmark.runtime.memory import Holder
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import generator
from benchmark.views import recipe
from benchmark.views.loader import ViewLoader

# Of noise: batches of images that views are made of, and batches of views that are waited for.
BATCHES, DATA_BATCHES = 2, 5


@dataclass
class TimedStep(timing.Subject):
    """A step on given views, each of its parts timed to its last kernel.

    With a ``feed``, batches of views without end, it also tells how long it would wait for the next one.
    """

    step: TrainingStep | PlainStep
    inputs: tuple[Tensor, ...]
    device: torch.device
    feed: Iterator[tuple[Tensor, ...]] | None = None
    taken: dict[str, list[float]] = field(default_factory=dict)

    @property
    def holders(self) -> tuple[Holder, ...]:
        """What lives before a step."""
        return (self.step.encoder, self.step.optimizer, *self.inputs)

    def __call__(self) -> None:
        """One step."""
        loss = self._timed("forward", partial(self.step.forward, self.inputs))
        self._timed("backward", partial(self.step.backward, loss))
        self._timed("update", self.step.update)
        self.form = getattr(loss, "form", None)

    def _timed(self, part: str, call: Callable[[], Any]) -> Any:
        made: list[Any] = []
        self.taken.setdefault(part, []).append(timing.seconds(lambda: made.append(call()), self.device))
        return made[0]

    def parts(self, last: int) -> dict[str, float]:
        """Median seconds of each part over its last calls; of ``data``, from asking for views to having them."""
        found = {part: median(taken[-last:]) for part, taken in self.taken.items()}
        if self.feed is not None:
            waits = [timing.seconds(partial(next, self.feed), self.device) for _ in range(DATA_BATCHES)]
            found["data"] = median(waits)
        return found


def subjects(cell: Cell, device: torch.device) -> dict[str, Callable[[], TimedStep]]:
    """What a cell compares: our step; and where asked for, the same step written plainly."""
    network = cell.network()
    loader = _noise_loader(network, device)
    channels, views = len(source_of(network).mean), next(loader.epoch(0))

    def ours() -> TimedStep:
        feed = chain.from_iterable(map(loader.epoch, count()))
        return TimedStep(TrainingStep(network, channels, Process(device)), next(feed), device, feed)

    def plainly() -> TimedStep:
        return TimedStep(PlainStep(network, channels, device), views, device)

    return {"ours": ours, **({"reference": plainly} if cell.compared else {})}


def described(network: Trained) -> str:
    """What a step is of, in words."""
    backbone, projector, side = network.backbone, network.projector, side_of(network)
    stem = f", {backbone.stem} stem" if backbone.name.startswith("resnet") else f", width {backbone.width}"
    hidden = "-".join([*[str(projector.hidden)] * projector.layers, "D"])
    compiled = ", compiled" if network.compile else ""
    return f"{backbone.name}{stem}, {side} x {side} pixels, projector {hidden}, {network.optimizer.name}{compiled}"


def source_of(network: Trained) -> Source:
    """A network's named data set. Raises :class:`UserError` for one's own data, whose shape only a look can tell."""
    named = [name for name, source in SOURCES.items() if source.image_size]
    if network.data.source not in named:
        raise UserError(f"data.source: is {network.data.source!r}; costs are told of named images: {', '.join(named)}")
    return SOURCES[network.data.source]


def side_of(network: Trained) -> int:
    """The side in pixels of the views that a network sees. Raises as :func:`source_of`."""
    return network.data.image_size or source_of(network).image_size


def _noise_loader(network: Trained, device: torch.device) -> ViewLoader:
    """Views of random pixels in memory, of the size and through the augmentation of the network's data set."""
    source = source_of(network)
    shape = (BATCHES * network.batch_size, len(source.mean), source.image_size, source.image_size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator("step cost"))
    return ViewLoader(
        PixelImages(pixels, np.zeros(len(pixels), dtype=np.int64)),
        recipe(network.augmentation),
        batch_size=network.batch_size,
        image_size=side_of(network),
        mean=source.mean,
        std=source.std,
        seed=0,
        device=device,
    )
