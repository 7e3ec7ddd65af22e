"""Batches of views for pretraining, and plain batches for evaluation.

Every draw is keyed by what it is for, (seed, epoch, image, view), so that neither the number of loading processes, nor
of ranks, nor a restart in mid-epoch changes a view.
"""

import gc
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmark.data import ImageSet, Input
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import generator
from benchmark.views import Recipe, batched
from benchmark.views.batched import central_crop
from benchmark.views.draws import view_key
from benchmark.views.recipes import Interpolation

AHEAD = 2  # batches that loading processes may be ahead: it bounds their memory


@dataclass(frozen=True)
class Batch:
    """V views (n, C, side, side) on the device, float32 and normalised; on the CPU labels (n,) and images' numbers."""

    views: tuple[Tensor, ...]
    labels: Tensor
    indices: Tensor


class ViewLoader:
    """This process's part of every batch of views, made as ``input`` says.

    The images of an epoch are one permutation by (seed, epoch); a last, smaller batch is dropped, or only
    where it has fewer than ``smallest`` images. Of W ranks, rank r holds rows r·n/W to (r+1)·n/W of a global batch of
    n. Images in files are decoded, cropped and flipped by ``workers`` processes, which go on from epoch to epoch and
    send bytes; all the rest is done to batches on the process's device, and everything there to images in memory.
    Raises :class:`UserError` where smaller batches are dropped and no batch would be left, or a whole one does not
    divide over the ranks.
    """

    def __init__(
        self,
        images: ImageSet,
        recipe: Recipe,
        input: Input,
        process: Process,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        smallest: int | None = None,
    ) -> None:
        if smallest is None:
            check_batch(batch_size, len(images), process.world_size)
        whole, rest = divmod(len(images), batch_size)
        self.sizes = [batch_size] * whole + ([rest] if rest >= (smallest or batch_size) else [])
        self._labels = torch.from_numpy(images.labels)
        self._recipe, self._image_size, self._seed = recipe, input.image_size, seed
        self._schedule = _Schedule(len(images), tuple(self.sizes), seed, process.rank, process.world_size)
        self._normalise = _Normalise(input, process.device)
        self._pixels = None if images.pixels is None else images.pixels.to(process.device)
        if images.pixels is None:
            # Here, since importing torchvision takes seconds: images in memory do without.
            from benchmark.views.files import random_crops

            crops = partial(random_crops, images, recipe, input.image_size, seed)
            self._workers = Workers(crops, workers, process.device)
            self._bytes = self._workers.batches(iter(()))
            self._next: tuple[int, int] | None = None  # epoch and step that these bytes go on with

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.sizes)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The steps of an epoch from ``first_step`` on."""
        for step, own_n in enumerate(self._schedule.steps(epoch)[first_step:], first_step):
            # A batch may be smaller than the number of ranks: some have none of it.
            made = self._from_files if self._pixels is None else self._in_memory
            views = made(epoch, step, own_n) if len(own_n) else self._room(0)
            yield Batch(views, self._labels[own_n], own_n)

    def _in_memory(self, epoch: int, step: int, own_n: Tensor) -> tuple[Tensor, ...]:
        assert self._pixels is not None
        (numbers_n,) = batched.sent([own_n.numpy()], self._pixels.device)
        x_NCHW = self._pixels[numbers_n]
        height, width = x_NCHW.shape[-2:]
        return self._finished([x_NCHW] * len(self._recipe.views), epoch, own_n, (height, width))

    def _from_files(self, epoch: int, step: int, own_n: Tensor) -> tuple[Tensor, ...]:
        """Of images that loading processes crop, in one stream over all epochs unless another step is asked for."""
        if self._next != (epoch, step):
            self._bytes = self._workers.batches(self._schedule.work(epoch, step))
        self._next = None
        views = self._finished(next(self._bytes), epoch, own_n)
        after = divmod(step + 1, self.steps_per_epoch)
        self._next = epoch + after[0], after[1]
        return views

    def _room(self, count: int) -> tuple[Tensor, ...]:
        """Views of so many images, not yet made."""
        channels, device = self._normalise.channels, self._normalise.device
        return tuple(
            torch.empty(count, channels, side, side, device=device) for side in self._recipe.sides(self._image_size)
        )

    def _finished(
        self, raw: Sequence[Tensor], epoch: int, own_n: Tensor, shape: tuple[int, int] | None = None
    ) -> tuple[Tensor, ...]:
        """Of the bytes (n, C, H, W) for each of the recipe's views; with their ``shape`` where they are not cropped."""
        views, images_n = self._room(len(own_n)), own_n.numpy()
        places = iter(views)
        for number, (view, x_NCHW) in enumerate(zip(self._recipe.views, raw, strict=True)):
            todo = batched.steps(view, images_n, self._image_size, view_key(self._seed, epoch, number), shape)
            batched.views([*todo, batched.Step(self._normalise)], x_NCHW, list(islice(places, view.count)))
        return views


