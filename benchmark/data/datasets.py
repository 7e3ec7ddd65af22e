"""The named data sets: scikit-learn's digits, torchvision's, and ImageNet as class folders.

Loads neither torchvision nor scikit-learn before it reads what needs them, so that a name is checked at once.
"""

import fcntl
import importlib.util
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.data.folders import read_tree
from benchmark.data.images import OF_IMAGENET, ImageSet, PixelImages, Points, Stored, channels_first, stratified
from benchmark.data.own import digest_of_arrays, of_arrays
from benchmark.data.torchvision_files import VOC07_FOLDER, read_files, read_voc07
from benchmark.runtime.errors import UserError

DIGITS_TEST_IMAGES = 500
SPIRALS, SPIRAL_POINTS, SPIRAL_TURNS, SPIRAL_NOISE = 3, 125, 1.0, 0.02
# Points whose views' positive-pair kernel is known (methods.regime.chains), to train and to test on.
ON_CIRCLES, ON_CIRCLES_TEST, IN_PLANE = 1000, 2000, 1000
ARCS = 4
# Images of imagenet20 in each class, as published; as many of the ones behind the next are for tuning.
IMAGENET20_PER_CLASS = 260

T = TypeVar("T")


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
    unlabelled_images: int = 0
    tune_images: int = 0
    decoded: bool = False  # from an image file each
    content: str | None = None  # the digest by which an npz file of the same arrays is the same data set
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
_CIFAR100 = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
_SVHN = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
_STL10 = (0.441, 0.428, 0.387), (0.268, 0.261, 0.269)
_GENERATED = "0 (generated)", "nothing to get; for kernel methods", (), ()
_IN20 = 1000 * IMAGENET20_PER_CLASS


def _files(name: str, labelled: int, test: int, classes: int, size: str, how: str, folder: str, **more: Any) -> Source:
    """Photographs in files, seen as ImageNet's are."""
    return Source(name, labelled, test, classes, 224, size, how, *OF_IMAGENET, folder, decoded=True, **more)


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
        Source(
            "cifar10_train",
            40_000,
            10_000,
            10,
            32,
            "as cifar10",
            _DOWNLOAD,
            (0.4915, 0.4821, 0.4462),
            (0.2472, 0.2437, 0.2617),
            "cifar-10-batches-py",
            content="8b7f8e8147fafbb0",
        ),
        Source("cifar100", 50_000, 10_000, 100, 32, "180 MB", _DOWNLOAD, *_CIFAR100, "cifar-100-python"),
        Source("stl10", 5000, 8000, 10, 96, "3.1 GB", _DOWNLOAD, *_STL10, "stl10_binary", unlabelled_images=100_000),
        Source("imagenette", 9469, 3925, 10, 128, "100 MB", _DOWNLOAD, *OF_IMAGENET, "imagenette2-160", decoded=True),
        Source("imagenet", 1_281_167, 50_000, 1000, 224, "150 GB", _IMAGENET, *OF_IMAGENET, "imagenet", decoded=True),
        Source(
            "imagenet20",
            _IN20,
            50_000,
            1000,
            224,
            "as imagenet",
            _IMAGENET,
            *OF_IMAGENET,
            "imagenet",
            tune_images=_IN20,
            decoded=True,
        ),
        Source("svhn", 73_257, 26_032, 10, 32, "250 MB", _DOWNLOAD, *_SVHN, "svhn"),
        _files("food101", 75_750, 25_250, 101, "5.0 GB", _DOWNLOAD, "food-101"),
        _files("flowers102", 1020, 6149, 102, "350 MB", _DOWNLOAD, "flowers-102", tune_images=1020, per_class=True),
        _files("dtd", 1880, 1880, 47, "630 MB", _DOWNLOAD, "dtd", tune_images=1880),
        _files("pets", 3680, 3669, 37, "810 MB", _DOWNLOAD, "oxford-iiit-pet", per_class=True),
        _files(
            "aircraft", 3334, 3333, 100, "2.8 GB", _DOWNLOAD, "fgvc-aircraft-2013b", tune_images=3333, per_class=True
        ),
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
    # The file that sklearn.datasets.load_digits reads, pixels and label, a row an image (1797, 65): read without
    # scikit-learn, whose import takes seconds, since a job that is preempted in training needs nothing of it.
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    pixels = channels_first(np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8))
    images = PixelImages(pixels, table[:, -1].astype(np.int64))
    test, train = stratified(images.labels, DIGITS_TEST_IMAGES)
    return _stored("digits", images.subset(train), images.subset(test))


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


