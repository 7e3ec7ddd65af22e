"""Data sets of Hugging Face's library ``datasets``: tables on disk, Arrow or parquet, an image's bytes in every row.

What ``save_to_disk`` wrote is read where it lies. Of parquet, and of what was downloaded by its name, the library keeps
an Arrow copy in its cache, which is then read. Nothing is downloaded here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.data.decoding import VERSION, check_headers, decode
from benchmark.data.images import FILE_IMAGE_SIZE, OF_IMAGENET, ImageSet, Indices, Stored
from benchmark.data.remembered import remembered
from benchmark.runtime.errors import UserError, in_one_line

_SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk leaves beside the tables


@dataclass(frozen=True)
class Table:
    """What follows ``hf:``: NAME_OR_PATH, and options behind commas, such as ``,label=fine_label,test=validation``."""

    name: str
    image: str | None = None  # column; None: the only one of images
    label: str = "label"  # column
    split: str | None = None  # column that tells the split, of a table that is not split
    train: str = "train"  # split to train on
    test: str | None = None  # split to test on; None: test, or validation where there is no test
    config: str | None = None  # of data sets that have several

    @classmethod
    def of(cls, text: str) -> Table:
        """Raises :class:`UserError` naming an option that there is not."""
        name, *options = re.split(r",(?=\w+=)", text)
        given = dict(option.split("=", 1) for option in options)
        allowed = [field.name for field in fields(cls)][1:]
        if unknown := [option for option in given if option not in allowed]:
            raise UserError(f"data.source hf:{text}: has no option {unknown[0]}, there are {', '.join(allowed)}")
        return cls(name, **given)

    @property
    def is_path(self) -> bool:
        """Whether it is a place on disk, and no name."""
        return self.name.startswith((".", "/", "$")) or Path(self.name).exists()


@dataclass(frozen=True, eq=False)
class RowImages(ImageSet):
    """Images in rows of a table of one column, of which a loading process maps the same file."""

    table: Any
    where: str
    rows: Indices
    labels: NDArray[np.int64]
    pixels: None = None

    def name(self, index: int) -> str:
        """What people find it by."""
        return f"in row {self.rows[index]} of {self.where}"

    def content(self, index: int) -> bytes:
        """Its file's bytes. Raises :class:`UserError` where there are none."""
        value = self.table[int(self.rows[index])][0][0].as_py()
        content: bytes | None = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise UserError("its row holds no bytes; folder:PATH reads images from files")
        return content

    def image(self, index: int) -> Tensor:
        return torch.from_numpy(decode(self.name(index), partial(self.content, index))).permute(2, 0, 1)

    def subset(self, indices: Indices) -> RowImages:
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])


def read_hf(text: str) -> Stored:
    """The two splits; normalised as ImageNet is.

    Raises :class:`UserError` where the table cannot be read or lacks what is asked for, naming split or column, and
    naming the row of an image whose header cannot be read.
    """
    train, test, names, others = _splits(text)
    remembered(f"headers-{VERSION}", Path(text), _files(train, test), partial(_check_headers, train, test))
    left_out = ", ".join(f"split {name}" for name in others)
    return Stored(train, test, len(names), FILE_IMAGE_SIZE, *OF_IMAGENET, class_names=tuple(names), left_out=left_out)


def content_of_hf(text: str) -> str:
    """The digest of both splits: of the bytes and the class of every image, in their order."""
    train, test, names, _ = _splits(text)

    def digest() -> str:
        found = hashlib.sha256()
        for images in (train, test):
            found.update(f"{len(images)} images\0".encode())
            for index, label in enumerate(images.labels):
                content = hashlib.sha256(images.content(index)).digest()
                found.update(names[label].encode() + b"\0" + content)
        return found.hexdigest()[:16]

    return remembered("content", Path(text), _files(train, test), digest)


def _check_headers(*parts: RowImages) -> str:
    places = [(images, index) for images in parts for index in range(len(images))]
    names = (images.name(index) for images, index in places)
    return check_headers(names, (partial(images.content, index) for images, index in places))


def _files(*parts: RowImages) -> list[str]:
    return [file["filename"] for images in parts for file in images.table.cache_files]


