"""The figures that others published (``published/published.csv``), and which of them concern a network of ours."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cache
from math import inf, log2
from pathlib import Path

from pydantic import field_validator

from results.record import Frozen

PUBLISHED = Path(__file__).parent / "published" / "published.csv"

# Our metric -> published metrics of the same quantity, and the factor from our unit to theirs.
METRICS = {
    "linear_top1": (("linear_top1", "online_linear_top1"), 100.0),
    "linear_top5": (("linear_top5",), 100.0),
    "knn_top1": (("knn_top1", "knn_top1_max_over_epochs"), 100.0),
    "peak_bytes_step": (("peak_memory_per_gpu",), 1e-9),
    "train_seconds": (("runtime",), 1 / 60),
}
# What the name of a published backbone with the stem for small images ends with.
SMALL_STEM = "-cifar"


class Published(Frozen):
    """One published figure, as its source states it; ``None`` where the source does not say."""

    source: str
    dataset: str
    backbone: str
    epochs: int | None
    batch_size: int | None
    method: str
    kernel_order: int | None
    embedding_dim: int | None
    metric: str
    value: float
    unit: str
    protocol: str
    note: str

    @field_validator("epochs", "batch_size", "kernel_order", "embedding_dim", mode="before")
    @classmethod
    def _not_said(cls, text: str) -> str | None:
        return text or None

    def stated(self, pattern: str) -> float | None:
        """A number that the protocol states, by a pattern with one group, e.g. ``k=(\\d+)``."""
        found = re.search(pattern, self.protocol)
        return float(found[1]) if found else None


@cache
def read_published() -> tuple[Published, ...]:
    """Every published figure."""
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        return tuple(Published.model_validate(row) for row in csv.DictReader(file))


def dataset_name(source: str) -> str:
    """The published name of one of our data sources; of a file or folder of one's own, its name stands for it."""
    name = Path(source.partition(":")[2]).stem if ":" in source else source
    return "imagenet-20pct" if name == "imagenet20" else name


def concerning(dataset: str, backbone: str) -> list[Published]:
    """The published figures of a data set and backbone; ``resnet18-cifar``, of another stem, is a ResNet-18 too."""
    rows = [row for row in read_published() if row.dataset == dataset]
    return [row for row in rows if row.backbone.removesuffix(SMALL_STEM) == backbone]


def counterparts(rows: Sequence[Published], method: str, metric: str, dimension: int | None) -> list[Published]:
    """The figures of our method and metric; of each source those of the nearest embedding dimension it gives."""
    same = [row for row in rows if row.metric in METRICS[metric][0] and _is_method(row, method)]
    nearest: dict[str, float] = {}
    for row in same:
        nearest[row.source] = min(_distance(row, dimension), nearest.get(row.source, inf))
    return [row for row in same if _distance(row, dimension) == nearest[row.source]]


def _is_method(row: Published, method: str) -> bool:
    if order := re.fullmatch(r"sfrik_l(\d+)", method):
        return row.method == "sfrik" and row.kernel_order in (None, int(order[1]))
    return row.method == ("simclr" if method == "simclr_sfrik" else method)


def _distance(row: Published, dimension: int | None) -> float:
    return abs(log2(row.embedding_dim / dimension)) if row.embedding_dim and dimension else inf
