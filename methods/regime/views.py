"""Views of images by augmentation: what makes ``groups`` where the data has none.

An augmentation is a callable (images, rng) -> images of the same shape, on (n, H, W) or (n, H, W, C) arrays. Draws are
keyed by the seed and the number of a block of images, so that streaming over blocks sees the views that
``make_views`` returns at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]

BLOCK = 512  # images augmented under one key


def make_views(
    images: np.ndarray, augmentation: Augmentation, n_views: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (views, groups): the n·m rows of m views of each image, image by image, and the image number of each."""
    views, groups = zip(*iter_views(images, augmentation, n_views, seed), strict=True)
    return np.concatenate(views), np.concatenate(groups)


def iter_views(
    images: np.ndarray, augmentation: Augmentation, n_views: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the same in blocks of whole images, for ``partial_fit``; ``images`` may be a memory map.

    Raises ValueError where they are not (N, H, W) or (N, H, W, C).
    """
    _, *shape = np.shape(images[:1])
    if len(shape) not in (2, 3):
        raise ValueError(f"an image has shape {tuple(shape)}, must be (H, W) or (H, W, C): give images, not rows")
    for block, start in enumerate(range(0, len(images), BLOCK)):
        rng = np.random.default_rng([seed, block])
        originals = np.asarray(images[start : start + BLOCK], dtype=np.float64)
        views = np.stack([augmentation(originals, rng) for _ in range(n_views)], axis=1)
        yield views.reshape(len(originals) * n_views, -1), np.repeat(np.arange(start, start + len(originals)), n_views)


@dataclass(frozen=True)
class Affine:
    """Shift, turn and scale about the centre, one bilinear interpolation, zeros outside.

    ``translation``: up to so many pixels along each axis; ``rotation``: up to so many degrees either way; ``zoom`` ≥ 1:
    a factor log-uniform in [1/zoom, zoom].
    """

    translation: float = 0.0
    rotation: float = 0.0
    zoom: float = 1.0

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        count = len(images)
        angle_n = np.deg2rad(rng.uniform(-self.rotation, self.rotation, count))
        scale_n = np.exp(rng.uniform(-np.log(self.zoom), np.log(self.zoom), count))
        shift_n2 = rng.uniform(-self.translation, self.translation, (count, 2))
        return np.stack([_warp(*each) for each in zip(images, angle_n, scale_n, shift_n2, strict=True)])


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of a width uniform in [0, sigma] pixels, edges repeated."""

    sigma: float

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sigma_n = rng.uniform(0.0, self.sigma, len(images))
        pairs = zip(images, sigma_n, strict=True)
        return np.stack([gaussian_filter(image, sigma, axes=(0, 1), mode="nearest") for image, sigma in pairs])


@dataclass(frozen=True)
class Compose:
    """Augmentations one after the other."""

    parts: tuple[Augmentation, ...]

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for part in self.parts:
            images = part(images, rng)
        return images


def _warp(image: np.ndarray, angle: float, scale: float, shift_2: np.ndarray) -> np.ndarray:
    """Return the image whose pixel at q (from the centre) is the original's at R(−angle)(q − shift)/scale."""
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    inverse = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])[: image.ndim, : image.ndim]
    centre = np.zeros(image.ndim)
    centre[:2] = (np.array(image.shape[:2]) - 1) / 2
    shifted = centre.copy()
    shifted[:2] += shift_2
    return affine_transform(image, inverse, centre - inverse @ shifted, order=1, mode="grid-constant")
