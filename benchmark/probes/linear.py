"""The linear probe as published: a linear classifier trained by SGD on the frozen backbone; its last epoch counts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import nn

from benchmark.data import DataSet
from benchmark.networks.base import Diverged, FrozenModule
from benchmark.networks.online import initial_head
from benchmark.networks.step import synchronise_batch_norm
from benchmark.probes.base import Count, Figures, Found, Probe, Split, register
from benchmark.probes.subject import Subject
from benchmark.probes.training import LabelledViews, Steps, cosine, milestones, top, train
from benchmark.runtime.errors import UserError
from benchmark.runtime.seeds import generator
from benchmark.views import PROBE_CROPS, PROBE_SQUARES, Recipe
from results.record import Metric, ProtocolValue

# Where top-5 accuracy is told beside top-1, as published for ImageNet.
TOP5_CLASSES = 100
# What the rate is multiplied by at each of `linear_milestones`.
FALL = 0.1


@register
class Linear(Probe):
    """A linear classifier on frozen features.

    SGD with momentum 0.9 on random crops and flips, or on features made once; the rate is set once an epoch.
    """

    name = "linear"
    version = 2
    needs = frozenset({"backbone"})
    later = frozenset({"linear_recipe", "linear_milestones", "linear_nesterov", "linear_batch_norm"})

    linear_epochs: int = Field(100, ge=1)
    linear_lr: float = Field(0.4, gt=0, description="for a batch of 256")
    linear_weight_decay: float = Field(1e-6, ge=0)
    linear_crops: Literal[True, False, "squares"] = Field(
        True, description="train on random crops and flips, as published; squares: at one size, as on Places205"
    )
    batch_size: int = Field(256, ge=1, description="images in a step, over all processes")
    linear_recipe: Literal["imagenet", "places205", "inat18"] = Field(
        "imagenet", description="the published settings of all the other options, for those that are not given"
    )
    linear_milestones: tuple[Count, ...] = Field(
        (), description="epochs after which the rate falls to a tenth; by default it falls along a cosine"
    )
    linear_nesterov: bool = False
    linear_batch_norm: bool = Field(False, description="features normalised over the batch before the classifier")

    # Of every recipe what differs from the first: that of VICReg's and SFRIK's evaluation code.
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "imagenet": {},
        "places205": {  # OBoW (Gidaris et al. 2021), after fair_self_supervision_benchmark (Goyal et al. 2019)
            "linear_epochs": 28,
            "linear_lr": 0.01,
            "linear_weight_decay": 1e-5,
            "linear_crops": "squares",
            "linear_milestones": (10, 20),
            "linear_batch_norm": True,
        },
        "inat18": {  # VISSL, iNaturalist 2018; its heads normalise what they see, and this does
            "linear_epochs": 84,
            "linear_lr": 0.01,
            "linear_weight_decay": 5e-4,
            "linear_milestones": (24, 48, 72),
            "linear_nesterov": True,
            "linear_batch_norm": True,
        },
    }

    def changed(self, options: Mapping[str, Any]) -> Self:
        """Where a recipe is named, all that it says and ``options`` do not."""
        if "linear_recipe" not in options:
            return super().changed(options)
        return super().changed({**dict(type(self)()), **self.recipes[options["linear_recipe"]], **options})

    def check(self, data: DataSet, split: Split) -> None:
        """Raise :class:`UserError` where batches of one image are to be normalised."""
        if self.linear_batch_norm and min(self.batch_size, len(data.labelled)) < 2:
            raise UserError(f"evaluation.batch_size: is {self.batch_size}, must be two or more, to normalise over")

    def figures(self) -> Figures:
        return [("linear_top1", {}), ("linear_top5", {})]

    def measure(self, subject: Subject) -> Found:
        network, data = subject.network, subject.data
        assert isinstance(network, FrozenModule)
        queries = subject.queries("bilinear")  # first: an image that cannot be read ends no training of hours
        recipe = PROBE_SQUARES if self.linear_crops == "squares" else PROBE_CROPS
        kind = partial(Crops, recipe=recipe) if self.linear_crops else Cached
        # Of one image alone there is nothing to normalise by.
        smallest = 2 if self.linear_batch_norm else 1
        batches = kind(subject, min(self.batch_size, len(data.labelled)), smallest=smallest)
        head: nn.Module = initial_head(network.feature_dim, data.classes, subject.device)
        if self.linear_batch_norm:
            head = nn.Sequential(nn.BatchNorm1d(network.feature_dim, affine=False), head).to(subject.device)
            if subject.process.group is not None:
                head = synchronise_batch_norm(head, subject.device)
        self.train(head, batches, subject)
        protocol = self.protocol(batches.batch_size) | subject.place()
        told = (1, 5) if data.classes >= TOP5_CLASSES else (1,)
        return Found([Metric(metric=f"linear_top{k}", protocol=protocol, value=top(head, queries, k)) for k in told])

    def protocol(self, batch_size: int) -> dict[str, ProtocolValue]:
        """What is not as in the first recipe is told where it is so only."""
        told: dict[str, ProtocolValue] = {
            "optimizer": "sgd with nesterov" if self.linear_nesterov else "sgd",
            "epochs": self.linear_epochs,
            "lr": self.linear_lr,
            "batch": batch_size,
            "weight_decay": self.linear_weight_decay,
            "crops": {True: "random", False: "none", "squares": "random squares"}[self.linear_crops],
        }
        if self.linear_milestones:
            told["milestones"] = " ".join(map(str, self.linear_milestones))
        return told | ({"normalised": "batch"} if self.linear_batch_norm else {})

    def schedule(self, time: float) -> float:
        """A cosine of the epochs that are over, or a fall at milestones."""
        if self.linear_milestones:
            return milestones(time, self.linear_milestones, FALL)
        return cosine(int(time), self.linear_epochs)

    def train(self, head: nn.Module, batches: Cached | Crops, subject: Subject) -> None:
        """As in VICReg's and SFRIK's evaluation code, from a rate of lr · batch / 256. Raises :class:`UserError`."""
        optimizer = torch.optim.SGD(
            head.parameters(),
            lr=self.linear_lr * batches.batch_size / 256,
            momentum=0.9,
            weight_decay=self.linear_weight_decay,
            nesterov=self.linear_nesterov,
        )
        try:
            train(head, optimizer, self.schedule, batches, self.linear_epochs, subject)
        except Diverged as error:
            lr = f"evaluation.linear_lr: is {self.linear_lr:g}"
            raise UserError(f"{lr}, with which the training diverged: {error}; must be lower") from error


class Cached:
    """Features made once, in a new order every epoch; of fewer than ``smallest`` there is no last batch."""

    def __init__(self, subject: Subject, batch_size: int, *, smallest: int = 1) -> None:
        self._bank, self._process, self.batch_size = subject.bank("bilinear"), subject.process, batch_size
        whole, rest = divmod(len(self._bank), batch_size)
        self.steps_per_epoch = whole + (rest >= smallest)

    def epoch(self, number: int, first_step: int = 0) -> Steps:
        bank, rank, world_size = self._bank, self._process.rank, self._process.world_size
        order = torch.randperm(len(bank), generator=generator("linear", "order", number))
        for rows_N in order.to(bank.x.device).split(self.batch_size)[first_step : self.steps_per_epoch]:
            size = len(rows_N)
            mine = rows_N[rank * size // world_size : (rank + 1) * size // world_size]
            yield bank.x[mine], bank.labels[mine], size


class Crops(LabelledViews):
    """Features of views (random crops and flips) that are made anew every epoch, otherwise the same."""

    def __init__(self, subject: Subject, batch_size: int, *, recipe: Recipe = PROBE_CROPS, smallest: int = 1) -> None:
        super().__init__(subject, subject.data.labelled, batch_size, recipe, smallest=smallest)
        self._subject, self.batch_size = subject, batch_size

    def epoch(self, number: int, first_step: int = 0) -> Steps:
        subject, network = self._subject, self._subject.network
        assert isinstance(network, FrozenModule)
        for view_NCHW, labels_N, size in super().epoch(number, first_step):
            with subject.frozen():
                nothing_NF = view_NCHW.new_empty(0, network.feature_dim)
                x_NF = subject.through(network.module, view_NCHW) if len(labels_N) else nothing_NF
            yield x_NF, labels_N, size
