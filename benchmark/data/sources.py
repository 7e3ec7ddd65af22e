"""The data sets there are. Imports neither torchvision nor scikit-learn, so that a name is checked at once."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.runtime.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Images of imagenet20 in each class, as published; as many of the following ones are for tuning.
IMAGENET20_PER_CLASS = 260


@dataclass(frozen=True)
class Source:
    """A named data set: how large it is, where it comes from, and how its pixels are normalised."""

    name: str
    images: str
    classes: int
    image_size: int
    size: str
    how: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained_whole: bool = False  # its tune split is not taken from the images that are trained on

    @property
    def train_images(self) -> int:
        """Images to train on: the first number of ``images``."""
        return int(self.images.split()[0].replace(",", ""))


_DOWNLOAD = "--download"
_IMAGENET = "by hand: DATA_ROOT/imagenet/train/CLASS/*.JPEG and DATA_ROOT/imagenet/val/CLASS/*.JPEG"
_STL10_STATISTICS = ((0.441, 0.428, 0.387), (0.268, 0.261, 0.269))

# Mean and standard deviation of the training pixels in [0, 1]: as published, for digits as counted.
SOURCES = {
    source.name: source
    for source in (
        Source("digits", "1,297 + 500", 10, 8, "0 (scikit-learn's)", "nothing to get", (0.3061,), (0.3764,)),
        Source("mnist", "60,000 + 10,000", 10, 28, "55 MB", _DOWNLOAD, (0.1307,), (0.3081,)),
        Source("fashionmnist", "60,000 + 10,000", 10, 28, "55 MB", _DOWNLOAD, (0.2860,), (0.3530,)),
        Source(
            "cifar10",
            "50,000 + 10,000",
            10,
            32,
            "180 MB",
            _DOWNLOAD,
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
        ),
        Source(
            "cifar100",
            "50,000 + 10,000",
            100,
            32,
            "180 MB",
            _DOWNLOAD,
            (0.5071, 0.4865, 0.4409),
            (0.2673, 0.2564, 0.2762),
        ),
        Source("stl10", "100,000 unlabelled, 5,000 + 8,000", 10, 96, "3.1 GB", _DOWNLOAD, *_STL10_STATISTICS, True),
        Source("imagenette", "9,469 + 3,925", 10, 128, "100 MB", _DOWNLOAD, IMAGENET_MEAN, IMAGENET_STD),
        Source("imagenet", "1,281,167 + 50,000", 1000, 224, "150 GB", _IMAGENET, IMAGENET_MEAN, IMAGENET_STD),
        Source(
            "imagenet20",
            "260,000 + 50,000, and 260,000 for tuning",
            1000,
            224,
            "as imagenet",
            _IMAGENET,
            IMAGENET_MEAN,
            IMAGENET_STD,
            trained_whole=True,
        ),
        Source("spirals", "375 + 375 points", 3, 0, "0 (generated)", "nothing to get; for kernel methods", (), ()),
    )
}

# Sources of one's own: prefix and what follows it.
OWN_SOURCES = {
    "npz:": "PATH of a file with uint8 x_train, x_test (N, H, W) or (N, H, W, C) and integer y_train, y_test (N,)",
    "folder:": "PATH of a folder with train/CLASS/* and test/CLASS/* or val/CLASS/*",
}


def check_source(source: str) -> None:
    """Raise :class:`UserError` where ``source`` names no data set; whether the data is there, :func:`load` will see."""
    if source in SOURCES or any(source.startswith(prefix) and source != prefix for prefix in OWN_SOURCES):
        return
    allowed = ", ".join([*SOURCES, *(f"{prefix}PATH" for prefix in OWN_SOURCES)])
    raise UserError(f"data.source: is {source!r}, must be one of {allowed}")


def datasets_table() -> list[dict[str, str]]:
    """One row a data set: name, images (train + test), classes, side of a view, size on disk, how to get it."""
    named = [
        {
            "name": source.name,
            "images": source.images,
            "classes": str(source.classes),
            "side": str(source.image_size),
            "size": source.size,
            "how to get": source.how,
        }
        for source in SOURCES.values()
    ]
    own = [
        {"name": f"{prefix}PATH", "images": "your own", "classes": "", "side": "", "size": "", "how to get": what}
        for prefix, what in OWN_SOURCES.items()
    ]
    return named + own