def _on_circles(circles: int, root: Path, download: bool) -> Stored:
    """Uniform on a product of unit circles, the class an arc of the first; always the same points, as the spirals."""
    random = np.random.RandomState(0)

    def draw(count: int) -> Points:
        angles = random.uniform(0, 2 * np.pi, (count, circles))
        rows = np.stack([np.cos(angles), np.sin(angles)], axis=2).reshape(count, -1)
        return Points(rows, (angles[:, 0] * ARCS / (2 * np.pi)).astype(np.int64))

    return Stored(draw(ON_CIRCLES), draw(ON_CIRCLES_TEST), ARCS, 0, (), ())


def _mnist_plane(root: Path, download: bool) -> Stored:
    """1,000 training images of MNIST by their two leading principal components, scaled to a total variance of one.

    They are the whole population: the test points are the same.
    """
    whole = _official_arrays("mnist", "MNIST", root, download).train
    assert isinstance(whole, PixelImages)
    some = whole.subset(stratified(whole.labels, IN_PLANE)[0])
    pixels = some.pixels.flatten(1).double().numpy() / 255
    pixels -= pixels.mean(axis=0)
    _, vectors = np.linalg.eigh(pixels.T @ pixels)
    rows = pixels @ vectors[:, :-3:-1]
    # An eigenvector has no sign of its own: the farthest point lies on the positive side.
    rows *= np.sign(rows[np.abs(rows).argmax(axis=0), [0, 1]])
    points = Points(rows / np.sqrt(rows.var(axis=0).sum()), some.labels)
    return Stored(points, points, 10, 0, (), ())


def _emnist(root: Path, download: bool) -> Stored:
    """The split of letters, capital and small as one class, upright: the files hold images on their side."""
    from torchvision.datasets import EMNIST

    def read(train: bool, download: bool) -> ImageSet:
        split = EMNIST(root, "letters", train=train, download=download)
        upright = np.ascontiguousarray(np.asarray(split.data).transpose(0, 2, 1))
        return PixelImages(channels_first(upright), np.asarray(split.targets, dtype=np.int64) - 1)

    train, test = _found("emnist", root, download, lambda download: (read(True, download), read(False, download)))
    return _stored("emnist", train, test)


def _official_arrays(name: str, torchvision_name: str, root: Path, download: bool) -> Stored:
    """Both official splits of a data set that torchvision holds as one array each."""
    from torchvision import datasets

    def read(train: bool, download: bool) -> ImageSet:
        split = getattr(datasets, torchvision_name)(root, train, download=download)
        return PixelImages(channels_first(np.asarray(split.data)), np.asarray(split.targets, dtype=np.int64))

    train, test = _found(name, root, download, lambda download: (read(True, download), read(False, download)))
    return _stored(name, train, test)


def _cifar10_train(root: Path, download: bool) -> Stored:
    """The 50,000 official training images alone: the first 40,000 to train on, the last 10,000 to test on.

    The official test images need not be there, and stay unseen.
    """
    source = SOURCES["cifar10_train"]

    def read(download: bool) -> dict[str, NDArray]:
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
        return {"x_train": x[first], "y_train": y[first], "x_test": x[last], "y_test": y[last]}

    arrays = _found(source.name, root, download, read)
    if (found := digest_of_arrays(arrays)) != source.content:
        raise UserError(f"data set {source.name}: {root / source.folder} holds other images (digest {found})")
    return of_arrays(arrays)


def _stl10(root: Path, download: bool) -> Stored:
    """Pretraining sees the 100,000 unlabelled images; the 5,000 labelled ones are for probes."""
    from torchvision.datasets import STL10

    def read(split: str, download: bool) -> ImageSet:
        images = STL10(root, split, download=download)
        return PixelImages(torch.from_numpy(images.data), images.labels.astype(np.int64))

    train, test, unlabelled = _found(
        "stl10", root, download, lambda download: [read(split, download) for split in ("train", "test", "unlabeled")]
    )
    return _stored("stl10", train, test, unlabelled)


def _svhn(root: Path, download: bool) -> Stored:
    """Without its ``extra`` images."""
    from torchvision.datasets import SVHN

    def read(split: str, download: bool) -> ImageSet:
        images = SVHN(root / SOURCES["svhn"].folder, split, download=download)
        return PixelImages(torch.from_numpy(np.ascontiguousarray(images.data)), images.labels)

    train, test = _found(
        "svhn", root, download, lambda download: [read(split, download) for split in ("train", "test")]
    )
    return _stored("svhn", train, test)


