"""The linear probe as published: a linear classifier trained by SGD on the frozen backbone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.data import ImageSet
from benchmark.probes.features import Extractor, Features, accuracy
from benchmark.runtime.seeds import generator
from benchmark.views import PROBE_CROPS

# An epoch's number to its batches of features and labels.
Epochs = Callable[[int], Iterable[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Schedule:
    """SGD with momentum 0.9, its rate a cosine over ``epochs`` from ``lr * batch_size / 256``, set once an epoch."""

    epochs: int
    lr: float
    weight_decay: float
    batch_size: int

    def learning_rate(self, epoch: int) -> float:
        """lr · batch / 256 · (1 + cos(π epoch / epochs)) / 2."""
        return self.lr * self.batch_size / 256 * (1 + math.cos(math.pi * epoch / self.epochs)) / 2

    def protocol(self) -> dict[str, str | int | float]:
        """As a metric's protocol says it."""
        return {
            "optimizer": "sgd",
            "epochs": self.epochs,
            "lr": self.lr,
            "batch": self.batch_size,
            "weight_decay": self.weight_decay,
        }


def cached(bank: Features, batch_size: int) -> Epochs:
    """Batches of cached features, in a new order every epoch; the last may be smaller."""

    def epoch(number: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(bank), generator=generator("linear", "order", number))
        for rows in order.to(bank.x.device).split(batch_size):
            yield bank.x[rows], bank.labels[rows]

    return epoch


def crops(extractor: Extractor, images: ImageSet, batch_size: int) -> Epochs:
    """Features of random crops and flips (``PROBE_CROPS``), computed anew every epoch; a smaller batch is dropped."""
    loader = extractor.views(images, PROBE_CROPS, batch_size)
    labels_N = torch.from_numpy(images.labels)

    def epoch(number: int) -> Iterator[tuple[Tensor, Tensor]]:
        for (view_NCHW,), rows in zip(loader.epoch(number), loader.indices(number), strict=True):
            yield extractor.network(view_NCHW).float(), labels_N[rows].to(extractor.device)

    return epoch


def train(epochs: Epochs, schedule: Schedule, head: nn.Linear) -> None:
    """Train ``head`` with cross-entropy, as in VICReg's and SFRIK's evaluation code."""
    optimizer = torch.optim.SGD(head.parameters(), lr=schedule.lr, momentum=0.9, weight_decay=schedule.weight_decay)
    for number in range(schedule.epochs):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate(number)
        for x_ND, labels_N in epochs(number):
            _step(head, optimizer, x_ND, labels_N)


def _step(head: nn.Linear, optimizer: torch.optim.Optimizer, x_ND: Tensor, labels_N: Tensor) -> None:
    with torch.enable_grad():
        loss = F.cross_entropy(head(x_ND), labels_N)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def initial_head(feature_dim: int, classes: int, device: torch.device) -> nn.Linear:
    """Weights from N(0, 0.01²), the same for every run, and a bias of zero."""
    head = nn.utils.skip_init(nn.Linear, feature_dim, classes)
    with torch.no_grad():
        head.weight.normal_(0, 0.01, generator=generator("linear", "init"))
        head.bias.zero_()
    return head.to(device)


def top(head: nn.Linear, queries: Features, k: int) -> float:
    """The fraction of queries whose class is among the ``k`` with the largest scores."""
    best_NK = head(queries.x).topk(k).indices
    hit_N = (best_NK == queries.labels[:, None]).any(dim=1)
    return accuracy(hit_N, torch.ones_like(hit_N))
