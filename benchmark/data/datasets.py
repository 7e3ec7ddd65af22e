"""The named data sets: scikit-learn's digits, torchvision's, and ImageNet as class folders.

Loads neither torchvision nor scikit-learn before it reads what needs them, so that a name is checked at once.
"""

import importlib.util
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.data.downloads import found
from benchmark.data.folders import read_tree
from benchmark.data.images import FILE_IMAGE_SIZE, OF_IMAGENET, PixelImages, Stored, channels_first, stratified
from benchmark.data.own import check_files, digest_of_arrays, of_arrays
from benchmark.data.points import ARCS, IN_PLANE, ON_CIRCLES, ON_CIRCLES_TEST, in_plane, on_circles, spirals
from benchmark.data.torchvision_files import SPLITS, VOC07_FOLDER, read_files, read_voc07
from benchmark.runtime.errors import UserError

DIGITS_TEST_IMAGES = 500
# Images of imagenet20 in each class, as published; as many of the ones behind the next are for tuning.
IMAGENET20_PER_CLASS = 260


@dataclass(frozen=True)
class Source:
    """A named data set: how large it is, where it comes from, and how its pixels are normalised.

    Networks are trained on the unlabelled images where there are some, on the labelled ones otherwise. Images for
    tuning are counted where they are apart from those that are trained on; otherwise some of these are held out.
    """

    name: str
    labelled_images: int
    test_images: int
    classes: int
    image_size: int  # 0: points
    size: str
    how: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    folder: str = ""  # below the root, where it is no part of a library
    content: str | None = None  # the digest by which an npz file of the same arrays is the same data set
    unlabelled_images: int = 0
    tune_images: int = 0
    decoded: bool = False  # from an image file each
    per_class: bool = False  # its published accuracy is the mean over classes of each class's
    several_labels: bool = False  # of an image

    def train_images(self, tune_fraction: float = 0.0) -> int:
        """Images to train on, less the tune split where it is taken from them."""
        held_out = 0.0 if self.unlabelled_images or self.tune_images or self.several_labels else tune_fraction
        return int((self.unlabelled_images or self.labelled_images) * (1 - held_out))

    @property
    def images(self) -> str:
        """Its numbers of images, for reading."""
        before = f"{self.unlabelled_images:,} unlabelled, " if self.unlabelled_images else ""
        after = f", and {self.tune_images:,} for tuning" if self.tune_images else ""
        return f"{before}{self.labelled_images:,} + {self.test_images:,}{'' if self.image_size else ' points'}{after}"


_DOWNLOAD = "--download"
_IMAGENET = "by hand: DATA_ROOT/imagenet/train/CLASS/*.JPEG and DATA_ROOT/imagenet/val/CLASS/*.JPEG"
_AIRCRAFT = "fgvc-aircraft-2013b"
_CARS = (
    "by hand, since its address is gone: DATA_ROOT/stanford_cars/cars_train/*.jpg, cars_test/*.jpg, "
    "cars_test_annos_withlabels.mat and devkit/*.mat, as torchvision's StanfordCars reads it"
)
_CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_CIFAR10_TRAIN = (0.4915, 0.4821, 0.4462), (0.2472, 0.2437, 0.2617), "cifar-10-batches-py", "8b7f8e8147fafbb0"
_CIFAR100 = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
_SVHN = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
_STL10 = (0.441, 0.428, 0.387), (0.268, 0.261, 0.269)
_GENERATED = "0 (generated)", "nothing to get; for kernel methods", (), ()
_IN20 = 1000 * IMAGENET20_PER_CLASS


def _files(name: str, labelled: int, test: int, classes: int, size: str, how: str, folder: str, **more: Any) -> Source:
    """Photographs in files, seen as ImageNet's are."""
    return Source(name, labelled, test, classes, FILE_IMAGE_SIZE, size, how, *OF_IMAGENET, folder, decoded=True, **more)


