"""The listing of folders is made once, holds while they are as they were, and is made by one of several processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import DataSet, DataSpec, folders, listings, load
from benchmark.running.runner import data_loader
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution
from tests.benchmark import layouts, ranks

SPLITS = ("train", "val")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split in SPLITS:
        layouts.write_class_folders(tmp_path / "photos" / split, ["cat", "dog"], 4)
    return tmp_path / "photos"


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were scanned; what was just written counts as settled."""
    seen: list[Path] = []
    scan = folders.class_folders

    def noting(folder: Path) -> folders.ClassFolders:
        seen.append(folder)
        return scan(folder)

    monkeypatch.setattr(folders, "class_folders", noting)
    monkeypatch.setattr(listings, "SETTLED_NS", -(10**12))
    return seen


def spec_of(photos: Path) -> DataSpec:
    return DataSpec(source=f"folder:{photos}", content="0" * 16, tune_fraction=0.25)


def same(one: DataSet, other: DataSet) -> bool:
    plain = [
        {name: value for name, value in vars(data).items() if name not in ("train", "labelled", "tune", "test")}
        for data in (one, other)
    ]
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("train", "labelled", "tune", "test")]
    return plain[0] == plain[1] and all(
        np.array_equal(a.paths, b.paths) and np.array_equal(a.labels, b.labels) for a, b in pairs
    )


def test_a_listing_is_made_once_and_holds_while_the_folders_are_as_they_were(
    photos: Path, tmp_path: Path, scans: list[Path]
) -> None:
    (photos / "train" / "cat" / "cat.heic").touch()
    read = partial(load, spec_of(photos), tmp_path, listings=tmp_path / "runs")
    first = read()
    assert (len(scans), first.left_out) == (2, "1 .heic (in train/cat)")
    assert same(read(), first)
    assert len(scans) == 2
    (note,) = (tmp_path / "runs").iterdir()
    note.write_bytes(note.read_bytes()[:100])
    assert same(read(), first), "a note that is damaged is none"
    assert len(scans) == 4
    load(spec_of(photos).model_copy(update={"content": "1" * 16}), tmp_path, listings=tmp_path / "runs")
    assert len(scans) == 6, "other content, another listing"


CHANGES: dict[str, Callable[[Path], object]] = {
    "an image more": lambda path: shutil.copy(path / "val/dog/dog_0000.JPEG", path / "val/dog/new.JPEG"),
    "an image less": lambda path: (path / "train/cat/cat_0001.JPEG").unlink(),
    "another name": lambda path: (path / "train/cat/cat_0001.JPEG").rename(path / "train/cat/cat_0009.JPEG"),
    "a class more": lambda path: [shutil.copytree(path / split / "dog", path / split / "eel") for split in SPLITS],
    "test beside val": lambda path: shutil.copytree(path / "val", path / "test"),
    "a folder in a folder": lambda path: shutil.copytree(path / "val/cat", path / "val/cat/more"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_a_listing_is_noticed(change: str, photos: Path, tmp_path: Path, scans: list[Path]) -> None:
    read = partial(load, spec_of(photos), tmp_path, listings=tmp_path / "runs")
    before = read()
    CHANGES[change](photos)
    after = read()
    assert not same(before, after)
    assert same(after, load(spec_of(photos), tmp_path))


def test_named_folders_are_listed_once_too(tmp_path: Path, scans: list[Path]) -> None:
    layouts.write_imagenet(tmp_path, train_per_class=523)
    read = partial(load, DataSpec(source="imagenet20"), tmp_path, listings=tmp_path / "runs")
    first = read()
    assert same(read(), first)
    assert len(scans) == 2
    assert len(first.tune) == 2 * 260


def test_folders_that_changed_a_moment_ago_are_not_kept(
    photos: Path, tmp_path: Path, scans: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "SETTLED_NS", 3_600_000_000_000)
    load(spec_of(photos), tmp_path, listings=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("fault", [False, True])
def test_of_several_processes_one_lists_and_all_know(
    fault: bool, photos: Path, tmp_path: Path, scans: list[Path]
) -> None:
    if fault:
        (photos / "val" / "dog" / "dog_0001.JPEG").write_bytes(b"")

    def work(this: Process) -> None:
        data = data_loader(Execution(), tmp_path / "runs", this, Requests(), print)
        try:
            found = data(spec_of(photos))
            told = f"{len(found.train)} {found.train.image(0).shape}"
        except UserError as error:
            told = str(error)
        (tmp_path / f"rank-{this.rank}").write_text(f"{len(scans)} {told}")

    assert ranks.together(2, work) == [0, 0]
    first, second = ((tmp_path / f"rank-{rank}").read_text().partition(" ")[::2] for rank in (0, 1))
    assert (first[0], second[0]) == ("2", "0")
    assert first[1] == second[1]
    assert ("is empty" in first[1]) is fault
