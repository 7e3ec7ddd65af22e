"""Data of one's own through the command line: what is wrong with them is said before hours of training."""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import load
from benchmark.runtime.errors import UserError
from results.record import MeasurementRecord, NetworkRecord
from slurm.manifest import submissions
from tests.benchmark import layouts

pytestmark = pytest.mark.usefixtures("no_figures")
OWN = """
description: data of one's own
defaults:
  data: {source: digits, image_size: 16}
  augmentation: simclr_small
  backbone: {name: small_cnn, width: 8}
  projector: {hidden: 16}
  embedding_dim: 8
  epochs: 1
  batch_size: 8
  optimizer: {name: adamw, base_lr: 1e-3, warmup_epochs: 0}
  evaluation: {probes: [knn], knn_k: [1]}
grid: {method: [raw_pixels, vicreg], seed: [0]}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split, per_class in (("train", 10), ("test", 3)):
        layouts.write_class_folders(tmp_path / "photos" / split, ["cat", "dog"], per_class)
    return tmp_path / "photos"


def statuses(out: Path) -> dict[str, str]:
    networks = [NetworkRecord.read(path) for path in sorted(out.glob("*/network.json"))]
    measured = [MeasurementRecord.read(path) for path in sorted(out.glob("*/measurements/*.json"))]
    return {f"{record.network['method']}": record.status for record in networks} | {
        f"{record.network.partition('-')[0]} {record.probe}": record.status for record in measured
    }


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("fault", ["empty", "dangling", "no image", "float"])
def test_an_image_that_cannot_be_read_is_named_before_training(
    fault: str, split: str, photos: Path, suite: Path, tmp_path: Path, spherebench
) -> None:
    torn = photos / split / "dog" / "dog_0001.JPEG"
    torn.unlink()
    if fault == "dangling":
        torn.symlink_to(tmp_path / "nowhere")
    elif fault == "float":
        Image.fromarray(np.ones((9, 9), dtype=np.float32)).save(torn, format="TIFF")
    else:
        torn.write_text("" if fault == "empty" else "no image")
    out = tmp_path / "runs"
    result = spherebench("run", suite, "--set", f"data.source=folder:{photos}", "--out", out)
    assert result.exit_code == 2
    assert result.output.count(f"image {torn} ") == 1
    assert not out.exists()


def test_a_truncated_image_costs_what_reads_it_and_the_suite_goes_on(
    photos: Path, suite: Path, tmp_path: Path, spherebench
) -> None:
    """Its header is whole: only decoding finds it out."""
    torn = photos / "test" / "dog" / "dog_0001.JPEG"
    torn.write_bytes(torn.read_bytes()[:640])
    result = spherebench("run", suite, "--set", f"data.source=folder:{photos}", "--out", tmp_path / "runs")
    assert result.exit_code == 1
    assert result.output.count(f"image {torn} cannot be read") == 2
    assert statuses(tmp_path / "runs") == {
        "raw_pixels": "done",
        "raw_pixels knn": "failed",
        "vicreg": "done",
        "vicreg knn": "failed",
    }
    torn = photos / "train" / "cat" / "cat_0003.JPEG"
    torn.write_bytes(torn.read_bytes()[:640])
    result = spherebench("run", suite, "--set", f"data.source=folder:{photos}", "--out", tmp_path / "again")
    assert statuses(tmp_path / "again") == {"raw_pixels": "done", "raw_pixels knn": "failed", "vicreg": "failed"}
    failed = next((tmp_path / "again").glob("vicreg-*/network.json"))
    assert str(torn) in NetworkRecord.read(failed).message


def test_what_was_found_is_said_once_before_training(photos: Path, suite: Path, tmp_path: Path, spherebench) -> None:
    (photos / "train" / "cat" / "cat.heic").touch()
    result = spherebench("run", suite, "--set", f"data.source=folder:{photos}", "--out", tmp_path / "runs")
    told = (
        f"folder:{photos}: train 18 (cat 9, dog 9), tune 2 (cat 1, dog 1), test 6 (cat 3, dog 3); "
        "left out: 1 .heic (in train/cat)\n"
    )
    assert result.exit_code == 0, result.output
    assert result.output.count(told) == 1
    assert result.output.index(told) < result.output.index("[1/2]")


def test_a_class_of_few_images_is_no_hindrance_unless_the_tune_split_is_read(
    photos: Path, suite: Path, tmp_path: Path, spherebench
) -> None:
    for split in ("train", "test"):
        shutil.copytree(photos / split / "cat", photos / split / "rare")
        for path in sorted((photos / split / "rare").iterdir())[1:]:
            path.unlink()
    arguments = ("run", suite, "--set", f"data.source=folder:{photos}", "--out", tmp_path / "runs")
    result = spherebench(*arguments)
    assert result.exit_code == 0, result.output
    assert "train 19 (cat 9, dog 9, rare 1), tune 2 (cat 1, dog 1, rare 0), test 7" in result.output
    result = spherebench(*arguments, "--set", "evaluation.split=tune")
    assert result.exit_code == 2
    assert "has no image of class rare in it" in result.output


def test_paths_are_expanded_where_they_are_typed(
    photos: Path, suite: Path, tmp_path: Path, spherebench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PHOTOS", str(photos))
    monkeypatch.chdir(tmp_path)
    ids = set()
    for number, source in enumerate(("~/photos", "$PHOTOS", "$PHOTOS/.", "photos", str(photos), "$$PHOTOS")):
        arguments = ("--set", f"data.source=folder:{source}", "--set", "method=raw_pixels", "--set", "data_root=~/data")
        result = spherebench("run", suite, *arguments, f"--out=~/runs-{number}")
        assert result.exit_code == 0, result.output
        (record,) = (NetworkRecord.read(path) for path in (tmp_path / f"runs-{number}").glob("*/network.json"))
        typed = "$$PHOTOS" if source == "$$PHOTOS" else str(photos)
        assert record.network["data"]["source"] == f"folder:{typed}"
        ids.add(record.id)
    assert len(ids) == 1
    assert not (tmp_path / "~").exists()
    result = spherebench("evaluate", tmp_path / "runs-0", "--data", "folder:~/photos", "--set", "evaluation.knn_k=[3]")
    assert result.exit_code == 0, result.output
    for arguments, told in (
        (("--set", "data.source=folder:$NOPE/x"), "the environment variable NOPE is not set"),
        (("--set", "data_root=$NOPE"), "data_root: $NOPE: the environment variable NOPE is not set"),
        (("--out", "$NOPE/x"), "--out: $NOPE/x: the environment variable NOPE is not set"),
        (("--out", "$$TMPDIR/x"), "--out $$TMPDIR/x: cannot differ from job to job"),
    ):
        result = spherebench("run", suite, *arguments)
        assert (result.exit_code, told in result.output.replace("\n", " ")) == (2, True), result.output


def test_a_job_reads_what_was_submitted(
    photos: Path, suite: Path, tmp_path: Path, spherebench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through ``$$VAR`` each job has a copy of its own, which may be half of it."""
    monkeypatch.setenv("STAGED", str(photos))
    arguments = ("--set", "data.source=folder:$$STAGED", "--set", "method=raw_pixels", "--out", tmp_path / "runs")
    result = spherebench("submit", suite, "--cluster", "debug", *arguments, "--set", "data_root=$$STAGED/data")
    assert statuses(tmp_path / "runs") == {"raw_pixels": "done", "raw_pixels knn": "done"}, result.output
    (submission,) = submissions(tmp_path / "runs")
    assert submission.execution["data_root"] == "$$STAGED/data"
    (entry,) = submission.entries
    assert entry.network["data"]["source"] == "folder:$$STAGED"
    data = submission.as_suite().cells[0].run.data[0]
    (photos / "train" / "cat" / "cat_0001.JPEG").unlink()
    with pytest.raises(UserError, match=r"folder:\$\$STAGED: holds other data \(\w+\) than were asked for \(\w+\)"):
        load(data, tmp_path)


