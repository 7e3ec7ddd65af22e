"""Tables of Hugging Face's ``datasets``: read like a folder of the same files, and known by their content."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from benchmark.data import DataSet, DataSpec, Input, load
from benchmark.data.own import content_of
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.views import recipe
from benchmark.views.loader import ViewLoader
from tests.benchmark import layouts

CLASSES = ["cat", "dog"]
LABELLED = {"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)}
Rows = dict[str, list[Any]]


@pytest.fixture(autouse=True)
def own_arrow_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "arrow")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split, per_class in (("train", 8), ("val", 3)):
        layouts.write_class_folders(tmp_path / "photos" / split, CLASSES, per_class)
    return tmp_path / "photos"


def rows(photos: Path, split: str) -> Rows:
    """Of the folder's images in their order."""
    paths = sorted((photos / split).glob("*/*"))
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    return {"image": images, "label": [CLASSES.index(path.parent.name) for path in paths]}


def write(place: Path, parts: dict[str, Rows], features: dict[str, Any] | None = LABELLED) -> Path:
    """A parquet file a split."""
    place.mkdir()
    for split, columns in parts.items():
        given = features and datasets.Features(features)
        table = datasets.Dataset.from_dict(columns, features=given).data.table
        pyarrow.parquet.write_table(table, place / f"{split}-00000-of-00001.parquet")
    return place


@pytest.fixture
def parts(photos: Path) -> dict[str, Rows]:
    return {"train": rows(photos, "train"), "validation": rows(photos, "val")}


@pytest.fixture
def parquet(parts: dict[str, Rows], tmp_path: Path) -> Path:
    return write(tmp_path / "parquet", parts)


def read(source: str | Path) -> DataSet:
    return load(DataSpec(source=f"hf:{source}", tune_fraction=0.25, image_size=16), Path("nowhere"))


