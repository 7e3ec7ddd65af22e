"""Batches of views for pretraining, and plain batches for evaluation.

Every draw is keyed by what it is for, so that neither the number of loading processes, nor of ranks, nor a restart in
mid-epoch changes a view: images in memory by (seed, epoch, step, view) over the global batch, images in files by
(seed, epoch, image, view).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmark.data import ImageSet
from benchmark.runtime.errors import UserError
from benchmark.runtime.seeds import generator
from benchmark.views import Recipe
from benchmark.views import batched as batch
from benchmark.views.centre import central_crop
from benchmark.views.files import Decoder, PlainImages, RandomViews

Views = tuple[Tensor, ...]


class ViewLoader:
    """This rank's part of every batch of views.

    The images of an epoch are one permutation by (seed, epoch); the last, smaller batch is dropped. Of W ranks, rank r
    holds rows r·n to (r+1)·n of the global batch, n = batch_size / W. Images in memory are augmented as batches on
    ``device``; images in files by ``workers`` processes that live as long as the loader. Raises :class:`UserError`
    where an epoch would hold no batch, or a batch does not divide over the ranks.
    """

    def __init__(
        self,
        images: ImageSet,
        recipe: Recipe,
        *,
        batch_size: int,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        workers: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_batch(batch_size, len(images), world_size)
        self.steps_per_epoch = len(images) // batch_size
        self._images, self._batch_size, self._seed = len(images), batch_size, seed
        local = batch_size // world_size
        self._rows = slice(rank * local, (rank + 1) * local)
        device = torch.device(device)
        self._normalise = _Normalise(mean, std, device)
        self._maker: _ViewsInMemory | _ViewsFromFiles = (
            _ViewsFromFiles(images, recipe, image_size, seed, workers, device)
            if images.pixels is None
            else _ViewsInMemory(images.pixels.to(device), recipe, image_size, seed, batch_size, self._rows)
        )

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Views]:
        """The steps of an epoch from ``first_step`` on: a tuple of V views (n, C, H, W), float32, normalised."""
        indices_SN = self.indices(epoch)[first_step:]
        for views in self._maker.views(epoch, first_step, indices_SN):
            yield tuple(self._normalise(view_NCHW) for view_NCHW in views)

    def indices(self, epoch: int) -> Tensor:
        """Which images the views of an epoch are of: (steps, n) on the CPU."""
        order = torch.randperm(self._images, generator=generator(self._seed, "order", epoch))
        return order[: self.steps_per_epoch * self._batch_size].view(-1, self._batch_size)[:, self._rows]


def check_batch(batch_size: int, images: int, world_size: int) -> None:
    """Raise :class:`UserError` where an epoch would hold no whole batch, or a batch does not divide over the ranks."""
    if batch_size > images:
        raise UserError(f"batch_size is {batch_size}, must be at most the number of training images, which is {images}")
    if batch_size % world_size:
        raise UserError(f"batch_size is {batch_size}, must be a multiple of the number of processes, {world_size}")


class _ViewsInMemory:
    """Whole batches at once, where the pixels lie; float views in [0, 1]."""

    def __init__(
        self, pixels: Tensor, recipe: Recipe, image_size: int, seed: int, batch_size: int, rows: slice
    ) -> None:
        self._pixels, self._recipe, self._image_size = pixels, recipe, image_size
        self._seed, self._batch_size, self._rows = seed, batch_size, rows

    def views(self, epoch: int, first_step: int, indices_SN: Tensor) -> Iterator[Views]:
        for step, indices_N in enumerate(indices_SN, start=first_step):
            x_NCHW = self._pixels[indices_N.to(self._pixels.device, non_blocking=True)]
            yield tuple(
                batch.view(operations, x_NCHW, self._image_size, self._draws(epoch, step, view))
                for view, operations in enumerate(self._recipe.views)
            )

    def _draws(self, epoch: int, step: int, view: int) -> batch.Draws:
        return batch.Draws(generator(self._seed, "view", epoch, step, view), self._batch_size, self._rows)


class _ViewsFromFiles:
    """Image by image in the loading processes, which send bytes; float views in [0, 1]."""

    def __init__(
        self, images: ImageSet, recipe: Recipe, image_size: int, seed: int, workers: int, device: torch.device
    ) -> None:
        self._decoder = Decoder(RandomViews(images, recipe, image_size, seed), workers, device)

    def views(self, epoch: int, first_step: int, indices_SN: Tensor) -> Iterator[Sequence[Tensor]]:
        schedule = ([(epoch, index) for index in indices_N.tolist()] for indices_N in indices_SN)
        for views in self._decoder.batches(schedule):
            yield [view_NCHW.float().div_(255) for view_NCHW in views]


class _Normalise:
    """(x - mean) / std by channel, in place."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).view(-1, 1, 1)
        self._std = torch.tensor(std, device=device).view(-1, 1, 1)

    def __call__(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW.sub_(self._mean).div_(self._std)


def plain_batches(
    images: ImageSet,
    *,
    batch_size: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
    workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, as evaluation sees them: float32 (n, C, H, W), normalised, and labels (n,), on ``device``.

    Where an image is not of the view's size, its shorter side becomes 256/224 of it, and the central square is cut out.
    The last batch may be smaller.
    """
    device = torch.device(device)
    normalise = _Normalise(mean, std, device)
    labels = torch.from_numpy(images.labels).to(device)
    chunks = list(torch.arange(len(images)).split(batch_size))
    for indices_N, x_NCHW in zip(chunks, _plain_bytes(images, chunks, image_size, device, workers), strict=True):
        yield normalise(x_NCHW.float().div_(255)), labels[indices_N[0] : indices_N[-1] + 1]


def _plain_bytes(
    images: ImageSet, chunks: list[Tensor], image_size: int, device: torch.device, workers: int
) -> Iterator[Tensor]:
    if images.pixels is None:
        schedule = (indices_N.tolist() for indices_N in chunks)
        for (x_NCHW,) in Decoder(PlainImages(images, image_size), workers, device).batches(schedule):
            yield x_NCHW
    else:
        for indices_N in chunks:
            yield central_crop(images.pixels[indices_N[0] : indices_N[-1] + 1].to(device), image_size)
