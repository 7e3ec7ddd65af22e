"""torchvision's data sets whose images lie in files: the paths and classes of a split, and VOC's several labels."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.images import FILE_IMAGE_SIZE, OF_IMAGENET, FileImages, Stored

# By name: torchvision's, and what it calls the splits to train, to tune and to test on.
SPLITS = {
    "food101": ("Food101", "train", "", "test"),
    "flowers102": ("Flowers102", "train", "val", "test"),
    "dtd": ("DTD", "train", "val", "test"),  # the first of its ten partitions
    "pets": ("OxfordIIITPet", "trainval", "", "test"),
    "aircraft": ("FGVCAircraft", "train", "val", "test"),  # by variant
    "cars": ("StanfordCars", "train", "", "test"),
}
VOC07_FOLDER = Path("VOCdevkit") / "VOC2007"


def read_files(name: str, root: Path, download: bool) -> Stored:
    """The official splits of one of ``SPLITS``, that for validation as the images to tune on."""
    from torchvision import datasets

    torchvision_name, *names = SPLITS[name]
    read = partial(getattr(datasets, torchvision_name), root, download=download)
    train, tune, test = read(names[0]), read(names[1]) if names[1] else None, read(names[2])
    classes = tuple(map(str, train.classes))
    to_tune = None if tune is None else _images(tune)
    return Stored(
        _images(train), _images(test), len(classes), FILE_IMAGE_SIZE, *OF_IMAGENET, tune=to_tune, class_names=classes
    )


def _images(split: Any) -> FileImages:
    """What torchvision keeps of a split in attributes without a public name: tests on each layout hold them."""
    if hasattr(split, "_samples"):
        paths, labels = zip(*split._samples, strict=True)
    else:
        paths, labels = split._images if hasattr(split, "_images") else split._image_files, split._labels
    return FileImages(np.array([os.fsencode(path) for path in paths]), np.array(labels, dtype=np.int64))


def read_voc07(root: Path, download: bool) -> Stored:
    """``trainval`` to train on and ``test``; nothing to tune on, since C is chosen by folds of ``trainval``.

    Of every image and class: 1 present, -1 absent, 0 there but difficult to see.
    """
    from torchvision.datasets import VOCDetection

    lists, suffix = root / VOC07_FOLDER / "ImageSets" / "Main", "_trainval.txt"
    splits = {split: VOCDetection(root, "2007", split, download=download).images for split in ("trainval", "test")}
    classes = sorted(path.name.removesuffix(suffix) for path in lists.glob(f"*{suffix}"))
    train, test = (
        _voc_images(paths, [lists / f"{name}_{split}.txt" for name in classes]) for split, paths in splits.items()
    )
    nothing = train.subset(np.arange(0))
    return Stored(train, test, len(classes), FILE_IMAGE_SIZE, *OF_IMAGENET, tune=nothing, class_names=tuple(classes))


def _voc_images(paths: Sequence[str], lists: Sequence[Path]) -> FileImages:
    said = [dict(line.split() for line in path.read_text(encoding="utf-8").splitlines()) for path in lists]
    present_NC = np.array([[int(of_class[Path(path).stem]) for of_class in said] for path in paths], dtype=np.int8)
    no_label_N = np.full(len(paths), -1, dtype=np.int64)
    return FileImages(np.array([os.fsencode(path) for path in paths]), no_label_N, present_NC)
