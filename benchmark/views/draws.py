"""What is drawn for a view: numbers keyed by (seed, epoch, image, view), whoever draws them, in whatever company.

The generator is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a counter, multiplied and mixed. Every image has a
counter of its own, which begins at a mix of its key, so that those of a batch are drawn in one stroke.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.runtime.seeds import key
from benchmark.views.recipes import RESIZE_OVER_CROP, Patches, RandomResizedCrop

Numbers = NDArray[np.floating]
CROP_ATTEMPTS = 10
_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
_STEPS = np.arange(1, 33, dtype=np.uint64) * _STEP  # so many numbers are made at once


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@dataclass
class Draws:
    """Random numbers for n images, each from a counter of its own; what is drawn next follows what was drawn last."""

    counters_n: NDArray[np.uint64]
    _made: list[Numbers] = field(default_factory=list)  # what is left of those made ahead, (n, ...)

    @classmethod
    def of(cls, images_n: ArrayLike, *parts: str | int) -> Draws:
        """For the images of these numbers, keyed by ``parts``, such as seed, epoch and view."""
        numbers_n = np.asarray(images_n, dtype=np.uint64)
        return cls(_mixed(_mixed(numbers_n * _STEP) ^ np.uint64(key(*parts))))

    def uniform(self, low: float, high: float, *shape: int) -> Numbers:
        """(n, *shape) numbers of U[low, high)."""
        count = prod(shape)
        while sum(block.shape[1] for block in self._made) < count:
            bits = _mixed(self.counters_n[:, None] + _STEPS) >> np.uint64(11)
            self.counters_n = self.counters_n + _STEPS[-1]
            self._made.append(bits * 2.0**-53)
        made = self._made[0] if len(self._made) == 1 else np.concatenate(self._made, axis=1)
        self._made = [made[:, count:]]
        return (low + (high - low) * made[:, :count]).reshape(-1, *shape)

    def chosen(self, p: float) -> NDArray[np.bool_]:
        """(n,) booleans, true with probability p."""
        return self.uniform(0, 1) < p


def view_key(seed: int, epoch: int, view: int) -> tuple[str | int, ...]:
    """What the draws of an epoch's views are keyed by, beside the image."""
    return seed, "view", epoch, view


def crop_boxes(operation: RandomResizedCrop, height: ArrayLike, width: ArrayLike, draws: Draws) -> Numbers:
    """(n, 4) top, left, height, width in pixels: as torchvision, the first of ten that fits, else the centre."""
    shape = draws.counters_n.shape
    limits_n2 = np.stack([np.broadcast_to(height, shape), np.broadcast_to(width, shape)], axis=1).astype(float)
    area_nA = limits_n2.prod(axis=1, keepdims=True) * draws.uniform(*operation.scale, CROP_ATTEMPTS)
    ratio_nA = np.exp(draws.uniform(log(operation.ratio[0]), log(operation.ratio[1]), CROP_ATTEMPTS))
    sides_nA2 = np.rint(np.sqrt(np.stack([area_nA / ratio_nA, area_nA * ratio_nA], axis=-1)))
    fits_nA = ((sides_nA2 > 0) & (sides_nA2 <= limits_n2[:, None])).all(axis=-1)
    sides_n2 = sides_nA2[np.arange(len(fits_nA)), fits_nA.argmax(axis=1)]
    corner_n2 = np.floor(draws.uniform(0, 1, 2) * (limits_n2 - sides_n2 + 1))
    # The largest central part whose ratio is allowed.
    tall_n, wide_n = limits_n2.T
    central_n2 = np.stack(
        [
            np.minimum(tall_n, np.rint(wide_n / operation.ratio[0])),
            np.minimum(wide_n, np.rint(tall_n * operation.ratio[1])),
        ],
        axis=1,
    )
    found = np.concatenate([corner_n2, sides_n2], axis=1)
    central = np.concatenate([(limits_n2 - central_n2) // 2, central_n2], axis=1)
    return np.where(fits_nA.any(axis=1, keepdims=True), found, central)


def square_corners(height: ArrayLike, width: ArrayLike, side: int, draws: Draws) -> NDArray[np.int64]:
    """(n, 2) top and left of a square of images whose shorter side is resized to 256/224 of the square's."""
    shape, short = draws.counters_n.shape, round(side * RESIZE_OVER_CROP)
    sizes_n2 = np.stack([np.broadcast_to(height, shape), np.broadcast_to(width, shape)], axis=1)
    room_n2 = short * sizes_n2 // sizes_n2.min(axis=1, keepdims=True) - side
    return np.floor(draws.uniform(0, 1, 2) * (room_n2 + 1)).astype(np.int64)


def patch_corners(patches: Patches, whole: int, side: int, draws: Draws) -> NDArray[np.int64]:
    """(n, count, 2) top and left of the patches of images of ``whole`` pixels."""
    grid, jitter = patches.grid, round(patches.jitter * whole / patches.of)
    cells_nk = draws.uniform(0, 1, grid**2).argsort(axis=1)[:, : patches.count]
    moved_nk2 = np.floor(draws.uniform(0, jitter + 1, patches.count, 2)).astype(np.int64)
    stride = (whole - side - jitter) // (grid - 1)
    return stride * np.stack([cells_nk // grid, cells_nk % grid], axis=2) + moved_nk2
