"""Data sets: every layout that can be read, splits that never change, and errors that say what to do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torchvision.datasets import ImageFolder

from benchmark.data import DataSet, DataSpec, Points, datasets_table, load, points
from benchmark.data.datasets import SOURCES, check_source, ranks_in_class
from benchmark.data.folders import class_folders
from benchmark.data.images import statistics, stratified
from benchmark.data.spec import hold_out
from benchmark.runtime.errors import UserError
from tests.benchmark import layouts


def read(source: str, root: Path | str = "nowhere", **spec: object) -> DataSet:
    return load(DataSpec(source=source, **spec), Path(root))


def shape(data: DataSet) -> tuple[int, int, int, int]:
    return len(data.train), len(data.labelled), len(data.tune), len(data.test)


@given(st.lists(st.integers(0, 4), min_size=10, max_size=200), st.floats(0, 1))
def test_a_stratified_part_has_its_size_and_every_class_its_share(labels: list[int], fraction: float) -> None:
    labels_N = np.array(labels)
    size = round(fraction * len(labels))
    inside, outside = stratified(labels_N, size)
    assert len(inside) == size
    assert np.array_equal(np.sort(np.concatenate([inside, outside])), np.arange(len(labels)))
    for label in set(labels):
        share = size * np.mean(labels_N == label)
        assert abs(np.sum(labels_N[inside] == label) - share) < 1


def test_the_split_of_digits_is_this_one_for_ever() -> None:
    data = read("digits")
    assert shape(data) == (1167, 1167, 130, 500)
    assert data.labelled is data.train
    assert np.bincount(data.test.labels).tolist() == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]
    # The sum of a split's pixels changes with any image that changes places.
    sums = [int(images.pixels.long().sum()) for images in (data.train, data.tune, data.test)]
    assert sums == [5827299, 651454, 2475048]


def test_no_image_is_in_two_splits() -> None:
    data = read("digits")
    rows = torch.cat([images.pixels.flatten(1) for images in (data.train, data.tune, data.test)])
    assert len(rows) == 1797
    assert len(rows.unique(dim=0)) == len(torch.from_numpy(load_digits().data).unique(dim=0))


def test_digits_are_those_of_scikit_learn() -> None:
    data, digits = read("digits"), load_digits()
    labels = {image.tobytes(): label for image, label in zip(digits.data, digits.target, strict=True)}
    for images in (data.train, data.tune, data.test):
        shades_ND = (images.pixels.flatten(1).double() * 16 / 255).round().numpy()
        assert [labels[image.tobytes()] for image in shades_ND] == images.labels.tolist()


def test_pixels_of_digits_use_the_whole_range_and_its_mean_is_as_listed() -> None:
    data = read("digits")
    assert data.train.pixels.shape[1:] == (1, 8, 8)
    assert (int(data.train.pixels.min()), int(data.train.pixels.max())) == (0, 255)
    mean, std = statistics(torch.cat([data.train.pixels, data.tune.pixels]))
    assert data.mean == (round(mean[0], 4),)
    assert data.std == (round(std[0], 4),)


def test_a_limit_keeps_a_stratified_part_of_the_training_images_only() -> None:
    whole, cut = read("digits"), read("digits", limit=50)
    assert shape(cut) == (50, 50, 130, 500)
    assert set(np.bincount(cut.train.labels)) == {5}
    assert torch.equal(cut.tune.pixels, whole.tune.pixels)
    assert shape(read("digits", limit=5000)) == shape(whole)


def test_with_nothing_held_out_all_images_are_trained_on() -> None:
    data = read("digits", tune_fraction=0.0)
    assert shape(data) == (1297, 1297, 0, 500)
    assert data.tune.pixels.shape[1:] == (1, 8, 8)
    assert torch.equal(data.test.pixels, read("digits").test.pixels)
    for fraction in (-0.1, 1.0):
        with pytest.raises(ValidationError):
            DataSpec(source="digits", tune_fraction=fraction)


def test_a_class_of_few_images_has_none_to_tune_on_and_may_not_be_left_none_to_train_on() -> None:
    data = read("digits", tune_fraction=0.001)
    assert (len(data.tune), len(np.unique(data.labelled.labels))) == (1, 10)
    for labels in ([0] * 1000 + [1] * 1000 + [2] * 2, [0] * 100 + [1] * 100 + [2]):
        inside, outside = hold_out(np.array(labels), 0.1)
        assert set(np.array(labels)[outside]) == {0, 1, 2}
        assert set(np.array(labels)[inside]) == {0, 1}
    with pytest.raises(UserError, match=r"data\.tune_fraction 0\.9 leaves class cat, of 3 images, none for training"):
        hold_out(np.array([0, 1] * 3), 0.9, ("cat", "dog"))


@pytest.mark.parametrize(("source", "folder"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST")])
def test_mnist_and_fashionmnist_are_read(source: str, folder: str, tmp_path: Path) -> None:
    layouts.write_mnist(tmp_path, folder)
    data = read(source, tmp_path)
    images, labels = layouts.pictures(28, 4, colour=False)
    assert shape(data) == (108, 108, 12, 40)
    assert torch.equal(data.test.pixels[:, 0], torch.from_numpy(images))
    assert np.array_equal(data.test.labels, labels)


def test_emnists_letters_are_upright_and_counted_from_zero(tmp_path: Path) -> None:
    layouts.write_emnist(tmp_path)
    data = read("emnist", tmp_path)
    images, labels = layouts.pictures(28, 4, colour=False)
    assert shape(data) == (108, 108, 12, 40)
    assert (data.classes, data.channels, data.image_size) == (26, 1, 28)
    assert torch.equal(data.test.pixels[:, 0], torch.from_numpy(images))
    assert np.array_equal(data.test.labels, labels)


@pytest.mark.parametrize(("source", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_read(source: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_cifar(tmp_path, monkeypatch, classes)
    data = read(source, tmp_path)
    images, labels = layouts.pictures(32, 4)
    assert shape(data) == (108, 108, 12, 40)
    assert (data.classes, data.channels, data.image_size) == (classes, 3, 32)
    assert torch.equal(data.test.pixels, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert np.array_equal(data.test.labels, labels)


def test_the_training_images_of_cifar10_are_one_data_set_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.write_cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    source = replace(SOURCES["cifar10_train"], test_images=24)
    monkeypatch.setitem(SOURCES, "cifar10_train", source)
    with pytest.raises(UserError, match=r"cifar-10-batches-py holds other images \(digest (\w{16})\)") as caught:
        read("cifar10_train", tmp_path)
    digest = str(caught.value).split()[-1].strip("()")
    monkeypatch.setitem(SOURCES, "cifar10_train", replace(source, content=digest))
    named = read("cifar10_train", tmp_path)
    # The batches take turns with the images.
    order = np.concatenate([np.arange(part, 120, 5) for part in range(5)])
    images, labels = (array[order] for array in layouts.pictures(32, 12))
    arrays = {"x_train": images[:96], "y_train": labels[:96], "x_test": images[96:], "y_test": labels[96:]}
    np.savez(tmp_path / "own.npz", **arrays)
    own = DataSpec(source=f"npz:{tmp_path / 'own.npz'}").identified()
    assert own.digest == DataSpec(source="cifar10_train").identified().digest
    assert own.digest != DataSpec(source="cifar10").identified().digest
    for split in ("train", "tune", "test"):
        ours, theirs = getattr(named, split), getattr(load(own, tmp_path), split)
        assert torch.equal(ours.pixels, theirs.pixels)
        assert np.array_equal(ours.labels, theirs.labels)
    assert (named.mean, named.std) == (load(own, tmp_path).mean, load(own, tmp_path).std)
    assert torch.equal(named.test.pixels, torch.from_numpy(images[96:]).permute(0, 3, 1, 2))


def test_stl10_pretrains_on_its_unlabelled_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_stl10(tmp_path, monkeypatch)
    data = read("stl10", tmp_path)
    images, labels = layouts.pictures(96, 4)
    assert shape(data) == (200, 108, 12, 40)
    assert set(data.train.labels) == {-1}
    assert set(data.labelled.labels) == set(range(10))
    assert torch.equal(data.test.image(7), torch.from_numpy(images[7]).permute(2, 0, 1))
    assert np.array_equal(data.test.labels, labels)
    assert shape(read("stl10", tmp_path, limit=50)) == (50, 50, 12, 40)
    assert shape(read("stl10", tmp_path, tune_fraction=0.0)) == (200, 120, 0, 40)


def test_imagenette_is_read_and_decoded_when_asked_for(tmp_path: Path) -> None:
    layouts.write_imagenette(tmp_path)
    data = read("imagenette", tmp_path)
    assert shape(data) == (108, 108, 12, 40)
    assert data.train.pixels is None
    assert data.train.image(0).shape == (3, 40, 38)
    assert data.train.image(0).dtype == torch.uint8


@pytest.mark.parametrize(
    ("source", "tuned", "classes"),
    [
        ("food101", 1, ("apple_pie", "waffles")),
        ("dtd", 6, ("banded", "zigzagged")),
        ("pets", 1, ("Abyssinian", "Yorkshire Terrier")),
        ("aircraft", 6, ("707-320", "Yak 42")),
        ("cars", 1, ("AM General", "smart fortwo")),
    ],
)
def test_photographs_in_files_are_read(source: str, tuned: int, classes: tuple[str, ...], tmp_path: Path) -> None:
    """Eight to train on and four to test on; six to tune on where there are such, a tenth of the eight otherwise."""
    getattr(layouts, f"write_{source}")(tmp_path)
    data = read(source, tmp_path)
    trained = 8 if tuned == 6 else 7
    assert shape(data) == (trained, trained, tuned, 4)
    assert (data.classes, data.class_names, data.channels, data.image_size) == (2, classes, 3, 224)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    assert data.test.image(3).shape == (3, 24, 22)
    images = [images.image(0) for images in (data.train, data.tune, data.test)]
    assert all(image.dtype == torch.uint8 for image in images)
    names = [{Path(path.decode()) for path in images.paths} for images in (data.train, data.tune, data.test)]
    assert sum(map(len, names)) == len(set.union(*names)) == sum(shape(data)[1:])


def test_flowers_are_read_by_their_official_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_flowers102(tmp_path, monkeypatch)
    data = read("flowers102", tmp_path, tune_fraction=0.0)
    assert shape(data) == (8, 8, 6, 4)
    assert (data.classes, data.class_names[0]) == (102, "pink primrose")
    assert data.test.labels.tolist() == [0, 0, 101, 101]
    assert [Path(path.decode()).name for path in data.tune.paths[:2]] == ["image_00009.jpg", "image_00010.jpg"]


def test_svhn_is_read_and_its_class_ten_is_the_digit_nought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_svhn(tmp_path, monkeypatch)
    data = read("svhn", tmp_path)
    images, labels = layouts.pictures(32, 4)
    assert shape(data) == (108, 108, 12, 40)
    assert torch.equal(data.test.pixels, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert np.array_equal(data.test.labels, labels)


def test_voc_has_several_labels_and_all_of_trainval_to_train_on(tmp_path: Path) -> None:
    layouts.write_voc07(tmp_path)
    data = read("voc07", tmp_path)
    assert shape(data) == (24, 24, 0, 24)
    assert (data.classes, data.class_names, data.several_labels) == (4, ("class0", "class1", "class2", "class3"), True)
    assert set(data.labelled.labels) == {-1}
    assert data.test.present[:4].tolist() == [[1, -1, -1, 1], [-1, 1, -1, -1], [0, 1, 1, -1], [-1, -1, -1, 1]]
    assert data.test.subset(np.array([2])).present.tolist() == [[0, 1, 1, -1]]
    assert data.test.image(0).shape == (3, 24, 22)


def test_the_twentieth_of_imagenet_and_its_tuning_part_are_the_published_files(tmp_path: Path) -> None:
    layouts.write_imagenet(tmp_path, train_per_class=530)
    data = read("imagenet20", tmp_path)
    assert shape(data) == (520, 520, 520, 8)
    numbers = [int(Path(path.decode()).stem.split("_")[1]) for path in data.train.paths]
    assert numbers == [*range(260), *range(260)]
    numbers = [int(Path(path.decode()).stem.split("_")[1]) for path in data.tune.paths]
    assert numbers == [*range(261, 521), *range(261, 521)]
    assert shape(read("imagenet20", tmp_path, tune_fraction=0.0)) == shape(data)
    assert shape(read("imagenet", tmp_path)) == (954, 954, 106, 8)
    assert shape(read("imagenet", tmp_path, tune_fraction=0.0)) == (1060, 1060, 0, 8)


def test_imagenet20_says_where_there_are_too_few_images(tmp_path: Path) -> None:
    layouts.write_imagenet(tmp_path, train_per_class=261)
    with pytest.raises(UserError, match="needs more than 261 images of every class"):
        read("imagenet20", tmp_path)


@pytest.mark.parametrize("name", ["imagenet", "imagenette", "food101", "voc07"])
def test_an_image_of_a_named_data_set_whose_header_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    getattr(layouts, f"write_{name}")(tmp_path)
    assert len(load(DataSpec(source=name, tune_fraction=0), tmp_path).train)
    torn = sorted(path for path in tmp_path.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[-1]
    torn.unlink()
    torn.write_bytes(b"torn")
    with pytest.raises(UserError, match=rf"\Aimage {torn} cannot be read: [^\n]+\Z"):
        load(DataSpec(source=name, tune_fraction=0), tmp_path)


def test_images_are_ranked_within_their_classes() -> None:
    assert ranks_in_class(np.array([1, 0, 1, 0, 0, 1])).tolist() == [0, 0, 1, 1, 2, 2]


_DOWNLOADED = ["mnist", "fashionmnist", "emnist", "cifar10", "cifar10_train", "cifar100", "stl10", "imagenette", "svhn"]


@pytest.mark.parametrize("source", [*_DOWNLOADED, "food101", "flowers102", "dtd", "pets", "aircraft", "voc07"])
def test_a_missing_data_set_says_where_it_looked_and_how_to_get_it(source: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(source, tmp_path / "data")
    message = str(caught.value)
    assert message.startswith(f"data set {source} cannot be read from {tmp_path / 'data'}: Dataset not found")
    assert message.endswith("; get it with --download")


@pytest.mark.parametrize(
    ("source", "place"), [("imagenet", "imagenet"), ("imagenet20", "imagenet"), ("cars", "stanford_cars")]
)
@pytest.mark.parametrize("download", [True, False])
def test_what_nobody_can_download_says_how_to_lay_it_out(
    source: str, place: str, download: bool, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"there is no folder {place}; get it by hand.*: DATA_ROOT/{place}/"):
        load(DataSpec(source=source), tmp_path, download=download)


def test_a_damaged_data_set_is_named(tmp_path: Path) -> None:
    layouts.write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0")
    with pytest.raises(UserError, match="data set mnist cannot be read from"):
        read("mnist", tmp_path)


def test_a_failed_download_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", f"file://{tmp_path}/absent.tar.gz")
    with pytest.raises(UserError, match="data set cifar10 cannot be read from") as caught:
        load(DataSpec(source="cifar10"), tmp_path, download=True)
    assert "--download" not in str(caught.value)


@pytest.mark.parametrize("colour", [True, False])
def test_an_npz_file_is_read(colour: bool, tmp_path: Path) -> None:
    path = layouts.write_npz(tmp_path / "own.npz", colour)
    data = read(f"npz:{path}")
    images, labels = layouts.pictures(12, 4, colour=colour)
    assert shape(data) == (108, 108, 12, 40)
    assert (data.classes, data.channels, data.image_size) == (10, 3 if colour else 1, 12)
    expected = torch.from_numpy(images).permute(0, 3, 1, 2) if colour else torch.from_numpy(images).unsqueeze(1)
    assert torch.equal(data.test.pixels, expected)
    assert np.array_equal(data.test.labels, labels)


def test_an_npz_file_is_normalised_by_its_training_pixels(tmp_path: Path) -> None:
    data = read(f"npz:{layouts.write_npz(tmp_path / 'own.npz')}")
    pixels = layouts.pictures(12, 12)[0] / 255
    assert data.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-12)
    assert data.std == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-12)


def test_a_constant_channel_is_only_centred() -> None:
    assert statistics(torch.full((4, 1, 3, 3), 51, dtype=torch.uint8)) == (pytest.approx((0.2,)), (1.0,))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_test": None}, "has no array x_test, must hold x_train, y_train, x_test, y_test"),
        ({"x_train": np.zeros((120, 12, 12))}, "x_train has dtype float64, only uint8"),
        ({"x_train": np.zeros((120, 12), np.uint8)}, r"x_train has shape \(120, 12\)"),
        ({"x_train": np.zeros((120, 12, 12, 4), np.uint8)}, r"x_train has shape \(120, 12, 12, 4\)"),
        ({"x_test": np.zeros((40, 9, 9, 3), np.uint8)}, "images of x_train have shape"),
        ({"y_train": np.zeros(120)}, "y_train has dtype float64"),
        ({"y_train": np.zeros(119, np.int64)}, "must be 120 integers"),
        ({"y_train": np.arange(120) % 10 * 2}, "y_train must hold every label from 0 to K-1"),
        ({"y_train": np.zeros(120, np.int64)}, "K at least 2"),
        ({"y_test": np.full(40, 10)}, "y_test holds 10, which y_train has not"),
        ({"x_train": np.array([object()] * 120)}, "is not a readable npz file of plain arrays"),
    ],
)
def test_a_wrong_array_is_named(changed: dict[str, object], message: str, tmp_path: Path) -> None:
    path = layouts.write_npz(tmp_path / "own.npz", **changed)
    with pytest.raises(UserError, match=message) as caught:
        read(f"npz:{path}")
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_npz_is_named(tmp_path: Path) -> None:
    whole = layouts.write_npz(tmp_path / "own.npz").read_bytes()
    for content in (b"not an archive", b"", whole[: len(whole) // 2], whole[:300] + b"?" * 300 + whole[600:]):
        (tmp_path / "torn.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"torn\.npz is not a readable npz file"):
            read(f"npz:{tmp_path / 'torn.npz'}")
    with pytest.raises(UserError, match="there is no such file"):
        read(f"npz:{tmp_path / 'absent.npz'}")


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_folder_is_read(held_out: str, tmp_path: Path) -> None:
    layouts.write_class_folders(tmp_path / "train", ["cat", "dog"], 12)
    layouts.write_class_folders(tmp_path / held_out, ["cat", "dog"], 4)
    data = read(f"folder:{tmp_path}", tune_fraction=0.25, image_size=32)
    assert shape(data) == (18, 18, 6, 8)
    assert (data.classes, data.channels, data.image_size) == (2, 3, 32)
    assert data.test.labels.tolist() == [0] * 4 + [1] * 4


def test_a_folder_without_its_parts_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        read(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(UserError, match=r"train must hold a folder of images for every class"):
        read(f"folder:{tmp_path}")
    layouts.write_class_folders(tmp_path / "train", ["cat", "dog"], 4)
    layouts.write_class_folders(tmp_path / "val", ["cat", "cow"], 4)
    with pytest.raises(UserError, match="class cow is in only one of"):
        read(f"folder:{tmp_path}")
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(UserError, match=r"train must hold a folder of images for every class; class empty has none"):
        read(f"folder:{tmp_path}")


def test_images_in_folders_are_listed_as_torchvision_lists_them(tmp_path: Path) -> None:
    layouts.write_class_folders(tmp_path / "train", ["b", "a"], 3)
    layouts.write_class_folders(tmp_path / "elsewhere", ["c"], 2)
    layouts.write_class_folders(tmp_path / "train" / "a", ["a10", "a2"], 1)
    (tmp_path / "train" / "linked").symlink_to(tmp_path / "elsewhere" / "c")
    (tmp_path / "train" / "b" / "more").symlink_to(tmp_path / "elsewhere" / "c")
    for name in ("a/notes.txt", "a/.hidden", "a/A.PNG", "b/z.webp", "stray.jpg"):
        (tmp_path / "train" / name).write_bytes(b"")
    theirs = ImageFolder(tmp_path / "train")
    found = class_folders(tmp_path / "train").images
    assert list(found) == theirs.classes == ["a", "b", "linked"]
    assert [(path, label) for label, paths in enumerate(found.values()) for path in paths] == theirs.samples


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0" + b"\0" * 40, None])
def test_an_unreadable_image_is_named(content: bytes | None, tmp_path: Path) -> None:
    for split in ("train", "val"):
        layouts.write_class_folders(tmp_path / split, ["cat", "dog"], 4)
    data = read(f"folder:{tmp_path}", tune_fraction=0.25)
    torn = tmp_path / "val" / "dog" / "dog_0002.JPEG"
    torn.write_bytes(torn.read_bytes()[:600] if content is None else content)
    with pytest.raises(UserError, match=f"image {torn} cannot be read"):
        data.test.image(6)


def test_images_of_other_modes_become_colour(tmp_path: Path) -> None:
    for split in ("train", "val"):
        layouts.write_class_folders(tmp_path / split, ["cat", "dog"], 2)
    for number, mode in enumerate(("L", "CMYK")):
        path = tmp_path / "val" / "cat" / f"cat_000{number}.JPEG"
        Image.open(path).convert(mode).save(path)
    data = read(f"folder:{tmp_path}", tune_fraction=0.5)
    assert [data.test.image(index).shape[0] for index in range(4)] == [3] * 4


def test_spirals_are_points_always_the_same_on_three_arms() -> None:
    data, again = read("spirals"), read("spirals")
    assert isinstance(data.train, Points)
    assert (len(data.train), len(data.labelled), len(data.test), data.classes) == (337, 337, 375, 3)
    np.testing.assert_array_equal(data.test.rows, again.test.rows)
    assert not np.array_equal(np.sort(data.test.rows[:, 0])[:337], np.sort(data.train.rows[:, 0]))
    # An arm turned by a third of a circle is the next one, to the jitter.
    turn = np.array([[np.cos(2 * np.pi / 3), np.sin(2 * np.pi / 3)], [-np.sin(2 * np.pi / 3), np.cos(2 * np.pi / 3)]])
    first, second = (data.test.rows[data.test.labels == arm] for arm in (0, 1))
    assert np.abs(first @ turn - second).max() < 0.15
    with pytest.raises(UserError, match="points have no images"):
        data.train.image(0)


@pytest.mark.parametrize(("source", "circles"), [("circle", 1), ("torus", 2)])
def test_points_on_circles_are_always_the_same_uniform_ones(source: str, circles: int) -> None:
    data, again = read(source, tune_fraction=0.0), read(source, tune_fraction=0.0)
    np.testing.assert_array_equal(data.train.rows, again.train.rows)
    assert data.train.rows.shape == (1000, 2 * circles)
    np.testing.assert_allclose((data.test.rows.reshape(2000, circles, 2) ** 2).sum(axis=2), 1)
    assert np.abs(data.test.rows.mean(axis=0)).max() < 0.05
    assert (np.bincount(data.test.labels) > 450).all()
    first = np.arctan2(data.train.rows[:, 1], data.train.rows[:, 0]) % (2 * np.pi)
    np.testing.assert_array_equal(data.train.labels, first // (np.pi / 2))


def test_mnists_plane_holds_its_images_by_their_leading_components(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "IN_PLANE", 60)
    layouts.write_mnist(tmp_path)
    data = read("mnist_plane", tmp_path, tune_fraction=0.0)
    np.testing.assert_array_equal(data.train.rows, data.test.rows)
    pixels, labels = layouts.pictures(28, 12, colour=False)
    some, _ = stratified(labels, 60)
    np.testing.assert_array_equal(data.train.labels, labels[some])
    centred = pixels[some].reshape(60, -1) / 255 - (pixels[some].reshape(60, -1) / 255).mean(axis=0)
    sigma = np.linalg.svd(centred, compute_uv=False)[:2]
    np.testing.assert_allclose(np.linalg.svd(data.train.rows, compute_uv=False), sigma / np.hypot(*sigma) * 60**0.5)


def test_an_unknown_source_lists_what_there_is() -> None:
    for source in ("imagnet", "npz:", "NPZ:x"):
        with pytest.raises(UserError, match=r"data\.source: is .* must be one of digits, mnist, .* npz:PATH, folder"):
            check_source(source)
    for row in datasets_table():
        check_source(row["name"])
        assert row["how to get"]


def test_the_numbers_of_images_are_the_data_sets_own() -> None:
    expected = {
        "digits": (1297, 1297, 500),
        "mnist": (60_000, 60_000, 10_000),
        "fashionmnist": (60_000, 60_000, 10_000),
        "emnist": (124_800, 124_800, 20_800),
        "cifar10": (50_000, 50_000, 10_000),
        "cifar10_train": (40_000, 40_000, 10_000),
        "cifar100": (50_000, 50_000, 10_000),
        "stl10": (100_000, 5000, 8000),
        "imagenette": (9469, 9469, 3925),
        "imagenet": (1_281_167, 1_281_167, 50_000),
        "imagenet20": (260_000, 260_000, 50_000),
        "svhn": (73_257, 73_257, 26_032),
        "food101": (75_750, 75_750, 25_250),
        "flowers102": (1020, 1020, 6149),
        "dtd": (1880, 1880, 1880),
        "pets": (3680, 3680, 3669),
        "aircraft": (3334, 3334, 3333),
        "cars": (8144, 8144, 8041),
        "voc07": (5011, 5011, 4952),
        "spirals": (375, 375, 375),
        "circle": (1000, 1000, 2000),
        "torus": (1000, 1000, 2000),
        "mnist_plane": (1000, 1000, 1000),
    }
    found = {name: (own.train_images(), own.labelled_images, own.test_images) for name, own in SOURCES.items()}
    assert found == expected
    told = {row["name"]: row["images"] for row in datasets_table()}
    assert told["digits"] == "1,297 + 500"
    assert told["stl10"] == "100,000 unlabelled, 5,000 + 8,000"
    assert told["imagenet20"] == "260,000 + 50,000, and 260,000 for tuning"
    assert told["spirals"] == "375 + 375 points"
    assert {name for name, own in SOURCES.items() if own.train_images(0.1) == own.train_images()} == {
        *("stl10", "imagenet20", "flowers102", "dtd", "aircraft", "voc07"),
    }
    for name in ("digits", "spirals", "circle", "torus"):
        data = read(name, tune_fraction=0.0)
        assert (len(data.train), len(data.labelled), len(data.test)) == expected[name]


def test_checking_a_name_imports_no_library_of_data_sets() -> None:
    code = (
        "import sys; from benchmark.data.datasets import check_source; check_source('stl10'); "
        "sys.exit(bool({'torchvision', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
