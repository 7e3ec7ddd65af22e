"""Features of a frozen network, extracted once and shared by the probes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.data import DataSet, ImageSet
from benchmark.runtime.seeds import key
from benchmark.views import Recipe
from benchmark.views.loader import ViewLoader, plain_batches

_VIEWS_SEED = key("evaluation")


@dataclass(frozen=True, eq=False)
class Features:
    """``x`` (N, D) float32 and ``labels`` (N,) int64, on one device."""

    x: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, ``module`` is in evaluation mode and nothing records gradients; afterwards its mode is what it was."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


@dataclass(frozen=True, eq=False)
class Extractor:
    """A frozen network with one output (N, D), and how a data set's images are put before it."""

    network: nn.Module
    data: DataSet
    batch_size: int
    device: torch.device
    workers: int = 0

    def features(self, images: ImageSet) -> Features:
        """Of all images in order, by the evaluation transform."""
        batches = plain_batches(
            images,
            batch_size=self.batch_size,
            image_size=self.data.image_size,
            mean=self.data.mean,
            std=self.data.std,
            device=self.device,
            workers=self.workers,
        )
        parts = [(self.network(x_NCHW).float(), labels_N) for x_NCHW, labels_N in batches]
        return Features(torch.cat([x_ND for x_ND, _ in parts]), torch.cat([labels_N for _, labels_N in parts]))

    def views(self, images: ImageSet, recipe: Recipe, batch_size: int) -> ViewLoader:
        """Augmented views of ``images``, the same for every run; the last, smaller batch is dropped."""
        return ViewLoader(
            images,
            recipe,
            batch_size=batch_size,
            image_size=self.data.image_size,
            mean=self.data.mean,
            std=self.data.std,
            seed=_VIEWS_SEED,
            workers=self.workers,
            device=self.device,
        )


def accuracy(predicted_N: Tensor, labels_N: Tensor) -> float:
    """The fraction of predictions that are right."""
    return int((predicted_N == labels_N).sum()) / len(labels_N)
