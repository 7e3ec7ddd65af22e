"""The figures that others published (``published/published.csv``), and which of them concern a run of ours."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import inf, log2
from pathlib import Path

PUBLISHED = Path(__file__).parent / "published" / "published.csv"

# Our metric -> published metrics of the same quantity, and the factor from our unit to theirs.
METRICS = {
    "linear_top1": (("linear_top1", "online_linear_top1"), 100.0),
    "linear_top5": (("linear_top5",), 100.0),
    "knn_top1": (("knn_top1", "knn_top1_max_over_epochs"), 100.0),
    "peak_bytes_step": (("peak_memory_per_gpu",), 1e-9),
    "train_seconds": (("runtime",), 1 / 60),
}
_DATASETS = {"imagenet20": "imagenet-20pct"}
_METHODS = {"simclr_sfrik": "simclr"}
_SFRIK = re.compile(r"sfrik_l(\d+)")


@dataclass(frozen=True)
class Published:
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

    @property
    def small_stem(self) -> bool:
        """Whether the backbone is said to have the stem for small images."""
        return self.backbone.endswith("-cifar")

    @property
    def online(self) -> bool:
        """Whether the probe was trained along with the network."""
        return self.metric.startswith("online_")

    @property
    def best_epoch(self) -> bool:
        """Whether the figure is the maximum over epochs on the test split."""
        return self.metric.endswith("_max_over_epochs")

    def stated(self, pattern: str) -> float | None:
        """A number that the protocol states, by a pattern with one group, e.g. ``k=(\\d+)``."""
        found = re.search(pattern, self.protocol)
        return float(found[1]) if found else None


@cache
def read_published(path: Path = PUBLISHED) -> tuple[Published, ...]:
    """Every published figure."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(_published(row) for row in csv.DictReader(file))


def _published(row: dict[str, str]) -> Published:
    return Published(
        source=row["source"],
        dataset=row["dataset"],
        backbone=row["backbone"],
        epochs=_whole(row["epochs"]),
        batch_size=_whole(row["batch_size"]),
        method=row["method"],
        kernel_order=_whole(row["kernel_order"]),
        embedding_dim=_whole(row["embedding_dim"]),
        metric=row["metric"],
        value=float(row["value"]),
        unit=row["unit"],
        protocol=row["protocol"],
        note=row["note"],
    )


def _whole(text: str) -> int | None:
    return int(text) if text else None


def dataset_name(source: str) -> str:
    """The published name of one of our data sources; of a file or folder of one's own, its name stands for it."""
    name = Path(source.partition(":")[2]).stem if ":" in source else source
    return _DATASETS.get(name, name)


def network(backbone: str) -> str:
    """A published backbone without its stem: ``resnet18-cifar`` is a ResNet-18."""
    return backbone.removesuffix("-cifar")


def concerning(dataset: str, backbone: str) -> list[Published]:
    """The published figures of a data set and backbone."""
    return [row for row in read_published() if row.dataset == dataset and network(row.backbone) == backbone]


def counterparts(rows: Sequence[Published], method: str, metric: str, dimension: int | None) -> list[Published]:
    """The figures of our method and metric; of each source those of the nearest embedding dimension it gives."""
    names = METRICS[metric][0]
    same = [row for row in rows if row.metric in names and _is_method(row, method)]
    return [row for row in same if _distance(row, dimension) == _nearest(same, row.source, dimension)]


def _is_method(row: Published, method: str) -> bool:
    order = _SFRIK.fullmatch(method)
    if order is None:
        return row.method == _METHODS.get(method, method)
    return row.method == "sfrik" and row.kernel_order in (None, int(order[1]))


def _distance(row: Published, dimension: int | None) -> float:
    if row.embedding_dim is None or dimension is None:
        return inf
    return abs(log2(row.embedding_dim / dimension))


def _nearest(rows: Sequence[Published], source: str, dimension: int | None) -> float:
    return min(_distance(row, dimension) for row in rows if row.source == source)
