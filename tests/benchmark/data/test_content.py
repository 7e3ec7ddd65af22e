"""Data of one's own is known by its content: not by path or compression, and never by what the cache once saw."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import DataSpec, own, remembered
from benchmark.data.own import content_of
from benchmark.runtime.errors import UserError
from benchmark.suite.config import Settings
from benchmark.suite.run import Run, compose
from tests.benchmark import layouts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone, where what was just written counts as settled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "SETTLED_NS", -1)
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whenever a file's bytes or arrays were read."""
    seen: list[object] = []

    def noting(read: Callable[..., object]) -> Callable[..., object]:
        def call(*of: object) -> object:
            seen.append(of)
            return read(*of)

        return call

    monkeypatch.setattr(own, "npz_arrays", noting(own.npz_arrays))
    monkeypatch.setattr("hashlib.file_digest", noting(hashlib.file_digest))
    return seen


def folder(path: Path, held_out: str = "val") -> Path:
    for split, per_class in (("train", 3), (held_out, 2)):
        layouts.write_class_folders(path / split, ["cat", "dog"], per_class)
    return path


def of_folder(path: Path) -> str | None:
    return content_of(f"folder:{path}")


def run_on(source: str) -> Run:
    settings: Settings = {"method": "raw_pixels", "data": {"source": source}, "evaluation": {"probes": ["knn"]}}
    return compose(settings, DataSpec.identified)


def test_a_named_data_set_has_no_content() -> None:
    assert content_of("digits") is None
    assert DataSpec(source="digits").identified() == DataSpec(source="digits")
    assert DataSpec(source="digits").canonical() == {
        "source": "digits",
        "tune_fraction": 0.1,
        "image_size": None,
        "limit": None,
    }


def test_one_npz_file_at_two_paths_is_one_data_set(tmp_path: Path) -> None:
    first = layouts.write_npz(tmp_path / "own.npz")
    second = Path(shutil.copy(first, tmp_path / "other.npz"))
    one, other = run_on(f"npz:{first}"), run_on(f"npz:{second}")
    assert one.network.digest == other.network.digest
    assert one.id == other.id
    assert [measurement.id for measurement in one.measurements] == [own.id for own in other.measurements]
    assert one.measurements[0].data.digest == other.measurements[0].data.digest


def test_a_recompressed_npz_file_is_the_same(tmp_path: Path) -> None:
    path = layouts.write_npz(tmp_path / "own.npz")
    with np.load(path) as arrays:
        np.savez_compressed(tmp_path / "small.npz", **{name: arrays[name] for name in reversed(arrays.files)})
    assert (tmp_path / "small.npz").stat().st_size < path.stat().st_size
    assert content_of(f"npz:{tmp_path / 'small.npz'}") == content_of(f"npz:{path}")


def test_an_npz_file_that_is_overwritten_is_another(tmp_path: Path) -> None:
    path = layouts.write_npz(tmp_path / "own.npz")
    before, size, times = run_on(f"npz:{path}"), path.stat().st_size, path.stat()
    images = layouts.pictures(12, 12)[0].copy()
    images[0, 0, 0, 0] ^= 1
    layouts.write_npz(path, x_train=images)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as rsync and cp -p leave it
    assert path.stat().st_size == size
    assert run_on(f"npz:{path}").id != before.id


def test_arrays_of_another_type_or_shape_are_others(tmp_path: Path) -> None:
    labels = layouts.pictures(12, 4)[1]
    images = layouts.pictures(12, 4, colour=False)[0]
    changes: tuple[dict[str, object], ...] = (
        {},
        {"y_test": labels.astype(np.int32)},
        {"x_test": images},
        {"x_test": images[..., None]},
    )
    found = {
        content_of(f"npz:{layouts.write_npz(tmp_path / f'{place}.npz', **change)}")
        for place, change in enumerate(changes)
    }
    assert len(found) == len(changes)


