"""What a whole training step costs: forward (with the loss), backward and update apart, and the wait for its views.

For comparison the step is written plainly, too: what a user has who follows the papers' code on one device, without
this project. Torchvision's network, the channels first, one forward pass a view, a textbook loss with autograd through
it, LARS parameter by parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmark.cost.losses import clock_of, textbook, timed
from benchmark.data import Input, PixelImages
from benchmark.data.datasets import SOURCES, Source
from benchmark.networks.backbones import TIMM, entry_of
from benchmark.networks.optimizers import LARS
from benchmark.networks.step import TrainingStep
from benchmark.networks.trained import Trained
from benchmark.runtime.errors import UserError
from benchmark.runtime.numerics import AUTOCAST
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import generator
from benchmark.views import recipe
from benchmark.views.loader import ViewLoader
from methods.losses.base import Loss

if TYPE_CHECKING:  # which builds on this module
    from benchmark.cost.sweep import Cell

T = TypeVar("T")
# Of noise: batches of images that views are made of, and batches of views that are waited for.
BATCHES, DATA_BATCHES = 2, 5


@dataclass
class TimedStep:
    """A step on given views, each of its parts timed to its last kernel.

    With a ``feed``, batches of views without end, it also tells how long it would wait for the next one.
    """

    step: TrainingStep
    inputs: tuple[Tensor, ...]
    device: torch.device
    feed: Iterator[tuple[Tensor, ...]] | None = None
    taken: dict[str, list[float]] = field(default_factory=dict)
    form: str | None = None  # of the loss, that the last call took

    def __call__(self) -> None:
        loss = self._timed("forward", partial(self.step.forward, self.inputs))
        self._timed("backward", partial(self.step.backward, loss))
        self._timed("update", self.step.update)
        self.form = loss.form

    def _timed(self, part: str, call: Callable[[], T]) -> T:
        seconds, given = timed(call, self.device, clock_of(self.device))
        self.taken.setdefault(part, []).append(seconds)
        return given

    def parts(self, last: int) -> dict[str, float]:
        """Median seconds of each part over its last calls; of ``data``, from asking for views to having them."""
        found = {part: median(taken[-last:]) for part, taken in self.taken.items()}
        if self.feed is not None:
            found["data"] = median(timed(partial(next, self.feed), self.device)[0] for _ in range(DATA_BATCHES))
        return found


class PlainStep(TrainingStep):
    """The same network's step, written plainly."""

    def __init__(self, network: Trained, channels: int, device: torch.device) -> None:
        plain = network.model_copy(update={"compile": False, "joint_forward": False})
        super().__init__(plain, channels, Process(device))
        for param in self.encoder.parameters():
            if param.ndim == 4:  # torchvision's own layout of the weights: the input follows them
                param.data = param.data.clone(memory_format=torch.contiguous_format)
        spec = network.optimizer
        optimizers: dict[str, Callable[..., torch.optim.Optimizer]] = {
            "lars": partial(PlainLARS, momentum=spec.momentum, trust_coefficient=spec.trust_coefficient),
            "adamw": torch.optim.AdamW,
            "sgd": partial(torch.optim.SGD, momentum=spec.momentum),
        }
        optimizer, params = optimizers[spec.name], self.encoder.parameters()
        self.optimizer = optimizer(params, lr=spec.base_lr, weight_decay=spec.weight_decay)

    def forward(self, views: tuple[Tensor, ...], step: int = 0) -> Loss:
        """The loss of the views; one that draws draws the same at every step."""
        dtype = AUTOCAST[self.network.precision]
        with torch.autocast(self.process.device.type, dtype=dtype, enabled=dtype != torch.float32):
            embeddings, _ = self.views(views)
            return textbook(self.network.method, self.network.loss, embeddings, dtype, self.recipe.pairing)

    def backward(self, loss: Loss) -> None:
        """Gradients of the parameters, and through the loss."""
        self.optimizer.zero_grad()
        super().backward(loss)

    def update(self) -> None:
        """The optimiser's step; the gradients stay."""
        self.scaler.step(self.optimizer)
        self.scaler.update()


class PlainLARS(LARS):
    """LARS one parameter after the other, as in the published code."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters."""
        (group,) = self.param_groups
        for param in group["params"]:
            update = param.grad
            if param.ndim > 1:
                update = update.add(param, alpha=group["weight_decay"])
                weight_norm, update_norm = param.norm(), update.norm()
                ratio = group["trust_coefficient"] * weight_norm / update_norm
                one = torch.ones_like(weight_norm)
                ratio = torch.where(weight_norm > 0, torch.where(update_norm > 0, ratio, one), one)
                update = update.mul(ratio)
            momentum = self._momentum(param)
            momentum.mul_(group["momentum"]).add_(update)
            param.add_(momentum, alpha=-group["lr"])


def subjects(cell: Cell, device: torch.device) -> dict[str, Callable[[], TimedStep]]:
    """What a cell compares: our step; and where asked for, the same step written plainly.

    On views of random pixels in memory, of the size and through the augmentation of the network's data set.
    """
    network = cell.network()
    input, stored = input_of(network), source_of(network).image_size
    channels, process = input.channels, Process(device)
    shape = (BATCHES * network.batch_size, channels, stored, stored)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator("step cost"))
    images = PixelImages(pixels, np.zeros(len(pixels), dtype=np.int64))
    loader = ViewLoader(images, recipe(network.augmentation), input, process, batch_size=network.batch_size, seed=0)
    views = next(loader.epoch(0)).views

    def ours() -> TimedStep:
        feed = (batch.views for batch in chain.from_iterable(map(loader.epoch, count())))
        return TimedStep(TrainingStep(network, channels, process), next(feed), device, feed)

    if not cell.compared:
        return {"ours": ours}
    return {"ours": ours, "reference": lambda: TimedStep(PlainStep(network, channels, device), views, device)}


def described(network: Trained) -> str:
    """What a step is of, in words."""
    backbone, projector, side = network.backbone, network.projector, side_of(network)
    own = {"small_cnn": f", width {backbone.width}", TIMM: ""}
    stem = own.get(entry_of(backbone.name), f", {backbone.stem} stem")
    hidden = "-".join([*[str(projector.hidden)] * projector.layers, "D"])
    compiled = ", compiled" if network.compile else ""
    return f"{backbone.name}{stem}, {side} x {side} pixels, projector {hidden}, {network.optimizer.name}{compiled}"


def source_of(network: Trained) -> Source:
    """A network's named data set. Raises :class:`UserError` for one's own data, whose shape only a look can tell."""
    named = [name for name, source in SOURCES.items() if source.image_size]
    if network.data.source not in named:
        raise UserError(f"data.source: is {network.data.source!r}; costs need a named data set: {', '.join(named)}")
    return SOURCES[network.data.source]


def side_of(network: Trained) -> int:
    """The side in pixels of the views that a network sees. Raises as :func:`source_of` where it is not given."""
    return network.data.image_size or source_of(network).image_size


def input_of(network: Trained) -> Input:
    """What a network's images are made into. Raises as :func:`source_of`."""
    source = source_of(network)
    return Input(len(source.mean), side_of(network), source.mean, source.std)