def test_an_npz_file_of_other_arrays_says_once_what_it_holds(suite: Path, tmp_path: Path, spherebench) -> None:
    np.savez(tmp_path / "own.npz", images=np.zeros((4, 8, 8), np.uint8), y_train=np.arange(4))
    result = spherebench("run", suite, "--set", f"data.source=npz:{tmp_path}/own.npz", "--out", tmp_path / "runs")
    assert result.exit_code == 2
    assert (
        result.output.replace("\n", " ").count(
            "has no array x_train, x_test, y_test, must hold x_train, y_train, x_test, y_test; it holds images, y_train"
        )
        == 1
    )


def test_an_npz_header_of_a_hundred_gigabytes_and_more_is_one_sentence(
    suite: Path, tmp_path: Path, spherebench
) -> None:
    path = layouts.write_npz(tmp_path / "own.npz")
    huge = io.BytesIO()
    shape = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**15}, 8, 8), }}"
    header = shape.ljust(118 - 1) + "\n"
    huge.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\0" * 64)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "huge.npz", "w") as file:
        for name in whole.namelist():
            file.writestr(name, huge.getvalue() if name == "x_train.npy" else whole.read(name))
    result = spherebench("run", suite, "--set", f"data.source=npz:{tmp_path}/huge.npz", "--out", tmp_path / "runs")
    assert result.exit_code == 2, result.output
    assert f"{tmp_path / 'huge.npz'} does not fit into memory: Unable to allocate" in result.output.replace("\n", " ")
    assert not (tmp_path / "runs").exists()


def test_submit_says_what_is_missing_and_has_the_option_that_it_advises(
    suite: Path, tmp_path: Path, spherebench
) -> None:
    out = tmp_path / "runs"
    arguments = ("submit", suite, "--cluster", "slurm", "--out", out, "--set", f"data_root={tmp_path}/data")
    for source, told in (
        ("cifar10", "there is no folder cifar-10-batches-py; get it with --download"),
        ("imagenet", "there is no folder imagenet; get it by hand"),
    ):
        for dry in ((), ("--dry-run",)):
            result = spherebench(*arguments, "--set", f"data.source={source}", *dry)
            assert result.exit_code == 2
            assert told in result.output.replace("\n", " ")
            assert not out.exists()
    result = spherebench(*arguments, "--set", "data.source=cifar10", "--dry-run", "--download")
    assert result.exit_code == 0, result.output
    result = spherebench(*arguments[:-1], "data_root=$$TMPDIR/data", "--set", "data.source=cifar10", "--dry-run")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "data").exists()
