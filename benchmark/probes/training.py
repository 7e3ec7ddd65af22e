"""Supervised training by SGD, as published evaluations do it: of a classifier on frozen features, of a whole network.

Over several processes each trains on its part of the global batch, and gradients are summed. It is saved from time to
time and when it is stopped, after any step, so that a training of hours goes on where it was. A process that fails
within a step, while others wait for it in their batch statistics, ends them, as in pretraining; the record says why.
"""

from collections.abc import Callable, Iterator
from math import cos, pi
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.data import ImageSet
from benchmark.networks.base import Diverged
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.numerics import AUTOCAST
from benchmark.views import PROBE_CROPS, Recipe

# Of every step: this process's inputs (n, ...) and labels (n,), and the images of the global batch.
Steps = Iterator[tuple[Tensor, Tensor, int]]
# The share of its first rate that each group of parameters has at a time, in epochs, whole ones at their beginnings.
Schedule = Callable[[float], float]


class Batches(Protocol):
    """Labelled inputs, in a new order every epoch."""

    steps_per_epoch: int

    def epoch(self, number: int, first_step: int = 0) -> Steps:
        """The steps of an epoch from ``first_step`` on."""


class LabelledViews:
    """Views of images that are augmented anew every epoch; of fewer than ``smallest`` there is no last batch."""

    def __init__(
        self, subject: Subject, images: ImageSet, batch_size: int, recipe: Recipe = PROBE_CROPS, *, smallest: int = 1
    ) -> None:
        self._loader = loader = subject.views(images, recipe, batch_size, smallest=smallest)
        self._device = subject.device
        self.steps_per_epoch = loader.steps_per_epoch

    def epoch(self, number: int, first_step: int = 0) -> Steps:
        loader = self._loader
        for batch, size in zip(loader.epoch(number, first_step), loader.sizes[first_step:], strict=True):
            yield batch.views[0], batch.labels.to(self._device), size


def cosine(time: float, epochs: int) -> float:
    """(1 + cos(π time / epochs)) / 2."""
    return (1 + cos(pi * time / epochs)) / 2


def milestones(time: float, at: tuple[int, ...], factor: float) -> float:
    """``factor`` to the power of how many of the epochs ``at`` are over."""
    return float(factor ** sum(milestone <= time for milestone in at))


def train(
    model: nn.Module,
    optimizer: torch.optim.SGD,
    schedule: Schedule,
    batches: Batches,
    epochs: int,
    subject: Subject,
    precision: str = "fp32",
) -> None:
    """With cross-entropy, on from the newest checkpoint; at the end there is one of the last step.

    Each group of the optimiser's parameters begins with the rate that it is given with. Raises :class:`Diverged` after
    the first epoch that leaves a weight that is not finite.
    """
    first_rates = [group["lr"] for group in optimizer.param_groups]
    scaler = torch.amp.GradScaler(subject.device.type, enabled=precision == "fp16")
    steps, step = batches.steps_per_epoch, 0
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scaler": scaler}
    if (state := subject.resumed()) is not None:
        step = state["step"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
        check_finite(model, step // steps, epochs)

    def save() -> None:
        subject.save(step, {"step": step, **{name: part.state_dict() for name, part in parts.items()}})

    model.train()
    with subject.kept(save) as step_done:
        for epoch in range(step // steps, epochs):
            for x_N, labels_N, size in batches.epoch(epoch, step % steps):
                for group, rate in zip(optimizer.param_groups, first_rates, strict=True):
                    group["lr"] = rate * schedule(step / steps)
                subject.check()  # before batch statistics of all processes, too
                backward(model, x_N, labels_N, size, precision, scaler)
                for param in model.parameters():
                    assert param.grad is not None
                    subject.process.all_reduce_sum(param.grad)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                step += 1
                subject.tell("epoch", epoch + 1, epochs)
                step_done()
            check_finite(model, epoch + 1, epochs)
        save()


def check_finite(model: nn.Module, epoch: int, epochs: int) -> None:
    """Weights and statistics are the same on all processes: so all raise, or none."""
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        raise Diverged(f"a weight is not finite after {epoch} of {epochs} epochs")


def backward(
    model: nn.Module, x_N: Tensor, labels_N: Tensor, size: int, precision: str, scaler: torch.amp.GradScaler
) -> None:
    """Gradients of this process's part of the cross-entropy's mean over a global batch of ``size``."""
    dtype = AUTOCAST[precision]
    with torch.enable_grad():
        with torch.autocast(x_N.device.type, dtype=dtype, enabled=dtype != torch.float32):
            scores_NC = model(x_N)
        loss = F.cross_entropy(scores_NC.float(), labels_N, reduction="sum") / size
    scaler.scale(loss).backward()


def top(head: nn.Module, queries: Features, k: int) -> float:
    """The fraction of queries whose class is among the ``k`` with the largest scores."""
    head.eval()
    with torch.no_grad():
        best_NK = head(queries.x).topk(k).indices
    return int((best_NK == queries.labels[:, None]).any(dim=1).sum()) / len(queries)
