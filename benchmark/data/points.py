"""Generated points, toy data for kernels: always the same, since NumPy's legacy generator never changes its stream."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmark.data.images import PixelImages, Points, Stored, stratified

SPIRALS, SPIRAL_POINTS, SPIRAL_TURNS, SPIRAL_NOISE = 3, 125, 1.0, 0.02
# Points whose views' positive-pair kernel is known (methods.regime.chains), to train and to test on.
ON_CIRCLES, ON_CIRCLES_TEST, IN_PLANE = 1000, 2000, 1000
ARCS = 4


def spirals(root: Path, download: bool) -> Stored:
    """Three arms in the unit disc, each 125 points to train on and 125 to test on, evenly spaced and jittered."""
    random = np.random.RandomState(0)  # its stream never changes (NEP 19)
    return Stored(_arms(random), _arms(random), SPIRALS, 0, (), ())


def _arms(random: np.random.RandomState) -> Points:
    labels = np.repeat(np.arange(SPIRALS), SPIRAL_POINTS)
    # Evenly spaced along an arm whose length grows with the square of its radius.
    radius = np.sqrt(np.tile(np.linspace(0.03, 1.0, SPIRAL_POINTS), SPIRALS))
    angle = 2 * np.pi * (SPIRAL_TURNS * radius + labels / SPIRALS)
    rows = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Points(rows + SPIRAL_NOISE * random.randn(*rows.shape), labels)


def on_circles(circles: int, root: Path, download: bool) -> Stored:
    """Uniform on a product of unit circles, the class an arc of the first."""
    random = np.random.RandomState(0)

    def draw(count: int) -> Points:
        angles = random.uniform(0, 2 * np.pi, (count, circles))
        rows = np.stack([np.cos(angles), np.sin(angles)], axis=2).reshape(count, -1)
        return Points(rows, (angles[:, 0] * ARCS / (2 * np.pi)).astype(np.int64))

    return Stored(draw(ON_CIRCLES), draw(ON_CIRCLES_TEST), ARCS, 0, (), ())


def in_plane(read: Callable[[Path, bool], Stored], root: Path, download: bool) -> Stored:
    """1,000 training images of what ``read`` gives, by their two leading principal components, of total variance one.

    They are the whole population: the test points are the same.
    """
    whole = read(root, download)
    assert isinstance(whole.train, PixelImages)
    some = whole.train.subset(stratified(whole.train.labels, IN_PLANE)[0])
    pixels = some.pixels.flatten(1).double().numpy() / 255
    pixels -= pixels.mean(axis=0)
    _, vectors = np.linalg.eigh(pixels.T @ pixels)
    rows = pixels @ vectors[:, :-3:-1]
    # An eigenvector has no sign of its own: the farthest point lies on the positive side.
    rows *= np.sign(rows[np.abs(rows).argmax(axis=0), [0, 1]])
    points = Points(rows / np.sqrt(rows.var(axis=0).sum()), some.labels)
    return Stored(points, points, whole.classes, 0, (), ())