def _splits(text: str) -> tuple[RowImages, RowImages, list[str], list[str]]:
    """The images to train and to test on, their classes' names, and the splits that are neither."""
    asked, source = Table.of(text), f"data.source hf:{text}"
    tables = _tables(asked, source)
    if asked.split is None:
        found = {name: (table, np.arange(len(table))) for name, table in tables.items()}
    else:
        if len(tables) > 1:
            raise UserError(f"{source}: split={asked.split} is for one table, it has splits {', '.join(tables)}")
        ((_, table),) = tables.items()
        of_row = _column(table, asked.split, "split", source).astype(str)
        found = {name: (table, np.flatnonzero(of_row == name)) for name in np.unique(of_row).tolist()}
    test = asked.test or ("test" if "test" in found else "validation")
    for name in (asked.train, test):
        if name not in found:
            advice = "train=SPLIT and test=SPLIT name others"
            raise UserError(f"{source}: has no split {name}, it has {', '.join(found)}; {advice}")
    values = {name: _classes(*found[name], asked.label, f"{source}: split {name}") for name in (asked.train, test)}
    classes = np.unique(values[asked.train])
    if len(strange := np.setdiff1d(values[test], classes)):
        raise UserError(f"{source}: class {strange[0]} is in split {test}, not in {asked.train}")
    names = classes.astype(str).tolist()
    train_images, test_images = (
        RowImages(
            _image_column(found[name][0], asked.image, source),
            f"split {name} of hf:{text}",
            found[name][1],
            np.searchsorted(classes, values[name]).astype(np.int64),
        )
        for name in (asked.train, test)
    )
    return train_images, test_images, names, [name for name in found if name not in (asked.train, test)]


def _tables(asked: Table, source: str) -> dict[str, Any]:
    """The table of every split."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{source}: needs Hugging Face's datasets: pip install 'spherebench[hf]'") from error
    path = Path(asked.name)
    if asked.is_path and not path.exists():
        raise UserError(f"{source}: there is no {path}")
    datasets.config.HF_HUB_OFFLINE = True
    datasets.disable_progress_bars()
    try:
        if any((path / name).exists() for name in _SAVED):
            found = datasets.load_from_disk(path)
        elif path.is_file():
            found = datasets.load_dataset(path.suffix[1:], data_files=str(path))
        else:
            found = datasets.load_dataset(asked.name, asked.config)
    # By the place and by the fault the library raises about anything.
    except Exception as error:
        where = "" if asked.is_path else f"; datasets.load_dataset({asked.name!r}) where there is internet fetches it"
        raise UserError(f"{source}: cannot be read: {in_one_line(error)}{where}") from error
    return dict(found) if isinstance(found, dict) else {"train": found}


def _column(table: Any, name: str, option: str, source: str) -> NDArray[Any]:
    """A column's values, whole numbers or text."""
    if name not in table.column_names:
        others = ", ".join(table.column_names)
        raise UserError(f"{source}: has no column {name}, it has {others}; {option}=COLUMN names another")
    values = table.select_columns([name]).with_format("arrow")[:].column(0)
    found = values.to_numpy() if not values.null_count else np.zeros(0)
    if found.dtype.kind not in "iuO" or not all(isinstance(value, str) for value in found if found.dtype == object):
        kind = f"rows without a value ({values.null_count})" if values.null_count else str(table.features[name])
        raise UserError(f"{source}: column {name} holds {kind}, allowed are ClassLabel, whole numbers and text")
    return found if found.dtype.kind != "O" else found.astype(str)


def _classes(table: Any, rows: Indices, name: str, source: str) -> NDArray[Any]:
    """Every row's class, by name where it has one. Raises :class:`UserError` where it is hidden, published as -1."""
    values = _column(table, name, "label", source)[rows]
    names = getattr(table.features[name], "names", None)
    if names is None:
        return values
    if (values < 0).any():
        row = rows[values < 0][0]
        raise UserError(f"{source}: column {name} holds no class in row {row}; test=SPLIT names a labelled split")
    return np.array(names)[values]


def _image_column(table: Any, name: str | None, source: str) -> Any:
    """A table of the images alone."""
    if name is not None and name not in table.column_names:
        others = ", ".join(table.column_names)
        raise UserError(f"{source}: has no column {name}, it has {others}; image=COLUMN names another")
    kinds = {column: type(feature).__name__ for column, feature in table.features.items()}
    bytes_ = [column for column, feature in table.features.items() if "binary" in str(getattr(feature, "dtype", ""))]
    images = [column for column, kind in kinds.items() if kind == "Image"]
    chosen = name or (images[0] if len(images) == 1 else None)
    if chosen is None:
        raise UserError(f"{source}: has {len(images)} columns of Image; image=COLUMN names one of {', '.join(kinds)}")
    if chosen not in (*images, *bytes_):
        raise UserError(f"{source}: column {chosen} holds {kinds[chosen]}, allowed are Image and bytes")
    return table.select_columns([chosen]).with_format("arrow")