# Mean and standard deviation of the training pixels in [0, 1]: as published, for digits as counted. Accuracy by class
# where the protocol of Kornblith et al. (CVPR 2019, table 1) has it.
SOURCES = {
    source.name: source
    for source in (
        Source("digits", 1297, 500, 10, 8, "0 (scikit-learn's)", "nothing to get", (0.3061,), (0.3764,)),
        Source("mnist", 60_000, 10_000, 10, 28, "55 MB", _DOWNLOAD, (0.1307,), (0.3081,), "MNIST/raw"),
        Source("fashionmnist", 60_000, 10_000, 10, 28, "55 MB", _DOWNLOAD, (0.2860,), (0.3530,), "FashionMNIST/raw"),
        Source("emnist", 124_800, 20_800, 26, 28, "2.3 GB", _DOWNLOAD, (0.1722,), (0.3309,), "EMNIST/raw"),
        Source("cifar10", 50_000, 10_000, 10, 32, "180 MB", _DOWNLOAD, *_CIFAR10, "cifar-10-batches-py"),
        Source("cifar10_train", 40_000, 10_000, 10, 32, "as cifar10", _DOWNLOAD, *_CIFAR10_TRAIN),
        Source("cifar100", 50_000, 10_000, 100, 32, "180 MB", _DOWNLOAD, *_CIFAR100, "cifar-100-python"),
        Source("stl10", 5000, 8000, 10, 96, "3.1 GB", _DOWNLOAD, *_STL10, "stl10_binary", unlabelled_images=100_000),
        Source("imagenette", 9469, 3925, 10, 128, "100 MB", _DOWNLOAD, *OF_IMAGENET, "imagenette2-160", decoded=True),
        _files("imagenet", 1_281_167, 50_000, 1000, "150 GB", _IMAGENET, "imagenet"),
        _files("imagenet20", _IN20, 50_000, 1000, "as imagenet", _IMAGENET, "imagenet", tune_images=_IN20),
        Source("svhn", 73_257, 26_032, 10, 32, "250 MB", _DOWNLOAD, *_SVHN, "svhn"),
        _files("food101", 75_750, 25_250, 101, "5.0 GB", _DOWNLOAD, "food-101"),
        _files("flowers102", 1020, 6149, 102, "350 MB", _DOWNLOAD, "flowers-102", tune_images=1020, per_class=True),
        _files("dtd", 1880, 1880, 47, "630 MB", _DOWNLOAD, "dtd", tune_images=1880),
        _files("pets", 3680, 3669, 37, "810 MB", _DOWNLOAD, "oxford-iiit-pet", per_class=True),
        _files("aircraft", 3334, 3333, 100, "2.8 GB", _DOWNLOAD, _AIRCRAFT, tune_images=3333, per_class=True),
        _files("cars", 8144, 8041, 196, "2.0 GB", _CARS, "stanford_cars"),
        _files("voc07", 5011, 4952, 20, "910 MB", _DOWNLOAD, str(VOC07_FOLDER), several_labels=True),
        Source("spirals", 375, 375, 3, 0, *_GENERATED),
        Source("circle", ON_CIRCLES, ON_CIRCLES_TEST, ARCS, 0, *_GENERATED),
        Source("torus", ON_CIRCLES, ON_CIRCLES_TEST, ARCS, 0, *_GENERATED),
        Source("mnist_plane", IN_PLANE, IN_PLANE, 10, 0, "55 MB", _DOWNLOAD, (), (), "MNIST/raw"),
    )
}

# Sources of one's own: prefix and what follows it.
OWN_SOURCES = {
    "npz:": "PATH of a file with uint8 x_train, x_test (N, H, W) or (N, H, W, C) and integer y_train, y_test (N,)",
    "folder:": "PATH of a folder with train/CLASS/* and test/CLASS/* or val/CLASS/*",
    "hf:": "NAME_OR_PATH of a data set of Hugging Face's datasets, on disk; pip install 'spherebench[hf]'",
}


def _spelt(prefix: str) -> str:
    """How data of one's own are named: ``npz:PATH``."""
    return prefix + OWN_SOURCES[prefix].partition(" ")[0]


def check_source(source: str, key: str = "data.source") -> None:
    """Raise :class:`UserError` where ``source`` names no data set; whether the data is there, :func:`load` will see."""
    if not _is_source(source):
        allowed = ", ".join([*SOURCES, *map(_spelt, OWN_SOURCES)])
        raise UserError(f"{key}: is {source!r}, must be one of {allowed}")