@dataclass(frozen=True)
class _Schedule:
    """Which of the images are a rank's, in every step."""

    images: int
    sizes: tuple[int, ...]
    seed: int
    rank: int
    world_size: int

    def steps(self, epoch: int) -> list[Tensor]:
        """The numbers of this rank's images in every step."""
        order = torch.randperm(self.images, generator=generator(self.seed, "order", epoch))
        batches = order[: sum(self.sizes)].split(self.sizes)
        return [batch_N[share(len(batch_N), self.rank, self.world_size)] for batch_N in batches]

    def work(self, epoch: int, first_step: int) -> Iterator[list[tuple[int, int]]]:
        """Without end: (epoch, image) of all of a step's images, from this step on."""
        for number in count(epoch):
            for own_n in self.steps(number)[first_step if number == epoch else 0 :]:
                if len(own_n):
                    yield [(number, index) for index in own_n.tolist()]


def share(size: int, part: int, parts: int) -> slice:
    """Which of ``size`` images are in a part of several as even as can be."""
    return slice(part * size // parts, (part + 1) * size // parts)


def check_batch(batch_size: int, images: int, world_size: int) -> None:
    """Raise :class:`UserError` where an epoch would hold no whole batch, or a batch does not divide over the ranks."""
    if batch_size > images:
        raise UserError(f"batch_size is {batch_size}, must be at most the number of training images, which is {images}")
    if batch_size % world_size:
        raise UserError(f"batch_size is {batch_size}, must be a multiple of the number of processes, {world_size}")


def plain_batches(
    images: ImageSet,
    batches: Sequence[Tensor],
    input: Input,
    device: torch.device,
    *,
    interpolation: Interpolation = "bicubic",
    workers: int = 0,
) -> Iterator[Tensor]:
    """Images by their numbers, a tensor of them a batch, as probes see them: float32 (n, C, H, W), normalised.

    Where an image is not of the view's size, its shorter side becomes 256/224 of it, and the central square is cut out.
    """
    pixels, size, normalise = images.pixels, input.image_size, _Normalise(input, device)
    made: Iterable[Tensor]
    if pixels is None:
        from benchmark.views.files import central_crops

        crops = Workers(partial(central_crops, images, size, interpolation), workers, device)
        made = (x_NCHW for (x_NCHW,) in crops.batches(numbers_N.tolist() for numbers_N in batches))
    else:
        made = (central_crop(pixels[numbers_N].to(device), size, interpolation) for numbers_N in batches)
    for x_NCHW in made:
        yield normalise(x_NCHW.float().div_(255))


class _Normalise:
    """(x - mean) / std by channel. Grey becomes colour before a network for that."""

    def __init__(self, input: Input, device: torch.device) -> None:
        self.channels, self.device = len(input.mean), device
        self._mean, self._std = (torch.tensor(one, device=device).view(-1, 1, 1) for one in (input.mean, input.std))

    def __call__(self, x_NCHW: Tensor) -> Tensor:
        channels = x_NCHW.shape[-3]
        if channels not in (1, self.channels):
            raise UserError(f"the images have {channels} channels, the network takes images of {self.channels}")
        return (x_NCHW - self._mean).div_(self._std)


class Workers:
    """What ``work`` makes of a batch's images, in ``workers`` processes (none: in this one), a share of them in each.

    The processes live as long as this does, and are :data:`AHEAD` batches ahead at most.
    """

    def __init__(self, work: Callable[[Any], Sequence[Tensor]], workers: int, device: torch.device) -> None:
        self._device, self._shares = device, max(1, workers)
        self._todo = _Todo()
        self._loader = DataLoader(
            _Work(work),
            batch_size=None,  # what is to be done are shares of batches already
            sampler=self._todo,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,  # shares a process
            persistent_workers=workers > 0,
            worker_init_fn=_leave_inherited,
            # A fork has the images' paths without a copy, and the handlers of signals that its parent has.
            multiprocessing_context="fork" if workers else None,
            pin_memory=device.type == "cuda",
            # The loader draws a seed for its processes, which use none: it must not come from the global generator.
            generator=torch.Generator(),
        )
        # Of a loader in a cycle a collection ends the queues first, then waits five seconds for each process that hears
        # nothing of its end. Kept from here it is not in a cycle with this, and is let go after it.
        weakref.finalize(self, lambda loader: None, self._loader)

    def batches(self, batches: Iterable[list[Any]]) -> Iterator[list[Tensor]]:
        """A list of uint8 tensors (n, C, H, W) on the device for each of ``batches``; ends what was begun before.

        Raises the :class:`UserError` of the first image that cannot be read.
        """
        sizes: deque[list[int]] = deque()
        parts = self._shares  # the loader, which keeps what is to be done, must not keep this

        def todo() -> Iterator[list[Any]]:
            for batch in batches:
                rows = [share(len(batch), part, parts) for part in range(parts)]
                shares = [batch[row] for row in rows if row.start < row.stop]
                sizes.append([len(some) for some in shares])
                yield from shares

        self._todo.shares = todo
        made = iter(self._loader)
        while True:
            first = next(made, None)
            if first is None:
                return
            sized = sizes.popleft()
            yield self._together([first, *(next(made) for _ in sized[1:])], sum(sized))

    def _together(self, shares: Sequence[Any], size: int) -> list[Tensor]:
        for made in shares:
            if isinstance(made, UserError):
                # A new one: this frame would keep `made`, and `made` this frame with its processes.
                raise UserError(str(made))
        if len(shares) == 1 and self._device.type == "cpu":
            return list(shares[0])
        whole = [torch.empty(size, *some.shape[1:], dtype=torch.uint8, device=self._device) for some in shares[0]]
        start = 0
        for made in shares:
            for place, some in zip(whole, made, strict=True):
                place[start : start + len(some)].copy_(some, non_blocking=True)
            start += len(made[0])
        return whole


def _leave_inherited(worker: int) -> None:
    """A fork inherits what its parent has let go and not collected, as an earlier loader: that is not its to end."""
    gc.freeze()


class _Todo:
    """What a loader's processes are to do, given anew for every pass."""

    def __init__(self) -> None:
        self.shares: Callable[[], Iterator[list[Any]]] = lambda: iter(())

    def __iter__(self) -> Iterator[list[Any]]:
        return self.shares()


@dataclass(frozen=True)
class _Work(Dataset):
    """Hands a :class:`UserError` over as a value: raised in a loading process, it would arrive as a traceback."""

    work: Callable[[Any], Sequence[Tensor]]

    def __getitem__(self, share: list[Any]) -> Sequence[Tensor] | UserError:
        try:
            return self.work(share)
        except UserError as error:
            return error
