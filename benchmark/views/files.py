"""Images in files to batches of bytes, in loading processes that are kept from epoch to epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmark.data import ImageSet
from benchmark.runtime.errors import UserError
from benchmark.runtime.seeds import fork_rng
from benchmark.views import Recipe
from benchmark.views.pixel_ops import Interpolation, central_crop


class RandomViews(Dataset):
    """(epoch, image) to its views, uint8 (C, H, W) each, drawn by (seed, epoch, image, view)."""

    def __init__(self, images: ImageSet, recipe: Recipe, image_size: int, seed: int) -> None:
        # Here, since importing torchvision takes seconds: images in memory do without.
        from benchmark.views.per_image import transform

        self._images, self._seed = images, seed
        self._transforms = [transform(operations, image_size) for operations in recipe.views]

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, ...]:
        epoch, index = place
        image_CHW, views = self._images.image(index), []
        for view, transform in enumerate(self._transforms):
            with fork_rng(self._seed, "view", epoch, index, view):
                views.append(transform(image_CHW))
        return tuple(views)


@dataclass(frozen=True)
class PlainImages(Dataset):
    """An image's number to its central crop, uint8 (C, H, W), as a tuple of one."""

    images: ImageSet
    image_size: int
    interpolation: Interpolation

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return (central_crop(self.images.image(index), self.image_size, self.interpolation),)


class Decoder:
    """Batches of what ``images`` gives, made by ``workers`` processes (none: by this one)."""

    def __init__(self, images: Dataset, workers: int, device: torch.device) -> None:
        self._device = device
        self._schedule = _Schedule()
        self._loader = DataLoader(
            _Guarded(images),
            batch_sampler=self._schedule,
            collate_fn=_collate,
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
    """What a loader is to make, given anew for every pass: a new loader would start its processes again."""

    batches: Iterable[list[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)


@dataclass(frozen=True)
class _Guarded(Dataset):
    """Hands a :class:`UserError` over as a value: raised in a loading process, it would arrive as a traceback."""

    images: Dataset

    def __getitem__(self, place: Any) -> tuple[Tensor, ...] | UserError:
        try:
            return self.images[place]
        except UserError as error:
            return error


def _collate(made: list[tuple[Tensor, ...] | UserError]) -> list[Tensor] | UserError:
    for image in made:
        if isinstance(image, UserError):
            return image
    return default_collate(made)