def _photographs(name: str, root: Path, download: bool) -> Stored:
    """Those that nobody can download are asked for by their folder, before torchvision says so in its words."""
    source = SOURCES[name]
    if by_hand := source.how != _DOWNLOAD:
        check_there(name, root)
    wanted = download and not by_hand
    return _found(name, root, wanted, lambda download: read_files(name, root, download, source.image_size))


def _voc07(root: Path, download: bool) -> Stored:
    side = SOURCES["voc07"].image_size
    return _found("voc07", root, download, lambda download: read_voc07(root, download, side))


def _imagenette(root: Path, download: bool) -> Stored:
    """The version whose shorter side is 160 pixels."""
    from torchvision.datasets import Imagenette

    def read(download: bool) -> Stored:
        Imagenette(root, size="160px", download=download)
        folder = root / SOURCES["imagenette"].folder
        return read_tree("imagenette", folder / "train", folder / "val", SOURCES["imagenette"].image_size)

    return _found("imagenette", root, download, read)


def _imagenet(root: Path, download: bool) -> Stored:
    check_there("imagenet", root)
    folder = root / "imagenet"
    return read_tree("imagenet", folder / "train", folder / "val", SOURCES["imagenet"].image_size)


def _imagenet20(root: Path, download: bool) -> Stored:
    """The first 260 training images of each class in sorted order; for tuning, as published, those of rank 261 to 520.

    Rank 260, counted from 0, is in neither.
    """
    whole, per_class = _imagenet(root, download), IMAGENET20_PER_CLASS
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


def _stored(name: str, train: ImageSet, test: ImageSet, unlabelled: ImageSet | None = None) -> Stored:
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


def _found(name: str, root: Path, download: bool, read: Callable[[bool], T]) -> T:
    """What ``read`` reads, told whether to download. Of several processes one downloads, and the others wait for it.

    A download that is killed leaves a word in the lock's file: what it unpacked is not taken for the data set.
    """
    lock, folder = root / f".{name}.lock", root / SOURCES[name].folder
    cut_short = RuntimeError(f"a download of it was cut short (remove {lock} where the data have been put there since)")
    try:
        with _locked(lock, fcntl.LOCK_SH):
            try:
                if _text(lock):
                    raise cut_short
                return read(False)
            except Exception:
                if not download:
                    raise
        root.mkdir(parents=True, exist_ok=True)
        lock.touch()
        with _locked(lock, fcntl.LOCK_EX):
            if _text(lock) and folder.exists():
                folder.rename(tempfile.mkdtemp(prefix=f"{folder.name}-cut-short-", dir=folder.parent))
            elif folder.exists():  # by now, of another process; or a part of it, which torchvision knows
                return read(True)
            lock.write_text("downloading")
            try:
                return read(True)
            except BaseException:  # somebody asked for the end, too
                shutil.rmtree(folder, ignore_errors=True)
                raise
            finally:
                lock.write_text("")
    except UserError:
        raise
    # By the fault, torchvision's readers raise about anything: RuntimeError, OSError, AssertionError, UnpicklingError.
    except Exception as error:
        # torchvision ends with advice about a parameter of its own.
        reason = str(error).split(" You can use")[0].rstrip(".") or type(error).__name__
        advice = "" if download else f"; {_how(name)}"
        raise UserError(f"data set {name} cannot be read from {root.resolve()}: {reason}{advice}") from error


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """Hold a lock where its file is there; a file system that has none leaves each to itself, with a warning."""
    if not path.exists():
        yield
        return
    with path.open() as file:
        try:
            fcntl.flock(file, how)
        except OSError as error:
            alone = "let one process download, then start the others"
            warnings.warn(f"{path} cannot be locked ({error.strerror}): {alone}", stacklevel=3)
        yield


READERS: dict[str, Callable[[Path, bool], Stored]] = {
    "digits": _digits,
    "spirals": _spirals,
    "circle": partial(_on_circles, 1),
    "torus": partial(_on_circles, 2),
    "mnist_plane": _mnist_plane,
    "mnist": partial(_official_arrays, "mnist", "MNIST"),
    "fashionmnist": partial(_official_arrays, "fashionmnist", "FashionMNIST"),
    "emnist": _emnist,
    "cifar10": partial(_official_arrays, "cifar10", "CIFAR10"),
    "cifar10_train": _cifar10_train,
    "cifar100": partial(_official_arrays, "cifar100", "CIFAR100"),
    "stl10": _stl10,
    "svhn": _svhn,
    **{name: partial(_photographs, name) for name in ("food101", "flowers102", "dtd", "pets", "aircraft", "cars")},
    "voc07": _voc07,
    "imagenette": _imagenette,
    "imagenet": _imagenet,
    "imagenet20": _imagenet20,
}
