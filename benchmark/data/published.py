"""The named data sets: scikit-learn's digits, torchvision's, and ImageNet as class folders."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.data.images import ImageSet, PixelImages, Points
from benchmark.data.own import read_tree
from benchmark.data.sources import IMAGENET20_PER_CLASS, SOURCES
from benchmark.data.splits import first_of_each_class, stratified
from benchmark.data.stored import Stored, channels_first
from benchmark.runtime.errors import UserError

DIGITS_TEST_IMAGES = 500
SPIRALS, SPIRAL_POINTS, SPIRAL_TURNS, SPIRAL_NOISE = 3, 125, 1.0, 0.02

T = TypeVar("T")


def _digits(root: Path, download: bool) -> Stored:
    """1,797 digits of 8 x 8 pixels in 17 shades, of which a stratified 500 are for testing."""
    table = _digits_table()
    pixels = channels_first(np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8))
    images = PixelImages(pixels, table[:, -1].astype(np.int64))
    test, train = stratified(images.labels, DIGITS_TEST_IMAGES)
    return _stored("digits", images.subset(train), images.subset(test))


def _digits_table() -> NDArray[np.float64]:
    """The file that ``sklearn.datasets.load_digits`` reads: pixels and label, a row an image (1797, 65).

    Read without scikit-learn, whose import takes seconds: a job that is preempted in training needs nothing of it.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")


def _spirals(root: Path, download: bool) -> Stored:
    """Three arms in the unit disc, each 125 points to train on and 125 to test on, evenly spaced and jittered.

    Always the same points: NumPy's legacy generator never changes its stream (NEP 19).
    """
    random = np.random.RandomState(0)
    return Stored(_arms(random), _arms(random), SPIRALS, 0, (), ())


def _arms(random: np.random.RandomState) -> Points:
    labels = np.repeat(np.arange(SPIRALS), SPIRAL_POINTS)
    # Evenly spaced along an arm whose length grows with the square of its radius.
    radius = np.sqrt(np.tile(np.linspace(0.03, 1.0, SPIRAL_POINTS), SPIRALS))
    angle = 2 * np.pi * (SPIRAL_TURNS * radius + labels / SPIRALS)
    rows = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Points(rows + SPIRAL_NOISE * random.randn(*rows.shape), labels)


def _official_arrays(name: str, torchvision_name: str, root: Path, download: bool) -> Stored:
    """Both official splits of a data set that torchvision holds as one array each."""
    from torchvision import datasets

    def read(train: bool) -> ImageSet:
        split = getattr(datasets, torchvision_name)(root, train, download=download)
        return PixelImages(channels_first(np.asarray(split.data)), np.asarray(split.targets, dtype=np.int64))

    train, test = _found(name, root, download, lambda: (read(True), read(False)))
    return _stored(name, train, test)


def _stl10(root: Path, download: bool) -> Stored:
    """Pretraining sees the 100,000 unlabelled images; the 5,000 labelled ones are for probes."""
    from torchvision.datasets import STL10

    def read(split: str) -> ImageSet:
        images = STL10(root, split, download=download)
        return PixelImages(torch.from_numpy(images.data), images.labels.astype(np.int64))

    train, test, unlabelled = _found("stl10", root, download, lambda: (read("train"), read("test"), read("unlabeled")))
    return replace(_stored("stl10", train, test), unlabelled=unlabelled)


def _imagenette(root: Path, download: bool) -> Stored:
    """The version whose shorter side is 160 pixels."""
    from torchvision.datasets import Imagenette

    _found("imagenette", root, download, lambda: Imagenette(root, size="160px", download=download))
    folder = root / "imagenette2-160"
    return read_tree("imagenette", folder / "train", folder / "val", SOURCES["imagenette"].image_size)


def _imagenet(root: Path, download: bool) -> Stored:
    folder = root / "imagenet"
    if not folder.is_dir():
        raise _unreadable("imagenet", root, "there is no folder imagenet", f"; get it {SOURCES['imagenet'].how}")
    return read_tree("imagenet", folder / "train", folder / "val", SOURCES["imagenet"].image_size)


def _imagenet20(root: Path, download: bool) -> Stored:
    """The first 260 training images of each class in sorted order; the next 260 are for tuning."""
    whole = _imagenet(root, download)
    labels, per_class = whole.train.labels, IMAGENET20_PER_CLASS
    tune = whole.train.subset(first_of_each_class(labels, per_class, 2 * per_class))
    if len(np.unique(tune.labels)) < whole.classes:
        raise UserError(f"data set imagenet20 needs more than {per_class} images of every class in {root / 'imagenet'}")
    return replace(whole, train=whole.train.subset(first_of_each_class(labels, 0, per_class)), tune=tune)


def _stored(name: str, train: ImageSet, test: ImageSet) -> Stored:
    source = SOURCES[name]
    return Stored(train, test, source.classes, source.image_size, source.mean, source.std)


def _found(name: str, root: Path, download: bool, read: Callable[[], T]) -> T:
    try:
        return read()
    # By the fault, torchvision's readers raise about anything: RuntimeError, OSError, AssertionError, UnpicklingError.
    except Exception as error:
        # torchvision ends with advice about a parameter of its own.
        reason = str(error).split(" You can use")[0].rstrip(".") or type(error).__name__
        raise _unreadable(name, root, reason, "" if download else "; get it with --download") from error


def _unreadable(name: str, root: Path, reason: str, advice: str) -> UserError:
    return UserError(f"data set {name} cannot be read from {root.resolve()}: {reason}{advice}")


READERS: dict[str, Callable[[Path, bool], Stored]] = {
    "digits": _digits,
    "spirals": _spirals,
    "mnist": partial(_official_arrays, "mnist", "MNIST"),
    "fashionmnist": partial(_official_arrays, "fashionmnist", "FashionMNIST"),
    "cifar10": partial(_official_arrays, "cifar10", "CIFAR10"),
    "cifar100": partial(_official_arrays, "cifar100", "CIFAR100"),
    "stl10": _stl10,
    "imagenette": _imagenette,
    "imagenet": _imagenet,
    "imagenet20": _imagenet20,
}
