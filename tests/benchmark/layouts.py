"""Small data sets of real digits, laid out on disk as the large ones are."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]

IMAGENETTE_CLASSES = [
    f"n{number:08d}"
    for number in (1440764, 2102040, 2979186, 3000684, 3028079, 3394916, 3417042, 3425413, 3445777, 3888257)
]


def pictures(side: int, per_class: int, classes: int = 10, colour: bool = True) -> Split:
    """uint8 (N, side, side, 3), or (N, side, side) without colour, of real digits magnified, and their labels."""
    digits = load_digits()
    rows = np.concatenate([np.flatnonzero(digits.target == label)[:per_class] for label in range(classes)])
    small = np.rint(digits.images[rows] * (255 / 16)).astype(np.uint8)
    large = np.stack([np.asarray(Image.fromarray(image).resize((side, side))) for image in small])
    return (np.stack([large, large // 2, 255 - large], axis=-1) if colour else large), digits.target[rows]


def write_mnist(root: Path, name: str = "MNIST") -> None:
    """idx files; MNIST's and FashionMNIST's differ in their folder."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for prefix, per_class in (("train", 12), ("t10k", 4)):
        images, labels = pictures(28, per_class, colour=False)
        header = struct.pack(">iiii", 2051, *images.shape)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">ii", 2049, len(labels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())


def write_emnist(root: Path) -> None:
    """idx files of its letters, counted from 1, each image on its side: columns stand where rows are elsewhere."""
    folder = root / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, per_class in (("train", 12), ("test", 4)):
        images, labels = pictures(28, per_class, colour=False)
        header = struct.pack(">iiii", 2051, *images.shape)
        lying = np.ascontiguousarray(images.transpose(0, 2, 1))
        (folder / f"emnist-letters-{prefix}-images-idx3-ubyte").write_bytes(header + lying.tobytes())
        header = struct.pack(">ii", 2049, len(labels))
        (folder / f"emnist-letters-{prefix}-labels-idx1-ubyte").write_bytes(
            header + (labels + 1).astype(np.uint8).tobytes()
        )


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, classes: int = 10) -> None:
    """Pickled batches. torchvision compares checksums with the official files': it is told to expect ours unchecked."""
    from torchvision.datasets import CIFAR10, CIFAR100

    official, labels_key = (CIFAR10, "labels") if classes == 10 else (CIFAR100, "fine_labels")
    folder = root / official.base_folder
    folder.mkdir(parents=True)
    for split, per_class in (("train_list", 12), ("test_list", 4)):
        images, labels = pictures(32, per_class)
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        files = [name for name, _ in getattr(official, split)]
        for part, name in enumerate(files):
            batch = {"data": rows[part :: len(files)], labels_key: labels[part :: len(files)].tolist()}
            (folder / name).write_bytes(pickle.dumps(batch))
        monkeypatch.setattr(official, split, [[name, None] for name in files])
    meta = {**official.meta, "md5": None}
    (folder / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: [str(label) for label in range(classes)]}))
    monkeypatch.setattr(official, "meta", meta)


def write_stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Binary files, images by column; labels from 1."""
    from torchvision.datasets import STL10

    folder = root / STL10.base_folder
    folder.mkdir(parents=True)
    for split, per_class in (("train", 12), ("test", 4), ("unlabeled", 20)):
        images, labels = pictures(96, per_class)
        (folder / f"{split}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
        if split != "unlabeled":
            (folder / f"{split}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
    for files in ("train_list", "test_list"):
        monkeypatch.setattr(STL10, files, [[name, None] for name, _ in getattr(STL10, files)])


def write_class_folders(folder: Path, classes: list[str], per_class: int, side: int = 40) -> None:
    """folder/CLASS/CLASS_0000.JPEG, ..., not square."""
    images, labels = pictures(side, per_class, len(classes))
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images[labels == label]):
            Image.fromarray(image[:, 2:]).save(folder / name / f"{name}_{number:04d}.JPEG")


def write_imagenette(root: Path) -> None:
    """The 160-pixel version's folders."""
    for split, per_class in (("train", 12), ("val", 4)):
        write_class_folders(root / "imagenette2-160" / split, IMAGENETTE_CLASSES, per_class)


def write_imagenet(root: Path, train_per_class: int = 12) -> None:
    """Two classes of ImageNet; files are links to a few images, so that hundreds are cheap."""
    classes = ["n01440764", "n02102040"]
    write_class_folders(root / "imagenet" / "val", classes, 4)
    for name in classes:
        (root / "imagenet" / "train" / name).mkdir(parents=True)
        originals = sorted((root / "imagenet" / "val" / name).iterdir())
        for number in range(train_per_class):
            link = root / "imagenet" / "train" / name / f"{name}_{number:04d}.JPEG"
            link.hardlink_to(originals[number % len(originals)])


def write_npz(path: Path, colour: bool = True, **changed: object) -> Path:
    """x_train, y_train, x_test, y_test; ``changed`` replaces an array, or drops it where it is None."""
    (x_train, y_train), (x_test, y_test) = pictures(12, 12, colour=colour), pictures(12, 4, colour=colour)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, **changed}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path
