"""Batches of views for pretraining, and plain batches for evaluation.

Every draw is keyed by what it is for, (seed, epoch, image, view), so that neither the number of loading processes, nor
of ranks, nor a restart in mid-epoch changes a view.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmark.data import ImageSet
from benchmark.runtime.errors import UserError
from benchmark.runtime.seeds import generator
from benchmark.views import Recipe, batched
from benchmark.views.batched import central_crop
from benchmark.views.recipes import Interpolation


@dataclass(frozen=True)
class Batch:
    """V views (n, C, side, side) on the device, float32 and normalised; on the CPU labels (n,) and images' numbers."""

    views: tuple[Tensor, ...]
    labels: Tensor
    indices: Tensor


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
        self._labels = torch.from_numpy(images.labels)
        self._images, self._recipe, self._image_size, self._seed = len(images), recipe, image_size, seed
        self._rank, self._world_size = rank, world_size
        device = torch.device(device)
        self._normalise = _Normalise(mean, std, device)
        self._sides = recipe.sides(image_size)
        self._nothing = self._room(0)
        self._pixels = None if images.pixels is None else images.pixels.to(device)
        if images.pixels is None:
            # Here, since importing torchvision takes seconds: images in memory do without.
            from benchmark.views.per_image import random_views, transform

            transforms = [transform(view, image_size) for view in recipe.views]
            self._decoder = _Decoder(partial(random_views, images, transforms, seed), workers, device)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.sizes)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The steps of an epoch from ``first_step`` on."""
        order = list(enumerate(self._order(epoch)))[first_step:]
        schedule = [(step, batch_N, self._rows(len(batch_N))) for step, batch_N in order]
        # A batch may be smaller than the number of ranks: some have none of it.
        mine = [entry for entry in schedule if entry[2].start < entry[2].stop]
        made = self._from_files(epoch, mine) if self._pixels is None else self._in_memory(self._pixels, epoch, mine)
        for _, batch_N, rows in schedule:
            views, own_n = next(made) if rows.start < rows.stop else self._nothing, batch_N[rows]
            yield Batch(views, self._labels[own_n], own_n)

    def _order(self, epoch: int) -> tuple[Tensor, ...]:
        order = torch.randperm(self._images, generator=generator(self._seed, "order", epoch))
        return order[: sum(self.sizes)].split(self.sizes)

    def _rows(self, size: int) -> slice:
        return slice(self._rank * size // self._world_size, (self._rank + 1) * size // self._world_size)

    def _in_memory(self, pixels: Tensor, epoch: int, schedule: Schedule) -> Iterator[tuple[Tensor, ...]]:
        """Whole batches at once, where the pixels lie."""
        for _, batch_N, rows in schedule:
            height, width = pixels.shape[-2:]
            images_n, views = batch_N[rows].numpy(), self._room(len(batch_N[rows]))
            todo = [
                batched.steps(view, images_n, self._image_size, (self._seed, "view", epoch, number), (height, width))
                for number, view in enumerate(self._recipe.views)
            ]
            for part in batched.parts(len(images_n), views[0]):
                (numbers_n,) = batched.sent([images_n[part]], pixels.device)
                x_NCHW, places = pixels[numbers_n], iter(views)
                for made in (made for steps in todo for made in batched.views(steps, x_NCHW, part)):
                    self._normalise(made, next(places)[part])
            yield views

    def _room(self, count: int) -> tuple[Tensor, ...]:
        """Views of so many images, not yet made."""
        channels, device = self._normalise.channels, self._normalise.device
        return tuple(torch.empty(count, channels, side, side, device=device) for side in self._sides)

    def _from_files(self, epoch: int, schedule: Schedule) -> Iterator[tuple[Tensor, ...]]:
        """Image by image in the loading processes, which send bytes."""
        places = ([(epoch, index) for index in batch_N[rows].tolist()] for _, batch_N, rows in schedule)
        for sent in self._decoder.batches(places):
            yield tuple(self._normalise(view_NCHW.float().div_(255)) for view_NCHW in sent)


def check_batch(batch_size: int, images: int, world_size: int) -> None:
    """Raise :class:`UserError` where an epoch would hold no whole batch, or a batch does not divide over the ranks."""
    if batch_size > images:
        raise UserError(f"batch_size is {batch_size}, must be at most the number of training images, which is {images}")
    if batch_size % world_size:
        raise UserError(f"batch_size is {batch_size}, must be a multiple of the number of processes, {world_size}")


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
        decoder = _Decoder(partial(_plain_image, images, image_size, interpolation), workers, device)
        made = (x_NCHW for (x_NCHW,) in decoder.batches(numbers_N.tolist() for numbers_N in batches))
    else:
        made = (central_crop(pixels[numbers_N].to(device), image_size, interpolation) for numbers_N in batches)
    for x_NCHW in made:
        yield normalise(x_NCHW.float().div_(255))


class _Normalise:
    """(x - mean) / std by channel, into ``out`` where it is given. Grey becomes colour before a network for that."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.channels, self.device = len(mean), device
        self._mean = torch.tensor(mean, device=device).view(-1, 1, 1)
        self._std = torch.tensor(std, device=device).view(-1, 1, 1)

    def __call__(self, x_NCHW: Tensor, out: Tensor | None = None) -> Tensor:
        channels = x_NCHW.shape[1]
        if channels not in (1, self.channels):
            raise UserError(f"the images have {channels} channels, the network takes images of {self.channels}")
        return torch.sub(x_NCHW, self._mean, out=out).div_(self._std)


def _plain_image(images: ImageSet, image_size: int, interpolation: Interpolation, index: int) -> tuple[Tensor]:
    return (central_crop(images.image(index), image_size, interpolation),)


class _Decoder:
    """Batches of what ``read`` makes of an image in a file, in ``workers`` processes (none: in this one).

    These are kept from pass to pass: a new loader would start them again.
    """

    def __init__(self, read: Callable[[Any], Sequence[Tensor]], workers: int, device: torch.device) -> None:
        self._device = device
        self._schedule = _Schedule()
        self._loader = DataLoader(
            _Batches(read),
            batch_size=None,  # the schedule's items are batches already
            sampler=self._schedule,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            # The loader draws a seed for its processes, which use none: it must not come from the global generator.
            generator=torch.Generator(),
        )

    def batches(self, schedule: Iterable[list[Any]]) -> Iterator[list[Tensor]]:
        """One list of uint8 tensors (n, C, H, W) on the device for every batch of ``schedule``.

        Raises the :class:`UserError` of the first image that cannot be read.
        """
        self._schedule.batches = schedule
        for made in self._loader:
            if isinstance(made, UserError):
                # A new one: this frame would keep `made`, and `made` this frame with its processes.
                raise UserError(str(made))
            yield [tensor.to(self._device, non_blocking=True) for tensor in made]


@dataclass
class _Schedule:
    """What a loader is to make, given anew for every pass."""

    batches: Iterable[list[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)


@dataclass(frozen=True)
class _Batches(Dataset):
    """Hands a :class:`UserError` over as a value: raised in a loading process, it would arrive as a traceback."""

    read: Callable[[Any], Sequence[Tensor]]

    def __getitem__(self, places: list[Any]) -> list[Tensor] | UserError:
        try:
            return default_collate([self.read(place) for place in places])
        except UserError as error:
            return error
