"""Fine-tuning as published: the whole network and a linear classifier, trained by SGD on 1 %, 10 % or all labels.

What is trained is a copy: the network itself stays as it is. All processes train, and go on where they were, as with
the linear probe (:mod:`benchmark.probes.training`); the trained copy's features are then made as any network's are.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import nn

from benchmark.data import DataSet, FileImages
from benchmark.networks.base import Diverged, FrozenModule
from benchmark.networks.online import initial_head
from benchmark.networks.step import synchronise_batch_norm
from benchmark.probes.base import Count, Figures, Found, Probe, Split, register
from benchmark.probes.linear import TOP5_CLASSES
from benchmark.probes.subject import Subject
from benchmark.probes.training import Batches, LabelledViews, cosine, milestones, top, train
from benchmark.runtime.errors import UserError
from benchmark.runtime.paths import absolute, in_job, typed
from benchmark.runtime.seeds import generator
from benchmark.runtime.spec import SettingError
from results.record import Metric, ProtocolValue

# The published subsets of ImageNet, google-research/simclr's imagenet_subsets: SHA-256 of each file by its percentage.
LISTS = {
    1: "71e82a48ba78252683ae334c4d019ebd5c6e855b9599c1389fbe83eb9549cf17",
    10: "6d09de11e7bdaf5b1f3b1f249b6183695f97310cdd20f0c03e7235b6b9392091",
}
# What rates are multiplied by at each of `finetune_milestones`.
FALL = 0.2
_LISTS_KEY = "evaluation.finetune_lists"
_Folder = Annotated[
    str | None, AfterValidator(lambda path: path if path is None else absolute(typed(path, _LISTS_KEY)))
]


def _rates(backbone: float, head: float, **others: Any) -> dict[str, Any]:
    """What a recipe says of all options; what it does not is as by default."""
    alike = {"finetune_epochs": 20, "finetune_weight_decay": 0.0, "finetune_schedule": "cosine"}
    alike |= {"finetune_milestones": (), "batch_size": 256}
    return {**alike, "finetune_backbone_lr": backbone, "finetune_head_lr": head, **others}


# By recipe and percentage: rates of backbone and classifier, and what else differs from SFRIK's.
RECIPES: Mapping[tuple[str, int], Mapping[str, Any]] = {
    # Zheng et al. 2023, and the code they published.
    ("sfrik", 1): _rates(0.004, 1.0),
    ("sfrik", 10): _rates(0.02, 0.1),
    # Bardes et al. 2022: the README of facebookresearch/vicreg.
    ("vicreg", 1): _rates(0.03, 0.08),
    ("vicreg", 10): _rates(0.01, 0.1),
    # Zbontar et al. 2021: the README of facebookresearch/barlowtwins, which has 1 % only.
    ("barlow_twins", 1): _rates(0.005, 0.5),
    # Caron et al. 2020: the README of facebookresearch/swav.
    ("swav", 1): _rates(0.02, 5.0, finetune_milestones=(12, 16)),
    ("swav", 10): _rates(0.01, 0.2, finetune_milestones=(12, 16)),
    # lightly's benchmarks/imagenet/resnet50, after SimCLR (Chen et al. 2020); there 0.05 is for a batch of 256.
    ("lightly", 100): _rates(0.05, 0.05, finetune_epochs=30, finetune_schedule="cosine_by_step"),
}


@register
class FineTune(Probe):
    """The network and a linear classifier trained together, on 1 %, 10 % or all labels.

    SGD with momentum 0.9 and cross-entropy on random crops and flips, the backbone and the classifier each with a rate
    of its own, whatever the batch. The network is in training mode: batches are normalised by all of their images, over
    all processes, and running statistics follow. So they are in SwAV's code; in VICReg's and SFRIK's by the images of
    each GPU, 32 of 256 on eight. The last epoch counts.
    """

    name = "finetune"
    needs = frozenset({"backbone"})

    finetune_percent: int = Field(1, ge=1, le=100, description="of the labelled training images of every class")
    finetune_recipe: Literal["sfrik", "vicreg", "barlow_twins", "swav", "lightly"] = Field(
        "sfrik", description="whose settings of the other options, for those that are not given; of 100 %: lightly"
    )
    finetune_epochs: int = Field(20, ge=1)
    finetune_backbone_lr: float = Field(0.004, ge=0)
    finetune_head_lr: float = Field(1.0, gt=0)
    finetune_weight_decay: float = Field(0.0, ge=0)
    finetune_schedule: Literal["cosine", "cosine_by_step"] = "cosine"
    finetune_milestones: tuple[Count, ...] = Field(
        (), description="epochs after which rates fall to a fifth, instead of along a cosine"
    )
    finetune_lists: _Folder = Field(
        None, description="folder with the published 1percent.txt and 10percent.txt; by default images are drawn"
    )
    finetune_draw: int = Field(0, ge=0, description="which draw of images; the same for every network")
    batch_size: int = Field(256, ge=1, description="images in a step, over all processes")

    def changed(self, options: Mapping[str, Any]) -> Self:
        """Where a recipe or a percentage is named, all that the recipe says of it and ``options`` do not.

        Raises :class:`SettingError` where it says nothing of it, and ``options`` do not say both rates.
        """
        named = options.keys() & {"finetune_recipe", "finetune_percent"}
        if not named:
            return super().changed(options)
        percent = options.get("finetune_percent", self.finetune_percent)
        name = options.get("finetune_recipe", self.finetune_recipe)
        if "finetune_recipe" not in options and (name, percent) not in RECIPES:
            name = "lightly" if percent == 100 else "sfrik"
        if (name, percent) not in RECIPES and not {"finetune_backbone_lr", "finetune_head_lr"} <= options.keys():
            known = ", ".join(f"{recipe} {part} %" for recipe, part in RECIPES)
            both = "give finetune_backbone_lr and finetune_head_lr beside it"
            sentence = f"no rates of {name} for {percent} % are known, only of {known}; {both}"
            raise SettingError(f"evaluation.{min(named)}", sentence)
        return super().changed({"finetune_recipe": name, **RECIPES.get((name, percent), {}), **options})

    def canonical(self) -> dict[str, Any]:
        """Of the published lists, which they are, wherever they lie."""
        which = LISTS.get(self.finetune_percent, "not published") if self.finetune_lists else None
        return {**super().canonical(), "finetune_lists": which}

    def check(self, data: DataSet, split: Split) -> None:
        """Raise :class:`UserError` where there is no such list, its images are not there, or a batch has one image."""
        if min(self.batch_size, len(self.images(data))) < 2:
            raise UserError(f"evaluation.batch_size: is {self.batch_size}, must be two or more, to normalise over")

    def images(self, data: DataSet) -> NDArray[np.int64]:
        """Which of the labelled images are trained on, ascending."""
        if self.finetune_lists is None:
            return drawn(data.labelled.labels, self.finetune_percent, self.finetune_draw)
        return listed(in_job(self.finetune_lists, _LISTS_KEY), self.finetune_percent, data)

    def figures(self) -> Figures:
        return [("finetune_top1", {}), ("finetune_top5", {})]

    def measure(self, subject: Subject) -> Found:
        network, data = subject.network, subject.data
        assert isinstance(network, FrozenModule)
        images = data.labelled.subset(self.images(data))
        batch_size = min(self.batch_size, len(images))
        batches = LabelledViews(subject, images, batch_size, smallest=2)  # one image alone has no statistics
        backbone, head = self.trained(network, data.classes, batches, subject)
        # Features of another network, in a folder of their own: that of this measurement's checkpoints.
        tuned = replace(subject, network=replace(network, module=backbone), folder=subject.own, _made={})
        queries = tuned.queries("bilinear")
        protocol = self.protocol(len(images), batch_size) | subject.place()
        told = (1, 5) if data.classes >= TOP5_CLASSES else (1,)
        return Found([Metric(metric=f"finetune_top{k}", protocol=protocol, value=top(head, queries, k)) for k in told])

    def protocol(self, images: int, batch_size: int) -> dict[str, ProtocolValue]:
        """All that decides the figure but for the network and what it is measured on."""
        labels = "all" if self.finetune_percent == 100 else f"stratified draw {self.finetune_draw}"
        at = " ".join(map(str, self.finetune_milestones))
        return {
            "percent": self.finetune_percent,
            "labels": "published list" if self.finetune_lists else labels,
            "images": images,
            "optimizer": "sgd",
            "epochs": self.finetune_epochs,
            "backbone_lr": self.finetune_backbone_lr,
            "head_lr": self.finetune_head_lr,
            "schedule": f"x{FALL} at {at}" if at else self.finetune_schedule,
            "batch": batch_size,
            "weight_decay": self.finetune_weight_decay,
            "crops": "random",
        }

    def schedule(self, time: float) -> float:
        """Of the epochs that are over, or of the steps too."""
        if self.finetune_milestones:
            return milestones(time, self.finetune_milestones, FALL)
        return cosine(time if self.finetune_schedule == "cosine_by_step" else int(time), self.finetune_epochs)

    def trained(
        self, network: FrozenModule, classes: int, batches: Batches, subject: Subject
    ) -> tuple[nn.Module, nn.Module]:
        """A copy of the network and a classifier, trained. Raises :class:`UserError` where that diverges."""
        backbone = copy.deepcopy(network.module).requires_grad_()
        if subject.process.group is not None:
            backbone = synchronise_batch_norm(backbone, subject.device)
        head = initial_head(network.feature_dim, classes, subject.device)
        model, rates = nn.Sequential(backbone, head), (self.finetune_backbone_lr, self.finetune_head_lr)
        groups = [{"params": part.parameters(), "lr": lr} for part, lr in zip(model, rates, strict=True)]
        optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=self.finetune_weight_decay)
        try:
            train(model, optimizer, self.schedule, batches, self.finetune_epochs, subject, subject.precision)
        except Diverged as error:
            raise UserError(
                f"evaluation.finetune_backbone_lr, finetune_head_lr: are {rates[0]:g} and {rates[1]:g}, with which the "
                f"training diverged: {error}; must be lower"
            ) from error
        return backbone, head


def drawn(labels_N: NDArray[np.int64], percent: int, draw: int) -> NDArray[np.int64]:
    """So many per cent of every class, and one at least, ascending. What 1 % of a draw holds its 10 % hold too."""
    order = torch.randperm(len(labels_N), generator=generator("finetune", draw)).numpy()
    _, counts = np.unique(labels_N, return_counts=True)
    classes = np.split(order[np.argsort(labels_N[order], kind="stable")], np.cumsum(counts)[:-1])
    return np.sort(np.concatenate([own[: max(1, round(len(own) * percent / 100))] for own in classes]))


def listed(folder: Path, percent: int, data: DataSet) -> NDArray[np.int64]:
    """The labelled images that a published list names, ascending. Raises :class:`UserError` where it or one lacks."""
    if percent not in LISTS:
        raise UserError(f"{_LISTS_KEY}: published are lists of {' and '.join(map(str, LISTS))} %, not of {percent} %")
    path = folder / f"{percent}percent.txt"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{_LISTS_KEY}: {path}: cannot be read: {error.strerror}") from error
    if (found := hashlib.sha256(content).hexdigest()) != LISTS[percent]:
        where = "imagenet_subsets of github.com/google-research/simclr"
        raise UserError(f"{_LISTS_KEY}: {path}: is not the published list, of {where}: its SHA-256 is {found}")
    if not isinstance(data.labelled, FileImages):
        raise UserError(f"{_LISTS_KEY}: are lists of files of ImageNet; {data.name} has none")
    names = set(content.split())
    rows = np.flatnonzero([path.rpartition(b"/")[2] in names for path in data.labelled.paths.tolist()])
    if len(rows) < len(names):
        lacking = f"{len(names) - len(rows)} of its {len(names)} images are not among those to learn from"
        raise UserError(f"{_LISTS_KEY}: {path}: {lacking} of {data.name}; data.tune_fraction and limit leave some out")
    return rows
