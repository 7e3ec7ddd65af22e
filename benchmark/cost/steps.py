"""What a whole training step costs: forward (with the loss), backward and update apart, and the wait for its views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmark.cost import timing
from benchmark.cost.cell import Cell
from benchmark.cost.plain import PlainStep
from benchmark.data import PixelImages
from benchmark.data.sources import SOURCES, Source
from benchmark.networks.backbones import Encoder
from benchmark.networks.step import TrainingStep
from benchmark.runtime.errors import UserError
from benchmark.runtime.memory import Holder
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import generator
from benchmark.suite.run import Run
from benchmark.views import recipe
from benchmark.views.loader import ViewLoader

# Of noise: batches of images that views are made of, and batches of views that are waited for.
BATCHES, DATA_BATCHES = 2, 5


class Step(Protocol):
    """What a training step is made of."""

    encoder: Encoder
    optimizer: torch.optim.Optimizer

    def forward(self, views: tuple[Tensor, ...]) -> Any:
        """The loss."""

    def backward(self, loss: Any) -> None:
        """Gradients."""

    def update(self) -> None:
        """The optimiser's step."""


@dataclass
class TimedStep:
    """A step on given views, each of its parts timed to its last kernel."""

    step: Step
    inputs: tuple[Tensor, ...]
    device: torch.device
    form: str | None = None
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
        """Median seconds of each part over its last calls."""
        return {part: median(taken[-last:]) for part, taken in self.taken.items()}


class FedStep(TimedStep):
    """Our own step, which also tells how long it would wait for the views of a data set in memory."""

    def __init__(self, step: TrainingStep, loader: ViewLoader, device: torch.device) -> None:
        self._batches = endless(loader)
        super().__init__(step, next(self._batches), device)

    def parts(self, last: int) -> dict[str, float]:
        """As of any step, and ``data``: the median seconds from asking for a batch of views to having it."""
        waits = [timing.seconds(partial(next, self._batches), self.device) for _ in range(DATA_BATCHES)]
        return {**super().parts(last), "data": median(waits)}


def subjects(cell: Cell, device: torch.device) -> dict[str, Callable[[], TimedStep]]:
    """What a cell compares: our step; and where asked for, the same step written plainly."""
    run = cell.run()
    loader = noise_loader(run, device)
    channels, views = len(source_of(run).mean), next(loader.epoch(0))

    def ours() -> TimedStep:
        return FedStep(TrainingStep(run, channels, Process(device)), loader, device)

    def plainly() -> TimedStep:
        return TimedStep(PlainStep(run, channels, device), views, device)

    return {"ours": ours, **({"reference": plainly} if cell.compared else {})}


def network(run: Run) -> str:
    """What a step is of, in words."""
    source = source_of(run)
    side = run.data.image_size or source.image_size
    backbone, projector = run.backbone, run.projector
    stem = f", {backbone.stem} stem" if backbone.name.startswith("resnet") else f", width {backbone.width}"
    hidden = "-".join([*[str(projector.hidden)] * projector.layers, "D"])
    compiled = ", compiled" if run.compile else ""
    return f"{backbone.name}{stem}, {side} x {side} pixels, projector {hidden}, {run.optimizer.name}{compiled}"


def source_of(run: Run) -> Source:
    """The named data set of a Run. Raises :class:`UserError` for one's own data, whose shape only a look can tell."""
    named = [name for name, source in SOURCES.items() if source.image_size]
    if run.data.source not in named:
        raise UserError(f"data.source: is {run.data.source!r}; costs are told of named images: {', '.join(named)}")
    return SOURCES[run.data.source]


def noise_loader(run: Run, device: torch.device) -> ViewLoader:
    """Views of random pixels in memory, of the size and through the augmentation of the Run's data set."""
    source = source_of(run)
    shape = (BATCHES * run.batch_size, len(source.mean), source.image_size, source.image_size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator("step cost"))
    return ViewLoader(
        PixelImages(pixels, np.zeros(len(pixels), dtype=np.int64)),
        recipe(run.augmentation),
        batch_size=run.batch_size,
        image_size=run.data.image_size or source.image_size,
        mean=source.mean,
        std=source.std,
        seed=0,
        device=device,
    )


def endless(loader: ViewLoader) -> Iterator[tuple[Tensor, ...]]:
    """Batches of views, epoch after epoch."""
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1