def test_one_folder_at_two_paths_is_one_data_set_whether_it_says_val_or_test(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "first"), folder(tmp_path / "second", "test")
    shutil.copytree(first, tmp_path / "deep" / "third")
    found = [run_on(f"folder:{path}").id for path in (first, second, tmp_path / "deep" / "third")]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_folder_with_other_bytes_names_or_images_is_another(tmp_path: Path, split: str) -> None:
    path = folder(tmp_path / "own")
    found = {of_folder(path)}
    image = path / split / "cat" / "cat_0000.JPEG"
    content_bytes, times = bytearray(image.read_bytes()), image.stat()
    content_bytes[-3] ^= 1
    image.write_bytes(content_bytes)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    found.add(of_folder(path))
    image = image.rename(image.with_name("cat_9999.JPEG"))
    found.add(of_folder(path))
    image.rename(path / split / "dog" / "cat_9999.JPEG")
    found.add(of_folder(path))
    (path / split / "dog" / "cat_9999.JPEG").unlink()
    found.add(of_folder(path))
    assert len(found) == 5


def test_what_is_no_image_does_not_count(tmp_path: Path) -> None:
    path = folder(tmp_path / "own")
    before = of_folder(path)
    (path / "README.txt").write_text("where they come from")
    (path / "train" / "cat" / ".DS_Store").write_bytes(b"\0")
    assert of_folder(path) == before


def test_what_links_point_to_counts(tmp_path: Path) -> None:
    plain, linked = folder(tmp_path / "plain"), tmp_path / "linked"
    for split in ("train", "val"):
        (linked / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            (linked / split / name).symlink_to(plain / split / name)
    assert of_folder(linked) == of_folder(plain)
    before = of_folder(linked)
    image = plain / "train" / "dog" / "dog_0001.JPEG"
    image.write_bytes(image.read_bytes() + b"\0")
    assert of_folder(linked) != before


def test_a_link_to_nothing_is_left_to_whoever_reads_it_and_seen_when_it_goes(tmp_path: Path) -> None:
    path = folder(tmp_path / "own")
    before = of_folder(path)
    dangling = path / "train" / "cat" / "gone.JPEG"
    dangling.symlink_to(tmp_path / "nowhere.JPEG")
    assert of_folder(path) != before
    dangling.unlink()
    assert of_folder(path) == before


def test_the_second_look_is_the_caches(tmp_path: Path, cache: Path, reads: list[object]) -> None:
    path, own = folder(tmp_path / "own"), layouts.write_npz(tmp_path / "own.npz")
    first = [of_folder(path), content_of(f"npz:{own}")]
    assert len(reads) == 2 * (3 + 2) + 1
    assert [of_folder(path), content_of(f"npz:{own}")] == first
    assert len(reads) == 2 * (3 + 2) + 1
    notes = list((cache / "spherebench" / "content").iterdir())
    assert sorted(note.read_text() for note in notes) == sorted(map(str, first))


def test_what_changed_a_moment_ago_is_not_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "SETTLED_NS", 3_600_000_000_000)
    of_folder(folder(tmp_path / "own"))
    assert not cache.exists()


def test_a_fault_that_may_pass_is_an_error_and_not_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path / "own")

    def stale(*_: object) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", stale)
        with pytest.raises(UserError, match=r"cat_0000\.JPEG: cannot be read: Stale file handle"):
            of_folder(path)
    assert not cache.exists()
    assert of_folder(path) is not None


def test_a_cache_that_cannot_be_written_or_read_is_no_error(tmp_path: Path, cache: Path) -> None:
    path = folder(tmp_path / "own")
    cache.write_text("a file where a folder should be")
    unkept = of_folder(path)
    cache.unlink()
    assert of_folder(path) == unkept
    (note,) = (cache / "spherebench" / "content").iterdir()
    note.unlink()
    note.mkdir()
    assert of_folder(path) == unkept


def test_without_xdg_the_cache_is_the_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    of_folder(folder(tmp_path / "own"))
    assert len(list((tmp_path / "home" / ".cache" / "spherebench" / "content").iterdir())) == 1


def test_data_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    for source, said in (
        (f"npz:{tmp_path}/absent.npz", "there is no such file"),
        (f"folder:{tmp_path}/absent", "there is no such folder"),
    ):
        with pytest.raises(UserError, match=said):
            content_of(source)
    (tmp_path / "torn.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="is not a readable npz file"):
        content_of(f"npz:{tmp_path / 'torn.npz'}")