def _is_source(text: str) -> bool:
    return text in SOURCES or any(text.startswith(prefix) and text != prefix for prefix in OWN_SOURCES)


def split_sources(text: str) -> list[str]:
    """Sources with commas between them; a comma that no source comes after is part of a path."""
    found: list[str] = []
    for part in text.split(","):
        if found and ":" in found[-1] and not _is_source(part.strip()):
            found[-1] += f",{part}"
        else:
            found.append(part.strip())
    return found


def datasets_table() -> list[dict[str, str]]:
    """One row a data set: name, images (train + test), classes, side of a view, size on disk, how to get it."""
    columns = ("name", "images", "classes", "side", "size", "how to get")
    rows = [
        (source.name, source.images, str(source.classes), str(source.image_size), source.size, source.how)
        for source in SOURCES.values()
    ]
    rows += [(_spelt(prefix), "your own", "", "", "", what) for prefix, what in OWN_SOURCES.items()]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _digits(root: Path, download: bool) -> Stored:
    """1,797 digits of 8 x 8 pixels in 17 shades, of which a stratified 500 are for testing."""
    images = _all_digits()
    test, train = stratified(images.labels, DIGITS_TEST_IMAGES)
    return _stored("digits", images.subset(train), images.subset(test))


@cache
def _all_digits() -> PixelImages:
    # The file that sklearn.datasets.load_digits reads, pixels and label, a row an image (1797, 65): read without
    # scikit-learn, whose import takes seconds, since a job that is preempted in training needs nothing of it.
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    pixels = channels_first(np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8))
    return PixelImages(pixels, table[:, -1].astype(np.int64))


# torchvision's data sets that are one array a split: its name, and the options that give the splits: to train and to
# test on, and where there is one the unlabelled part to pretrain on.
_BY_FLAG = {"train": True}, {"train": False}
_ARRAYS: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "mnist": ("MNIST", _BY_FLAG),
    "fashionmnist": ("FashionMNIST", _BY_FLAG),
    # The split of letters, capital and small as one class.
    "emnist": ("EMNIST", ({"split": "letters", "train": True}, {"split": "letters", "train": False})),
    "cifar10": ("CIFAR10", _BY_FLAG),
    "cifar100": ("CIFAR100", _BY_FLAG),
    "stl10": ("STL10", ({"split": "train"}, {"split": "test"}, {"split": "unlabeled"})),
    "svhn": ("SVHN", ({"split": "train"}, {"split": "test"})),  # without its `extra` images
}


def _official_arrays(name: str, root: Path, download: bool) -> Stored:
    """The official splits of one of ``_ARRAYS``."""
    from torchvision import datasets

    kind, splits = _ARRAYS[name]
    place = root / SOURCES[name].folder if name == "svhn" else root  # the others make folders of their own
    return _stored(name, *(_images(name, getattr(datasets, kind)(place, download=download, **own)) for own in splits))


def _images(name: str, split: Any) -> PixelImages:
    """What torchvision keeps of a split: by the data set the channels first or last, labels or targets."""
    if name in ("stl10", "svhn"):
        # STL-10's, of 2.8 GB, stay as they lie; SVHN's lie with the images last.
        pixels = split.data if name == "stl10" else np.ascontiguousarray(split.data)
        return PixelImages(torch.from_numpy(pixels), split.labels.astype(np.int64))
    pixels, labels = np.asarray(split.data), np.asarray(split.targets, dtype=np.int64)
    if name == "emnist":  # whose files hold images on their side, and letters from 1 on
        pixels, labels = np.ascontiguousarray(pixels.transpose(0, 2, 1)), labels - 1
    return PixelImages(channels_first(pixels), labels)


