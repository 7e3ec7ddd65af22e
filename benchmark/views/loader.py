"""Batches of views for pretraining, and plain batches for evaluation.

Every draw is keyed by what it is for, so that neither the number of loading processes, nor of ranks, nor a restart in
mid-epoch changes a view: images in memory by (seed, epoch, step, view) over the global batch, images in files by
(seed, epoch, image, view).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmark.data import ImageSet
from benchmark.runtime.errors import UserError
from benchmark.runtime.seeds import generator
from benchmark.views import Recipe, batched
from benchmark.views.files import Decoder, PlainImages, RandomViews
from benchmark.views.pixel_ops import Interpolation, central_crop

Views = tuple[Tensor, ...]
# Of every step: its number in the epoch, the global batch's images, and this rank's rows of it.
Schedule = Sequence[tuple[int, Tensor, slice]]


class ViewLoader:
    """This rank's part of every batch of views.

    The images of an epoch are one permutation by (seed, epoch); a last, smaller batch is dropped, or kept where
    ``drop_last`` is false. Of W ranks, rank r holds rows r·n/W to (r+1)·n/W of a global batch of n. Images in memory
    are augmented as batches on ``device``; images in files by ``workers`` processes that live as long as the loader.
    Raises :class:`UserError` where smaller batches are dropped and no batch would be left, or a whole one does not
    divide over the ranks.
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
        drop_last: bool = True,
    ) -> None:
        if drop_last:
            check_batch(batch_size, len(images), world_size)
        whole, rest = divmod(len(images), batch_size)
        self.sizes = [batch_size] * whole + ([rest] if rest and not drop_last else [])
        self._images, self._seed, self._rank, self._world_size = len(images), seed, rank, world_size
        device = torch.device(device)
        self._normalise = _Normalise(mean, std, device)
        self._nothing = tuple(torch.empty(0, len(mean), image_size, image_size, device=device) for _ in recipe.views)
        self._views: Callable[[int, Schedule], Iterator[Sequence[Tensor]]]
        if images.pixels is None:
            decoder = Decoder(RandomViews(images, recipe, image_size, seed), workers, device)
            self._views = partial(_views_from_files, decoder)
        else:
            self._views = partial(_views_in_memory, images.pixels.to(device), recipe, image_size, seed)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.sizes)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Views]:
        """The steps of an epoch from ``first_step`` on: a tuple of V views (n, C, H, W), float32, normalised."""
        order = list(enumerate(self._order(epoch)))[first_step:]
        schedule = [(step, batch_N, self._rows(len(batch_N))) for step, batch_N in order]
        # A batch may be smaller than the number of ranks: some have none of it.
        filled = [rows.start < rows.stop for _, _, rows in schedule]
        made = self._views(epoch, [entry for entry, mine in zip(schedule, filled, strict=True) if mine])
        for mine in filled:
            yield tuple(self._normalise(view_NCHW) for view_NCHW in next(made)) if mine else self._nothing

    def indices(self, epoch: int) -> list[Tensor]:
        """Which images this rank's views of an epoch are of: (n,) a step, on the CPU."""
        return [batch_N[self._rows(len(batch_N))] for batch_N in self._order(epoch)]

    def _order(self, epoch: int) -> tuple[Tensor, ...]:
        order = torch.randperm(self._images, generator=generator(self._seed, "order", epoch))
        return order[: sum(self.sizes)].split(self.sizes)

    def _rows(self, size: int) -> slice:
        return slice(self._rank * size // self._world_size, (self._rank + 1) * size // self._world_size)


def check_batch(batch_size: int, images: int, world_size: int) -> None:
    """Raise :class:`UserError` where an epoch would hold no whole batch, or a batch does not divide over the ranks."""
    if batch_size > images:
        raise UserError(f"batch_size is {batch_size}, must be at most the number of training images, which is {images}")
    if batch_size % world_size:
        raise UserError(f"batch_size is {batch_size}, must be a multiple of the number of processes, {world_size}")


def _views_in_memory(
    pixels: Tensor, recipe: Recipe, image_size: int, seed: int, epoch: int, schedule: Schedule
) -> Iterator[Views]:
    """Whole batches at once, where the pixels lie; float views in [0, 1]."""
    for step, batch_N, rows in schedule:
        x_NCHW = pixels[batch_N[rows].to(pixels.device, non_blocking=True)]
        views = []
        for view, operations in enumerate(recipe.views):
            draws = batched.Draws(generator(seed, "view", epoch, step, view), len(batch_N), rows)
            views.append(batched.view(operations, x_NCHW, image_size, draws))
        yield tuple(views)


def _views_from_files(decoder: Decoder, epoch: int, schedule: Schedule) -> Iterator[Sequence[Tensor]]:
    """Image by image in the loading processes, which send bytes; float views in [0, 1]."""
    places = ([(epoch, index) for index in batch_N[rows].tolist()] for _, batch_N, rows in schedule)
    for views in decoder.batches(places):
        yield [view_NCHW.float().div_(255) for view_NCHW in views]


class _Normalise:
    """(x - mean) / std by channel, in place. Grey images become colour before a network for that."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).view(-1, 1, 1)
        self._std = torch.tensor(std, device=device).view(-1, 1, 1)

    def __call__(self, x_NCHW: Tensor) -> Tensor:
        images, wanted = x_NCHW.shape[1], len(self._mean)
        if images not in (1, wanted):
            raise UserError(f"the images have {images} channels, the network takes images of {wanted}")
        if images < wanted:
            x_NCHW = x_NCHW.expand(-1, wanted, -1, -1).clone()
        return x_NCHW.sub_(self._mean).div_(self._std)


def plain_batches(
    images: ImageSet,
    batches: Sequence[Tensor],
    *,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: Interpolation = "bicubic",
    device: torch.device | str = "cpu",
    workers: int = 0,
) -> Iterator[Tensor]:
    """Images by their numbers, a tensor of them a batch, as probes see them: float32 (n, C, H, W), normalised.

    Where an image is not of the view's size, its shorter side becomes 256/224 of it, and the central square is cut out.
    """
    device, pixels = torch.device(device), images.pixels
    normalise = _Normalise(mean, std, device)
    made: Iterable[Tensor]
    if pixels is None:
        decoder = Decoder(PlainImages(images, image_size, interpolation), workers, device)
        made = (x_NCHW for (x_NCHW,) in decoder.batches(numbers_N.tolist() for numbers_N in batches))
    else:
        made = (central_crop(pixels[numbers_N].to(device), image_size, interpolation) for numbers_N in batches)
    for x_NCHW in made:
        yield normalise(x_NCHW.float().div_(255))
