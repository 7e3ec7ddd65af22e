"""Folders of images: what counts, and that nothing is left out, or counted twice, without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import DataSet, DataSpec, load
from benchmark.data.folders import IMAGE_SUFFIXES, class_folders, told
from benchmark.data.own import content_of
from benchmark.runtime.errors import UserError
from tests.benchmark import layouts


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split, per_class in (("train", 6), ("test", 2)):
        layouts.write_class_folders(tmp_path / "photos" / split, ["cat", "dog"], per_class)
    return tmp_path / "photos"


def read(photos: Path) -> DataSet:
    return load(DataSpec(source=f"folder:{photos}", tune_fraction=0.0, image_size=16), Path("nowhere"))


def test_every_suffix_that_counts_is_read(photos: Path) -> None:
    image = Image.fromarray(np.full((20, 20, 3), 77, dtype=np.uint8))
    for place, suffix in enumerate(sorted(IMAGE_SUFFIXES)):
        path = photos / "train" / "cat" / f"new-{place}{suffix.upper()}"
        (image.convert("L") if suffix == ".pgm" else image).save(path, quality=100)
    data = read(photos)
    assert len(data.train) == 12 + len(IMAGE_SUFFIXES)
    assert {".jfif", ".avif", ".jpg", ".png"} <= IMAGE_SUFFIXES
    for index in np.flatnonzero([b"new-" in path for path in data.train.paths]):
        pixels = data.train.image(int(index))
        if b".PBM" not in data.train.paths[index]:  # of one bit, dithered
            assert (pixels.int() - 77).abs().max() <= 2, data.train.paths[index]


def test_what_is_found_and_what_is_left_out_is_said(photos: Path) -> None:
    assert read(photos).found == f"folder:{photos}: train 12 (cat 6, dog 6), test 4 (cat 2, dog 2)"
    for name in ("a.heic", "b.HEIC", "notes"):
        (photos / "train" / "cat" / name).touch()
    (photos / "test" / "dog" / "c.heic").touch()
    (photos / "train" / "stray.jpg").touch()
    (photos / "val").mkdir()
    assert read(photos).found.partition("; left out: ")[2] == (
        "3 .heic (in test/dog and 1 more), 1 beside the classes (in train), "
        f"1 without a suffix (in train/cat), val ({photos / 'test'} is what is measured)"
    )


def test_classes_whose_names_read_alike_are_one(photos: Path) -> None:
    composed, decomposed = "bébé", "be\u0301be\u0301"
    (photos / "train" / "cat").rename(photos / "train" / composed)
    (photos / "test" / "cat").rename(photos / "test" / decomposed)
    assert read(photos).found.endswith(f"train 12 ({composed} 6, dog 6), test 4 ({composed} 2, dog 2)")


def test_of_many_classes_the_smallest_and_the_largest_are_told(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(20), 3)
    images = np.zeros((60, 8, 8), dtype=np.uint8)
    more = {"x_train": np.concatenate([images, images[:4]]), "y_train": np.append(labels, [7, 7, 7, 9])}
    path = layouts.write_npz(tmp_path / "own.npz", **more, x_test=images, y_test=labels)
    data = load(DataSpec(source=f"npz:{path}", tune_fraction=0.0), Path("nowhere"))
    assert data.found == (
        f"npz:{path}: train 64 in 20 classes of 3 (0) to 6 (7), test 60 in 20 classes of 3 (0) to 3 (0)"
    )


def test_data_that_are_always_the_same_need_no_word() -> None:
    assert load(DataSpec(source="digits"), Path("nowhere")).found == ""


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", "@eaDir"])
def test_hidden_files_and_folders_are_no_data(hidden: str, photos: Path) -> None:
    before, content = read(photos).train.paths, content_of(f"folder:{photos}")
    original = photos / "train" / "cat" / "cat_0000.JPEG"
    for folder in (photos / "train" / hidden, photos / "train" / "cat" / hidden, photos / "train" / "dog" / hidden):
        folder.mkdir()
        (folder / "cat_0000-checkpoint.JPEG").write_bytes(original.read_bytes())
    (photos / "train" / "cat" / "._cat_0000.JPEG").write_bytes(b"resource fork")
    data = read(photos)
    assert np.array_equal(data.train.paths, before)
    assert data.classes == 2
    assert data.found.endswith("; left out: 4 hidden (in train and 2 more)")
    assert content_of(f"folder:{photos}") == content


def test_a_link_to_a_folder_above_counts_no_image_again(photos: Path) -> None:
    before = read(photos).train.paths
    for target in (photos, photos / "train", photos / "train" / "cat", photos.parent):
        (photos / "train" / "cat" / f"up-{target.name}").symlink_to(target)
    (photos / "train" / "self").symlink_to(photos / "train")
    data = read(photos)
    assert np.array_equal(data.train.paths, before)
    assert data.found.endswith("left out: 5 by a second link (in train/cat and 1 more)")


def test_a_class_that_holds_a_folder_by_two_names_has_its_images_once(photos: Path, tmp_path: Path) -> None:
    layouts.write_class_folders(tmp_path / "elsewhere", ["cat"], 3)
    for name in ("b", "a"):
        (photos / "train" / "cat" / name).symlink_to(tmp_path / "elsewhere" / "cat")
    (photos / "train" / "cat" / "a" / "back").symlink_to(photos / "train" / "cat")
    found = class_folders(photos / "train")
    assert [path for path in found.images["cat"] if "/a/" in path or "/b/" in path] == [
        f"{photos}/train/cat/a/cat_{number:04d}.JPEG" for number in range(3)
    ]
    assert told(found.left_out) == "2 by a second link (in train/cat)"


def test_a_class_without_an_image_says_what_lies_there(photos: Path) -> None:
    (photos / "train" / "eel").mkdir()
    (photos / "train" / "eel" / "eel.heic").touch()
    with pytest.raises(UserError, match=r"class eel has none; left out: 1 \.heic \(in train/eel\)$"):
        read(photos)


def test_an_image_that_cannot_be_one_is_told_of_before_it_is_read(photos: Path, tmp_path: Path) -> None:
    read(photos)
    torn = photos / "test" / "dog" / "dog_0001.JPEG"
    for make in (lambda: torn.touch(), lambda: torn.symlink_to(tmp_path / "nowhere"), lambda: torn.write_text("no")):
        torn.unlink()
        make()
        with pytest.raises(UserError, match=f"^image {torn} (is empty|cannot be read: .+)$"):
            read(photos)