def first_views(data: DataSet, workers: int) -> tuple[torch.Tensor, ...]:
    how = {"batch_size": 4, "seed": 0, "workers": workers}
    loader = ViewLoader(data.train, recipe("vicreg"), Input.of(data), Process(torch.device("cpu")), **how)
    return next(loader.epoch(1)).views


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_table_gives_the_images_labels_and_views_of_a_folder_of_the_same_files(parquet: Path, photos: Path) -> None:
    table = read(parquet)
    folder = load(DataSpec(source=f"folder:{photos}", tune_fraction=0.25, image_size=16), Path("nowhere"))
    assert table.found == folder.found.replace(f"folder:{photos}", f"hf:{parquet}")
    assert (table.mean, table.std, table.classes) == (folder.mean, folder.std, folder.classes)
    for one, other in ((table.train, folder.train), (table.tune, folder.tune), (table.test, folder.test)):
        assert one.labels.tolist() == other.labels.tolist()
        assert all(torch.equal(one.image(index), other.image(index)) for index in range(len(one)))
    for workers in (0, 2):
        pairs = zip(first_views(table, workers), first_views(folder, 0), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_it_is_known_by_its_content_wherever_and_however_it_is_stored(
    parts: dict[str, Rows], parquet: Path, tmp_path: Path
) -> None:
    content = content_of(f"hf:{parquet}")
    datasets.load_dataset(str(parquet)).save_to_disk(tmp_path / "saved")
    whole = {key: parts["train"][key] + parts["validation"][key] for key in LABELLED}
    whole["where"], text = ["train"] * 16 + ["test"] * 6, datasets.Value("string")
    alone = write(tmp_path / "alone", {"all": whole}, LABELLED | {"where": text}) / "all-00000-of-00001.parquet"
    for same in (tmp_path / "saved", f"{alone},split=where"):
        assert content_of(f"hf:{same}") == content, same
        assert read(same).found.partition(": ")[2] == read(parquet).found.partition(": ")[2]
    spec = DataSpec(source=f"hf:{tmp_path / 'saved'}").identified()
    assert spec.digest == DataSpec(source=f"hf:{parquet}").identified().digest
    assert "decoding" in spec.canonical()
    parts["train"]["label"][0] = 1
    assert content_of(f"hf:{write(tmp_path / 'other', parts)}") != content
    parts["train"]["label"][0] = 0
    parts["train"]["image"][0]["bytes"] += b"\0"
    assert content_of(f"hf:{write(tmp_path / 'changed', parts)}") != content


def test_columns_and_splits_are_named_by_options(parts: dict[str, Rows], tmp_path: Path) -> None:
    """Bytes without a mark that they are images, text for classes, and a split that is neither."""
    renamed = {
        name: {"jpg": [image["bytes"] for image in part["image"]], "kind": [CLASSES[label] for label in part["label"]]}
        for name, part in (("train", parts["train"]), ("test", parts["validation"]), ("validation", parts["train"]))
    }
    place = write(tmp_path / "renamed", renamed, None)
    data = read(f"{place},image=jpg,label=kind")
    assert data.class_names == ("cat", "dog")
    assert data.found.endswith("test 6 (cat 3, dog 3); left out: split validation")
    assert len(read(f"{place},image=jpg,label=kind,test=validation").test) == 16
    assert data.short_name == "hf:renamed,image=jpg,label=kind"


def _broken(place: int, content: bytes | None) -> Callable[[dict[str, Rows]], None]:
    def change(parts: dict[str, Rows]) -> None:
        parts["validation"]["image"][place]["bytes"] = content

    return change


def _grey_float() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ones((9, 9), dtype=np.float32)).save(file, format="TIFF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("options", "change", "said"),
    [
        (",labels=x", None, "has no option labels, there are image, label, split, train, test, config"),
        (",image=photo", None, "has no column photo, it has image, label; image=COLUMN names another"),
        (",image=label", None, "column label holds ClassLabel, allowed are Image and bytes"),
        (",label=fine", None, "has no column fine, it has image, label; label=COLUMN names another"),
        (",label=image", None, r"column image holds .*Image.*, allowed are ClassLabel, whole numbers and text"),
        (",test=test", None, "has no split test, it has train, validation; train=SPLIT and test=SPLIT name others"),
        (",split=label", None, "split=label is for one table, it has splits train, validation"),
        ("", lambda parts: parts["validation"]["label"].__setitem__(2, -1), "column label holds no class in row 2"),
        ("", lambda parts: parts["train"].update(label=[0] * 16), "class dog is in split validation, not in train"),
        ("", lambda parts: parts["train"]["label"].__setitem__(2, None), r"holds rows without a value \(1\)"),
        ("", _broken(4, b""), "image in row 4 of split validation of hf:.* is empty"),
        ("", _broken(4, None), "image in row 4 of .*: its row holds no bytes; folder:PATH reads images from files"),
        ("", _broken(5, b"no image"), "image in row 5 of .* cannot be read: cannot identify image file$"),
        ("", _broken(1, _grey_float()), "image in row 1 of .* cannot be read: its pixels are floating-point numbers"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    options: str, change: Callable[[dict[str, Rows]], None] | None, said: str, parts: dict[str, Rows], tmp_path: Path
) -> None:
    if change:
        change(parts)
    place = write(tmp_path / "own", parts)
    with pytest.raises(UserError, match=said) as told:
        read(f"{place}{options}")
    assert "\n" not in str(told.value)


def test_what_is_not_there_is_one_sentence(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=f"hf:{tmp_path}/absent: there is no {tmp_path}/absent"):
        read(tmp_path / "absent")
    with pytest.raises(
        UserError, match=r"hf:some/name: cannot be read: .*some/name.*where there is internet fetches it"
    ):
        read("some/name")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=f"hf:{tmp_path}/empty: cannot be read: "):
        read(tmp_path / "empty")
    torn = parquet / "train-00000-of-00001.parquet"
    torn.write_bytes(torn.read_bytes()[:200])
    with pytest.raises(UserError, match=f"hf:{parquet}: cannot be read: "):
        read(parquet)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs Hugging Face's datasets: pip install 'spherebench\[hf\]'"):
        read(parquet)


def test_an_image_that_breaks_off_names_its_row_as_it_is_decoded(parts: dict[str, Rows], tmp_path: Path) -> None:
    torn = parts["validation"]["image"][3]
    torn["bytes"] = torn["bytes"][:640]
    data = read(write(tmp_path / "own", parts))
    with pytest.raises(UserError, match=r"image in row 3 of split validation of hf:.* cannot be read: .*truncated"):
        data.test.image(3)
