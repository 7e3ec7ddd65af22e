"""Fixed, stratified splits: they depend on the labels alone, never on a run's seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmark.runtime.errors import UserError

Indices = NDArray[np.int64]


def stratified(labels: NDArray[np.int64], size: int) -> tuple[Indices, Indices]:
    """``size`` images with every class in its proportion, and the others; both in ascending order.

    Each class gives the whole part of its share, and the largest remainders one more (ties: the lower label). Which of
    its images are drawn is a permutation by NumPy's legacy generator, whose stream never changes (NEP 19).
    """
    classes, counts = np.unique(labels, return_counts=True)
    shares = _largest_remainders(counts, size)
    random = np.random.RandomState(0)
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, shares, strict=True)
    ]
    inside = np.sort(np.concatenate(chosen)).astype(np.int64)
    return inside, np.setdiff1d(np.arange(len(labels)), inside, assume_unique=True)


def _largest_remainders(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Whole shares of ``size`` in proportion to ``counts``."""
    wholes, remainders = np.divmod(counts * size, counts.sum())
    late = np.argsort(-remainders, kind="stable")[: size - wholes.sum()]
    wholes[late] += 1
    return wholes


def hold_out(labels: NDArray[np.int64], fraction: float) -> tuple[Indices, Indices]:
    """A stratified ``fraction`` of the images, at least one of every class, and the others."""
    classes, counts = np.unique(labels, return_counts=True)
    inside, outside = stratified(labels, round(fraction * len(labels)))
    for part, name in ((inside, "the tune split"), (outside, "training")):
        if len(np.unique(labels[part])) < len(classes):
            raise UserError(
                f"data.tune_fraction {fraction} leaves a class without an image for {name}: "
                f"the smallest class has {counts.min()} of {len(labels)} images"
            )
    return inside, outside


def first_of_each_class(labels: NDArray[np.int64], start: int, stop: int) -> Indices:
    """The images from ``start`` to ``stop`` of every class, in the order they are stored."""
    ranks = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        ranks[places] = np.arange(len(places))
    return np.flatnonzero((ranks >= start) & (ranks < stop))
