"""Everything that is measured on a frozen network, every figure with the protocol that gives it meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.data import DataSet, ImageSet
from benchmark.networks.backbones import Encoder
from benchmark.probes import geometry, linear
from benchmark.probes.features import Extractor, Features, frozen
from benchmark.probes.frozen import FrozenProbes
from benchmark.runtime.errors import UserError
from benchmark.suite.run import Run
from benchmark.views import recipe
from results.record import Metric, ProtocolValue

# Singular values of more embeddings take minutes, and change the rank little.
GEOMETRY_IMAGES = 4096
# Where the linear probe's top-5 accuracy is told beside its top-1, as published for ImageNet.
TOP5_CLASSES = 100


def evaluate(
    encoder: Encoder, data: DataSet, run: Run, device: torch.device | str, *, workers: int = 0
) -> list[Metric]:
    """The metrics of ``run.evaluation.probes``, in that order, on the split that it names.

    Probes see the backbone's features: they are trained on ``data.labelled``. The embedding's geometry is measured on
    the evaluated split: alignment on two views of the run's augmentation, uniformity and rank on the plain images, at
    most ``GEOMETRY_IMAGES`` of them, evenly spaced. Features are extracted once, in float32; ``encoder`` is left in
    the mode it came in. ``workers`` load images from files.

    What the data cannot give is left out: a k larger than the bank, more labels a class than some class has. Raises
    :class:`UserError` where there is nothing to probe (:func:`check`). Accuracies are fractions.
    """
    check(data, run)
    with frozen(encoder):
        extractor = Extractor(encoder.backbone, data, run.evaluation.batch_size, torch.device(device), workers)
        return list(_Evaluation(extractor, run, "backbone", encoder).metrics())


def evaluate_pixels(data: DataSet, run: Run, *, workers: int = 0) -> list[Metric]:
    """The same probes on flattened normalised pixels, with no network: the row that all networks must beat."""
    check(data, run)
    flatten = nn.Flatten()
    with frozen(flatten):
        extractor = Extractor(flatten, data, run.evaluation.batch_size, torch.device("cpu"), workers)
        return list(_Evaluation(extractor, run, "pixels").metrics())


def check(data: DataSet, run: Run) -> None:
    """Raise :class:`UserError` where nothing can be probed: cheap, so that it can be asked before training."""
    classes = len(np.unique(data.labelled.labels))
    if classes < 2:
        raise UserError(f"data.source {data.name}: its labelled training images have {classes} class, must have two")
    images, split = len(evaluated(data, run)), run.evaluation.split
    if images < 2:
        raise UserError(f"evaluation.split {split}: {data.name} has {images} images in it, must have two or more")


def evaluated(data: DataSet, run: Run) -> ImageSet:
    """The images that ``run`` is measured on."""
    return data.test if run.evaluation.split == "test" else data.tune


def place(run: Run, features: str) -> dict[str, ProtocolValue]:
    """The end of every protocol: what was looked at, on which images, and when."""
    return {"features": features, "split": run.evaluation.split, "epoch": run.epochs}


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """One network's probes. ``features`` says what they see, in every protocol: backbone or pixels."""

    extractor: Extractor
    run: Run
    features: str
    encoder: Encoder | None = None

    def metrics(self) -> Iterator[Metric]:
        """Of all probes of the run; of the embedding where there is an encoder."""
        own = {"linear": self._linear, "embedding": self._embedding}
        for probe in self.run.evaluation.probes:
            yield from own[probe]() if probe in own else getattr(self._frozen, probe)()

    @cached_property
    def _frozen(self) -> FrozenProbes:
        data = self.extractor.data
        return FrozenProbes(self._bank, self._queries, self.run.evaluation, data.classes, self._place())

    @cached_property
    def _bank(self) -> Features:
        return self.extractor.features(self.extractor.data.labelled)

    @cached_property
    def _queries(self) -> Features:
        return self.extractor.features(evaluated(self.extractor.data, self.run))

    def _place(self, features: str | None = None) -> dict[str, ProtocolValue]:
        return place(self.run, features or self.features)

    def _linear(self) -> Iterator[Metric]:
        spec, data = self.run.evaluation, self.extractor.data
        batch_size = min(spec.batch_size, len(data.labelled))
        schedule = linear.Schedule(spec.linear_epochs, spec.linear_lr, spec.linear_weight_decay, batch_size)
        epochs = (
            linear.crops(self.extractor, data.labelled, batch_size)
            if spec.linear_crops
            else linear.cached(self._bank, batch_size)
        )
        head = linear.initial_head(self._queries.x.shape[1], data.classes, self.extractor.device)
        linear.train(epochs, schedule, head)
        protocol = {**schedule.protocol(), "crops": "random" if spec.linear_crops else "none", **self._place()}
        for k in (1, 5) if data.classes >= TOP5_CLASSES else (1,):
            yield Metric(metric=f"linear_top{k}", protocol=protocol, value=linear.top(head, self._queries, k))

    def _embedding(self) -> Iterator[Metric]:
        """Of what the loss sees: few labels on it, where few labels are asked for, and its geometry."""
        if self.encoder is None:
            return
        if "fewshot" in self.run.evaluation.probes:
            bank, queries = (self._embedded(features, self.encoder) for features in (self._bank, self._queries))
            seen = replace(self._frozen, bank=bank, queries=queries, place=self._place("embedding"))
            yield from seen.fewshot()
        yield from self._geometry(self.encoder)

    def _embedded(self, features: Features, encoder: Encoder) -> Features:
        return replace(features, x=self._projected(features.x, encoder))

    def _projected(self, features_ND: Tensor, encoder: Encoder) -> Tensor:
        return torch.cat([encoder.projector(part) for part in features_ND.split(self.extractor.batch_size)]).float()

    def _geometry(self, encoder: Encoder) -> Iterator[Metric]:
        images = evaluated(self.extractor.data, self.run)
        rows = _evenly_spaced(len(images), GEOMETRY_IMAGES)
        features_ND = self._queries.x[torch.from_numpy(rows).to(self.extractor.device)]
        z_ND = self._projected(features_ND, encoder)
        aligned = geometry.alignment(self._pairs(encoder, images.subset(rows)))
        place = {"images": len(rows), **self._place("embedding")}
        protocol = {"augmentation": self.run.augmentation, **place}
        yield Metric(metric="alignment", protocol=protocol, value=aligned, unit="squared distance")
        protocol = {"t": geometry.UNIFORMITY_T, **place}
        yield Metric(metric="uniformity", protocol=protocol, value=geometry.uniformity(z_ND), unit="nats")
        for features, x_ND in (("embedding", z_ND), (self.features, features_ND)):
            protocol = {"epsilon": geometry.RANKME_EPSILON, **place, "features": features}
            yield Metric(metric="rankme", protocol=protocol, value=geometry.rankme(x_ND), unit="dimensions")

    def _pairs(self, encoder: Encoder, images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings of the first two views of ``images``, in even batches, so that hardly an image is dropped."""
        batches = -(-len(images) // self.extractor.batch_size)
        loader = self.extractor.views(images, recipe(self.run.augmentation), len(images) // batches)
        for first, second, *_ in loader.epoch(0):
            yield encoder(first)[1].float(), encoder(second)[1].float()


def _evenly_spaced(size: int, most: int) -> NDArray[np.int64]:
    """All of ``size`` indices, or ``most`` of them: images in files are sorted by class."""
    return np.linspace(0, size - 1, min(size, most)).round().astype(np.int64)
