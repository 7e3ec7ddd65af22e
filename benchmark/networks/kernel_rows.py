"""From images to the rows that a kernel sees, and their views."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmark.data import ImageSet, Points
from benchmark.runtime.seeds import key
from benchmark.suite.run import Run
from methods.regime import Affine, Blur, Compose, make_views
from methods.regime.views import Augmentation

Rows = NDArray[np.float64]

# Strengths in parts of the images' side, so that they mean the same on 8 and on 28 pixels.
TRANSLATION, BLUR = 1 / 8, 1 / 16
ROTATION_DEGREES, ZOOM = 15.0, 1.1

_AUGMENTATIONS: dict[str, Callable[[int], Augmentation]] = {
    "none": lambda side: Compose(()),
    "translation": lambda side: Affine(translation=TRANSLATION * side),
    "rotation": lambda side: Affine(rotation=ROTATION_DEGREES),
    "zoom": lambda side: Affine(zoom=ZOOM),
    "blur": lambda side: Blur(BLUR * side),
    "affine": lambda side: Affine(TRANSLATION * side, ROTATION_DEGREES, ZOOM),
    "mixed": lambda side: Compose((Affine(TRANSLATION * side, ROTATION_DEGREES, ZOOM), Blur(BLUR * side))),
}


def plain_rows(images: ImageSet) -> Rows:
    """Every image as one row: pixels in [0, 1], or the points as they are."""
    if isinstance(images, Points):
        return images.rows
    pixels = _images(images)
    return pixels.reshape(len(pixels), -1)


def views_of(images: ImageSet, run: Run) -> tuple[Rows, NDArray[np.int64]]:
    """(views, image number of each): ``regime.n_views`` of every image; the images themselves without augmentation.

    The draws are keyed by the Run's seed.
    """
    assert run.regime is not None
    if run.regime.augmentation == "none":
        rows = plain_rows(images)
        return np.repeat(rows, run.regime.n_views, axis=0), np.repeat(np.arange(len(rows)), run.regime.n_views)
    stack = _images(images)
    augmentation = _AUGMENTATIONS[run.regime.augmentation](stack.shape[1])
    return make_views(stack, augmentation, run.regime.n_views, seed=key(run.seed, "kernel regime", "views"))


def _images(images: ImageSet) -> Rows:
    """(N, H, W) of grey images, (N, H, W, C) of others, in [0, 1]."""
    assert images.pixels is not None
    stack = images.pixels.permute(0, 2, 3, 1).double().numpy() / 255
    return stack[..., 0] if stack.shape[-1] == 1 else stack