def _cifar10_train(root: Path, download: bool) -> Stored:
    """The 50,000 official training images alone: the first 40,000 to train on, the last 10,000 to test on.

    The official test images need not be there, and stay unseen.
    """
    source = SOURCES["cifar10_train"]
    if download:
        from torchvision.datasets import CIFAR10

        CIFAR10(root, download=True)
    files = sorted((root / source.folder).glob("data_batch_*"))
    if not files:
        raise FileNotFoundError("Dataset not found")
    batches = [pickle.loads(file.read_bytes(), encoding="latin1") for file in files]
    x = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    y = np.concatenate([np.asarray(batch["labels"], dtype=np.int64) for batch in batches])
    first, last = slice(-source.test_images), slice(-source.test_images, None)
    arrays = {"x_train": x[first], "y_train": y[first], "x_test": x[last], "y_test": y[last]}
    if (digest := digest_of_arrays(arrays)) != source.content:
        raise UserError(f"data set {source.name}: {root / source.folder} holds other images (digest {digest})")
    return of_arrays(arrays)


def _class_folders(name: str, root: Path, download: bool) -> Stored:
    """``train`` and ``val``; of imagenette the version whose shorter side is 160 pixels."""
    if name == "imagenette":
        from torchvision.datasets import Imagenette

        Imagenette(root, size="160px", download=download)
    folder = root / SOURCES[name].folder
    return read_tree(name, folder / "train", folder / "val", SOURCES[name].image_size)


def _imagenet20(root: Path, download: bool) -> Stored:
    """The first 260 training images of each class in sorted order; for tuning, as published, those of rank 261 to 520.

    Rank 260, counted from 0, is in neither.
    """
    whole, per_class = _class_folders("imagenet", root, download), IMAGENET20_PER_CLASS
    ranks = ranks_in_class(whole.train.labels)
    tune = whole.train.subset(np.flatnonzero((ranks > per_class) & (ranks <= 2 * per_class)))
    if len(np.unique(tune.labels)) < whole.classes:
        raise UserError(
            f"data set imagenet20 needs more than {per_class + 1} images of every class in {root / 'imagenet'}"
        )
    return replace(whole, train=whole.train.subset(np.flatnonzero(ranks < per_class)), tune=tune)


def ranks_in_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of every image among those of its class, in the order they are stored, from 0."""
    ranks = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        ranks[labels == label] = np.arange(np.sum(labels == label))
    return ranks


def _stored(name: str, train: PixelImages, test: PixelImages, unlabelled: PixelImages | None = None) -> Stored:
    source = SOURCES[name]
    return Stored(train, test, source.classes, source.image_size, source.mean, source.std, unlabelled)


def check_there(name: str, root: Path) -> None:
    """Raise :class:`UserError`, saying how to get it, where a named data set has no folder below ``root``: cheap."""
    source = SOURCES[name]
    if source.folder and not (root / source.folder).is_dir():
        reason = f"there is no folder {source.folder}; {_how(name)}"
        raise UserError(f"data set {name} cannot be read from {root.resolve()}: {reason}")


def _how(name: str) -> str:
    """How to get a data set, in words."""
    how = SOURCES[name].how
    return f"get it {how}" if how != _DOWNLOAD else "get it with --download"


def read_named(name: str, root: Path, download: bool) -> Stored:
    """The official splits of a named data set, fetched first where it is missing, asked for, and can be.

    Raises :class:`UserError` where it is missing, saying how to get it, or unusable.
    """
    source, read = SOURCES[name], READERS[name]
    if not source.folder or not source.image_size:  # generated, a library's, or made of another one
        stored = read(root, download)
    else:
        if source.how != _DOWNLOAD:  # by its folder, before torchvision says so in its words
            check_there(name, root)
            download = False
        stored = found(name, root, root / source.folder, download, _how(name), partial(read, root))
    check_files(name, stored)
    return stored


READERS: dict[str, Callable[[Path, bool], Stored]] = {
    "digits": _digits,
    "spirals": spirals,
    "circle": partial(on_circles, 1),
    "torus": partial(on_circles, 2),
    "mnist_plane": partial(in_plane, partial(read_named, "mnist")),
    **{name: partial(_official_arrays, name) for name in _ARRAYS},
    "cifar10_train": _cifar10_train,
    **{name: partial(read_files, name) for name in SPLITS},
    "voc07": read_voc07,
    **{name: partial(_class_folders, name) for name in ("imagenette", "imagenet")},
    "imagenet20": _imagenet20,
}
