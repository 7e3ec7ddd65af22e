"""Small data sets of real digits, laid out on disk as the large ones are."""

from __future__ import annotations

import json
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


def _save(paths: list[Path], label: int) -> None:
    """Pictures of one class, at these places."""
    images = pictures(24, 10)[0][10 * (label % 10) :][: len(paths)]
    for path, image in zip(paths, images, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, 2:]).save(path)


# Images of each class to train, to tune and to test on, in the data sets that follow.
FEW = {"train": 4, "val": 3, "test": 2}


def write_food101(root: Path) -> None:
    """Lists of images by class, in JSON."""
    folder, classes = root / "food-101", ("apple_pie", "waffles")
    for split in ("train", "test"):
        listed = {name: [f"{name}/{split}{number}" for number in range(FEW[split])] for name in classes}
        for label, images in enumerate(listed.values()):
            _save([folder / "images" / f"{image}.jpg" for image in images], label)
        (folder / "meta").mkdir(exist_ok=True)
        (folder / "meta" / f"{split}.json").write_text(json.dumps(listed))


def write_flowers102(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All images in one folder; labels, from 1, and the numbers of each split in MATLAB's files."""
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    folder, labels, numbers = root / "flowers-102", [], {}
    for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        numbers[key] = [len(labels) + 1 + place for place in range(2 * FEW[split])]
        for label in (0, 101):
            images = [folder / "jpg" / f"image_{len(labels) + 1 + place:05d}.jpg" for place in range(FEW[split])]
            _save(images, label)
            labels += [label + 1] * FEW[split]
    savemat(folder / "imagelabels.mat", {"labels": labels})
    savemat(folder / "setid.mat", numbers)
    monkeypatch.setattr(
        Flowers102, "_file_dict", {key: (name, None) for key, (name, _) in Flowers102._file_dict.items()}
    )


def write_dtd(root: Path) -> None:
    """Lists of each split of the first partition; the folder is there twice."""
    folder = root / "dtd" / "dtd"
    for split, count in FEW.items():
        images = [f"{name}/{name}_{split}{number}.jpg" for name in ("banded", "zigzagged") for number in range(count)]
        for label in (0, 1):
            _save([folder / "images" / image for image in images[label * count :][:count]], label)
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"{split}1.txt").write_text("\n".join(images) + "\n")


def write_pets(root: Path) -> None:
    """Lists of name, class, cat or dog, and breed; cats are capitals."""
    folder = root / "oxford-iiit-pet"
    for split in ("trainval", "test"):
        lines = []
        for label, name in enumerate(("Abyssinian", "yorkshire_terrier")):
            names = [f"{name}_{split}{number}" for number in range(FEW[split.removesuffix("val")])]
            _save([folder / "images" / f"{image}.jpg" for image in names], label)
            lines += [f"{image} {label + 1} {label + 1} 1" for image in names]
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")


def write_aircraft(root: Path) -> None:
    """Lists of number and variant, which has spaces."""
    folder, variants = root / "fgvc-aircraft-2013b" / "data", ("707-320", "Yak 42")
    for split, count in FEW.items():
        lines = []
        for label, variant in enumerate(variants):
            names = [f"{label}{split}{number}" for number in range(count)]
            _save([folder / "images" / f"{name}.jpg" for name in names], label)
            lines += [f"{name} {variant}" for name in names]
        (folder / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
    (folder / "variants.txt").write_text("\n".join(variants) + "\n")


def write_cars(root: Path) -> None:
    """MATLAB's files of annotations, classes from 1."""
    from scipy.io import savemat

    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    savemat(
        folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["AM General", "smart fortwo"], dtype=object)}
    )
    places = {"train": folder / "devkit" / "cars_train_annos.mat", "test": folder / "cars_test_annos_withlabels.mat"}
    for split, place in places.items():
        found = []
        for label in (0, 1):
            names = [f"{label}{number:04d}.jpg" for number in range(FEW[split])]
            _save([folder / f"cars_{split}" / name for name in names], label)
            found += [(name, label + 1) for name in names]
        savemat(place, {"annotations": np.array(found, dtype=[("fname", object), ("class", object)])})


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MATLAB's arrays, images along the last axis; the digit 0 is class 10."""
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    (root / "svhn").mkdir(parents=True)
    for split, per_class in (("train", 12), ("test", 4)):
        images, labels = pictures(32, per_class)
        content = {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)}
        savemat(root / "svhn" / f"{split}_32x32.mat", content)
    unchecked = {split: [url, name, None] for split, (url, name, _) in SVHN.split_list.items()}
    monkeypatch.setattr(SVHN, "split_list", unchecked)


def write_voc07(root: Path, classes: int = 4, images: int = 24) -> None:
    """A list of each split, and one of each class and split: 1 there, -1 not, 0 difficult. Each image has a class more
    of its own, which is what it shows, and every fifth one that is difficult."""
    folder, names = root / "VOCdevkit" / "VOC2007", [f"class{number}" for number in range(classes)]
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for place, split in enumerate(("trainval", "test")):
        stems = [f"{place}{number:05d}" for number in range(images)]
        (lists / f"{split}.txt").write_text("\n".join(stems) + "\n")
        for number, stem in enumerate(stems):
            _save([folder / "JPEGImages" / f"{stem}.jpg"], number % classes)
        for label, name in enumerate(names):
            said = {0: 1, 1: 1 if label % 2 else -1, 2: 0 if label == 0 else -1}
            lines = [f"{stem} {said.get((number - label) % classes, -1):2d}" for number, stem in enumerate(stems)]
            (lists / f"{name}_{split}.txt").write_text("\n".join(lines) + "\n")


def write_npz(path: Path, colour: bool = True, **changed: object) -> Path:
    """x_train, y_train, x_test, y_test; ``changed`` replaces an array, or drops it where it is None."""
    (x_train, y_train), (x_test, y_test) = pictures(12, 12, colour=colour), pictures(12, 4, colour=colour)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, **changed}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path
