"""The linear probe as published: a linear classifier trained by SGD on the frozen backbone, its last epoch's accuracy.

Over several processes each trains on its part of the global batch; gradients are summed. It is saved from time to time
and when it is stopped, after any step, so that a probe of hours goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.networks.base import FrozenModule
from benchmark.probes.base import Found, Probe, register
from benchmark.probes.subject import Features, Subject, accuracy
from benchmark.runtime.seeds import generator
from benchmark.views import PROBE_CROPS
from results.record import Metric

# Where top-5 accuracy is told beside top-1, as published for ImageNet.
TOP5_CLASSES = 100


@register
class Linear(Probe):
    """SGD with momentum 0.9 on random crops and flips, or on features that are made once."""

    name: ClassVar[str] = "linear"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = frozenset({"backbone"})

    linear_epochs: int = Field(100, ge=1)
    linear_lr: float = Field(0.4, gt=0, description="for a batch of 256")
    linear_weight_decay: float = Field(1e-6, ge=0)
    linear_crops: bool = Field(True, description="train on random crops and flips, as published")
    batch_size: int = Field(256, ge=1, description="images in a step, over all processes")

    def measure(self, subject: Subject) -> Found:
        """Accuracy after the last epoch."""
        network, data = subject.network, subject.data
        assert isinstance(network, FrozenModule)
        queries = subject.queries("bilinear")  # first: an image that cannot be read ends no training of hours
        batch_size = min(self.batch_size, len(data.labelled))
        schedule = Schedule(self.linear_epochs, self.linear_lr, self.linear_weight_decay, batch_size)
        head = initial_head(network.feature_dim, data.classes, subject.device)
        batches = Crops(subject, batch_size) if self.linear_crops else Cached(subject, batch_size)
        train(head, schedule, batches, subject)
        protocol = {**schedule.protocol(), "crops": "random" if self.linear_crops else "none", **subject.place()}
        return Found(
            [
                Metric(metric=f"linear_top{k}", protocol=protocol, value=top(head, queries, k))
                for k in ((1, 5) if data.classes >= TOP5_CLASSES else (1,))
            ]
        )


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


# Of every step: this process's features (n, F) and labels (n,), and the images of the global batch.
Batches = Iterator[tuple[Tensor, Tensor, int]]


class Cached:
    """Features made once, in a new order every epoch; the last batch may be smaller."""

    def __init__(self, subject: Subject, batch_size: int) -> None:
        self._bank, self._batch_size, self._process = subject.bank("bilinear"), batch_size, subject.process

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch."""
        return -(-len(self._bank) // self._batch_size)

    def epoch(self, number: int, first_step: int = 0) -> Batches:
        """The steps of an epoch from ``first_step`` on."""
        bank, rank, world_size = self._bank, self._process.rank, self._process.world_size
        order = torch.randperm(len(bank), generator=generator("linear", "order", number))
        for rows_N in order.to(bank.x.device).split(self._batch_size)[first_step:]:
            size = len(rows_N)
            mine = rows_N[rank * size // world_size : (rank + 1) * size // world_size]
            yield bank.x[mine], bank.labels[mine], size


class Crops:
    """Features of random crops and flips (``PROBE_CROPS``), made anew every epoch; the last batch may be smaller."""

    def __init__(self, subject: Subject, batch_size: int) -> None:
        self._subject, images = subject, subject.data.labelled
        self._loader = subject.views(images, PROBE_CROPS, batch_size, drop_last=False)
        self._labels = torch.from_numpy(images.labels)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch."""
        return self._loader.steps_per_epoch

    def epoch(self, number: int, first_step: int = 0) -> Batches:
        """The steps of an epoch from ``first_step`` on."""
        subject, loader, network = self._subject, self._loader, self._subject.network
        assert isinstance(network, FrozenModule)
        images = zip(loader.indices(number)[first_step:], loader.sizes[first_step:], strict=True)
        for (view_NCHW,), (rows_N, size) in zip(loader.epoch(number, first_step), images, strict=True):
            with subject.frozen():
                nothing_NF = view_NCHW.new_empty(0, network.feature_dim)
                x_NF = subject.through(network.module, view_NCHW) if len(rows_N) else nothing_NF
            yield x_NF, self._labels[rows_N].to(subject.device), size


def train(head: nn.Linear, schedule: Schedule, batches: Cached | Crops, subject: Subject) -> None:
    """Train ``head`` with cross-entropy, as in VICReg's and SFRIK's evaluation code, on from its newest checkpoint."""
    optimizer = torch.optim.SGD(head.parameters(), lr=schedule.lr, momentum=0.9, weight_decay=schedule.weight_decay)
    steps, step = batches.steps_per_epoch, 0
    state = subject.resumed()
    if state is not None:
        step = state["step"]
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])

    def save() -> None:
        subject.kept.save(step, {"step": step, "head": head.state_dict(), "optimizer": optimizer.state_dict()})

    with subject.saved_on_stop(save):
        for epoch in range(step // steps, schedule.epochs):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(epoch)
            for x_NF, labels_N, size in batches.epoch(epoch, step % steps):
                optimizer.zero_grad()
                _add_gradients(head, x_NF, labels_N, size)
                subject.check()
                for param in head.parameters():
                    assert param.grad is not None
                    subject.process.all_reduce_sum(param.grad)
                optimizer.step()
                step += 1
                if subject.kept.is_due():
                    save()


def _add_gradients(head: nn.Linear, x_NF: Tensor, labels_N: Tensor, size: int) -> None:
    """Of this process's part of the cross-entropy's mean over the global batch."""
    with torch.enable_grad():
        loss = F.cross_entropy(head(x_NF), labels_N, reduction="sum") / size
    loss.backward()


def initial_head(feature_dim: int, classes: int, device: torch.device) -> nn.Linear:
    """Weights from N(0, 0.01²), the same for every network, and a bias of zero."""
    head = nn.utils.skip_init(nn.Linear, feature_dim, classes)
    with torch.no_grad():
        head.weight.normal_(0, 0.01, generator=generator("linear", "init"))
        head.bias.zero_()
    return head.to(device)


def top(head: nn.Linear, queries: Features, k: int) -> float:
    """The fraction of queries whose class is among the ``k`` with the largest scores."""
    with torch.no_grad():
        best_NK = head(queries.x).topk(k).indices
    hit_N = (best_NK == queries.labels[:, None]).any(dim=1)
    return accuracy(hit_N, torch.ones_like(hit_N))
