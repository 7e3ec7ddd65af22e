"""The linear probe as published: a linear classifier trained by SGD on the frozen backbone, its last epoch's accuracy.

Over several processes each trains on its part of the global batch; gradients are summed. It is saved from time to time
and when it is stopped, after any step, so that a probe of hours goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.networks.base import FrozenModule
from benchmark.probes.base import Found, Probe, register
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.seeds import generator
from benchmark.views import PROBE_CROPS
from results.record import Metric

# Where top-5 accuracy is told beside top-1, as published for ImageNet.
TOP5_CLASSES = 100


@register
class Linear(Probe):
    """SGD with momentum 0.9 on random crops and flips, or on features made once; the rate is set once an epoch."""

    name = "linear"
    version = 2
    needs = frozenset({"backbone"})

    linear_epochs: int = Field(100, ge=1)
    linear_lr: float = Field(0.4, gt=0, description="for a batch of 256")
    linear_weight_decay: float = Field(1e-6, ge=0)
    linear_crops: bool = Field(True, description="train on random crops and flips, as published")
    batch_size: int = Field(256, ge=1, description="images in a step, over all processes")

    def measure(self, subject: Subject) -> Found:
        network, data = subject.network, subject.data
        assert isinstance(network, FrozenModule)
        queries = subject.queries("bilinear")  # first: an image that cannot be read ends no training of hours
        batches = (Crops if self.linear_crops else Cached)(subject, min(self.batch_size, len(data.labelled)))
        head = initial_head(network.feature_dim, data.classes, subject.device)
        self.train(head, batches, subject)
        protocol = {
            "optimizer": "sgd",
            "epochs": self.linear_epochs,
            "lr": self.linear_lr,
            "batch": batches.batch_size,
            "weight_decay": self.linear_weight_decay,
            "crops": "random" if self.linear_crops else "none",
            **subject.place(),
        }
        told = (1, 5) if data.classes >= TOP5_CLASSES else (1,)
        return Found([Metric(metric=f"linear_top{k}", protocol=protocol, value=top(head, queries, k)) for k in told])

    def learning_rate(self, epoch: int, batch_size: int) -> float:
        """lr · batch / 256 · (1 + cos(π epoch / epochs)) / 2."""
        return self.linear_lr * batch_size / 256 * (1 + math.cos(math.pi * epoch / self.linear_epochs)) / 2

    def train(self, head: nn.Linear, batches: Cached | Crops, subject: Subject) -> None:
        """With cross-entropy, as in VICReg's and SFRIK's evaluation code, on from its newest checkpoint."""
        optimizer = torch.optim.SGD(
            head.parameters(), lr=self.linear_lr, momentum=0.9, weight_decay=self.linear_weight_decay
        )
        steps, step, saved = batches.steps_per_epoch, 0, time.perf_counter()
        state = subject.resumed()
        if state is not None:
            step = state["step"]
            head.load_state_dict(state["head"])
            optimizer.load_state_dict(state["optimizer"])

        def save() -> None:
            subject.save(step, {"step": step, "head": head.state_dict(), "optimizer": optimizer.state_dict()})

        with subject.saved_on_stop(save):
            for epoch in range(step // steps, self.linear_epochs):
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate(epoch, batches.batch_size)
                for x_NF, labels_N, size in batches.epoch(epoch, step % steps):
                    optimizer.zero_grad()
                    _add_gradients(head, x_NF, labels_N, size)
                    subject.check()
                    for param in head.parameters():
                        assert param.grad is not None
                        subject.process.all_reduce_sum(param.grad)
                    optimizer.step()
                    step += 1
                    subject.tell("epoch", epoch + 1, self.linear_epochs)
                    if time.perf_counter() - saved > subject.execution.checkpoint_seconds:
                        save()
                        saved = time.perf_counter()


# Of every step: this process's features (n, F) and labels (n,), and the images of the global batch.
Steps = Iterator[tuple[Tensor, Tensor, int]]


class Cached:
    """Features made once, in a new order every epoch; the last batch may be smaller."""

    def __init__(self, subject: Subject, batch_size: int) -> None:
        self._bank, self._process, self.batch_size = subject.bank("bilinear"), subject.process, batch_size
        self.steps_per_epoch = -(-len(self._bank) // batch_size)

    def epoch(self, number: int, first_step: int = 0) -> Steps:
        bank, rank, world_size = self._bank, self._process.rank, self._process.world_size
        order = torch.randperm(len(bank), generator=generator("linear", "order", number))
        for rows_N in order.to(bank.x.device).split(self.batch_size)[first_step:]:
            size = len(rows_N)
            mine = rows_N[rank * size // world_size : (rank + 1) * size // world_size]
            yield bank.x[mine], bank.labels[mine], size


class Crops:
    """Features of random crops and flips (``PROBE_CROPS``), made anew every epoch; the last batch may be smaller."""

    def __init__(self, subject: Subject, batch_size: int) -> None:
        self._subject, self.batch_size = subject, batch_size
        self._loader = subject.views(subject.data.labelled, PROBE_CROPS, batch_size, drop_last=False)
        self.steps_per_epoch = self._loader.steps_per_epoch

    def epoch(self, number: int, first_step: int = 0) -> Steps:
        subject, loader, network = self._subject, self._loader, self._subject.network
        assert isinstance(network, FrozenModule)
        for batch, size in zip(loader.epoch(number, first_step), loader.sizes[first_step:], strict=True):
            (view_NCHW,) = batch.views
            with subject.frozen():
                nothing_NF = view_NCHW.new_empty(0, network.feature_dim)
                x_NF = subject.through(network.module, view_NCHW) if len(view_NCHW) else nothing_NF
            yield x_NF, batch.labels.to(subject.device), size


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
    return int((best_NK == queries.labels[:, None]).any(dim=1).sum()) / len(queries)
