"""All probes of one small network: figures, protocols, what is left out and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.data import DataSet, PixelImages
from benchmark.networks.base import Frozen, FrozenModule, Input
from benchmark.probes import geometry, linear
from benchmark.probes.base import probes
from benchmark.probes.subject import Subject
from benchmark.runtime.spec import Execution
from results.record import Metric
from tests.benchmark.conftest import Command
from tests.benchmark.probes.subjects import CLASSES, make_subject, pixels, small_network, striped

PLACE = {"features", "split", "epoch"}
PROTOCOLS = {
    "knn_top1": {"k", "T", "similarity"},
    "logistic_top1": {"C"},
    "linear_top1": {"optimizer", "epochs", "lr", "batch", "weight_decay", "crops"},
    "finetune_top1": {"percent", "labels", "images", "optimizer", "epochs", "backbone_lr", "head_lr", "schedule"}
    | {"batch", "weight_decay", "crops"},
    "fewshot_top1": {"labels_per_class", "draws", "probe"},
    "retrieval_map": {"similarity", "gallery", "queries"},
    "retrieval_recall": {"k", "similarity", "gallery", "queries"},
    "clustering_nmi": {"clusters", "n_init", "seed", "distance"},
    "clustering_ari": {"clusters", "n_init", "seed", "distance"},
    "alignment": {"augmentation", "images"},
    "uniformity": {"t", "images"},
    "rankme": {"epsilon", "images"},
}
ON_FEATURES = ("knn", "logistic", "linear", "fewshot", "fewshot_svm", "fewshot_ridge", "retrieval", "clustering")
ALL = (*ON_FEATURES, "finetune", "fewshot_embedding", "clustering_embedding", "embedding")
OPTIONS = {"knn_k": (1, 5), "labels_per_class": (1, 5), "draws": 3, "linear_epochs": 3, "batch_size": 16}
OPTIONS |= {"finetune_percent": 50, "finetune_epochs": 2}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return striped()


def measured(subject: Subject, names: Sequence[str] = ALL, **options: Any) -> list[Metric]:
    """The metrics of these probes, one after the other, with ``OPTIONS`` or others."""
    given = {**OPTIONS, **options}
    found = []
    for name in names:
        kind = probes()[name]
        probe = kind(**{option: value for option, value in given.items() if option in kind.model_fields})
        found += probe.measure(replace(subject, own=subject.own / name)).metrics
    return found


def evaluate(network: Frozen, data: DataSet, folder: Path, names: Sequence[str] = ALL, **changed: Any) -> list[Metric]:
    """The same of a subject of its own; ``changed`` are fields of it, or options."""
    fields = {key: changed.pop(key) for key in ("split", "execution", "precision") if key in changed}
    return measured(make_subject(network, data, folder, **fields), names, **changed)


def by_name(metrics: list[Metric]) -> dict[str, float]:
    return {metric.name: metric.value for metric in metrics}


def test_every_probe_reports_with_its_whole_protocol(data: DataSet, tmp_path: Path) -> None:
    metrics = evaluate(small_network(), data, tmp_path)
    assert {metric.metric for metric in metrics} == set(PROTOCOLS)
    for metric in metrics:
        assert set(metric.protocol) == PROTOCOLS[metric.metric] | PLACE
        assert metric.protocol["split"] == "test"
        assert metric.protocol["epoch"] == 7
        assert (metric.sd is not None) == (metric.metric == "fewshot_top1")
        assert np.isfinite(metric.value)
    assert len(by_name(metrics)) == len(metrics)  # no two figures under one name


def test_epochs_that_nobody_knows_are_not_told_and_half_precision_is(data: DataSet, tmp_path: Path) -> None:
    (metric,) = evaluate(small_network(epochs=None), data, tmp_path, ("logistic",), precision="bf16")
    assert set(metric.protocol) == {"C", "features", "split", "precision"}
    assert metric.protocol["precision"] == "bf16"


def test_units(data: DataSet, tmp_path: Path) -> None:
    units = {metric.metric: metric.unit for metric in evaluate(small_network(), data, tmp_path)}
    of_geometry = {"alignment": "squared distance", "uniformity": "nats", "rankme": "dimensions"}
    assert units == {name: of_geometry.get(name, "fraction") for name in PROTOCOLS}


def test_accuracies_are_fractions_that_beat_chance(data: DataSet, tmp_path: Path) -> None:
    for metric in evaluate(small_network(), data, tmp_path, ("knn", "logistic")):
        assert 1.5 / CLASSES < metric.value <= 1


def test_equal_features_give_equal_figures_to_the_last_bit(data: DataSet, tmp_path: Path) -> None:
    first = evaluate(small_network(), data, tmp_path / "first")
    torch.rand(5)
    np.random.random(5)
    assert evaluate(small_network(), data, tmp_path / "second") == first


def test_the_size_of_batches_changes_no_probe(data: DataSet, tmp_path: Path) -> None:
    names = ("knn", "logistic", "fewshot")
    small, large = (
        evaluate(small_network(), data, tmp_path / str(size), names, execution=Execution(feature_batch_size=size))
        for size in (7, 64)
    )
    assert by_name(small) == pytest.approx(by_name(large))


def test_the_network_comes_back_as_it_was(data: DataSet, tmp_path: Path) -> None:
    network = small_network()
    assert network.projector is not None
    both = nn.ModuleList([network.module, network.projector]).train()
    before = {name: value.clone() for name, value in both.state_dict().items()}
    evaluate(network, data, tmp_path)
    assert all(module.training for module in both.modules())
    assert all(torch.equal(before[name], value) for name, value in both.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in both.parameters())


def test_the_named_split_is_evaluated_and_the_other_is_not_read(data: DataSet, tmp_path: Path) -> None:
    class Unreadable(PixelImages):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("the test split was read")

    blind = replace(data, test=Unreadable(torch.empty(0), np.empty(0)))
    tune = evaluate(small_network(), blind, tmp_path / "tune", split="tune")
    test = evaluate(small_network(), replace(data, test=data.tune), tmp_path / "test")
    assert [metric.value for metric in tune] == [metric.value for metric in test]
    assert {metric.protocol["split"] for metric in tune} == {"tune"}


def test_probes_are_trained_on_the_labelled_images(data: DataSet, tmp_path: Path) -> None:
    pixels = data.train.pixels
    assert pixels is not None
    unlabelled = replace(data, train=PixelImages(pixels, np.full(48, -1)))
    expected = evaluate(small_network(), data, tmp_path / "first", ("logistic",))
    assert evaluate(small_network(), unlabelled, tmp_path / "second", ("logistic",)) == expected


def test_pixels_are_the_features_of_a_network_that_does_nothing(data: DataSet, tmp_path: Path) -> None:
    metrics = evaluate(pixels(data), data, tmp_path / "pixels", ON_FEATURES)
    assert {metric.protocol["features"] for metric in metrics} == {"pixels"}
    identity = FrozenModule("backbone", nn.Flatten(), Input.of(data), 64, epochs=7)
    same = evaluate(identity, data, tmp_path / "identity", ON_FEATURES)
    assert [metric.value for metric in metrics] == [metric.value for metric in same]


def test_cached_features_train_the_linear_probe_without_crops(data: DataSet, tmp_path: Path) -> None:
    options: dict[str, Any] = {"linear_crops": False, "batch_size": 256}
    (metric,) = evaluate(small_network(), data, tmp_path, ("linear",), **options)
    assert metric.protocol["crops"] == "none"
    assert metric.protocol["batch"] == 48  # the bank is smaller than the batch that was asked for


def test_top5_is_told_where_there_are_many_classes(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "TOP5_CLASSES", 8)
    metrics = evaluate(small_network(), replace(data, classes=8), tmp_path, ("linear",))
    assert [metric.metric for metric in metrics] == ["linear_top1", "linear_top5"]
    assert metrics[0].value <= metrics[1].value


def test_geometry_looks_at_evenly_spaced_images(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "MOST_IMAGES", 10)
    some = replace(data, test=data.test.subset(np.linspace(0, 29, 10).round().astype(np.int64)))
    metrics = evaluate(small_network(), data, tmp_path / "all", ("embedding",))
    assert {metric.protocol["images"] for metric in metrics} == {10}
    assert by_name(metrics) == pytest.approx(
        by_name(evaluate(small_network(), some, tmp_path / "some", ("embedding",))), rel=1e-5
    )


def test_geometry_of_a_collapsed_embedding(data: DataSet, tmp_path: Path) -> None:
    class Constant(nn.Module):
        def forward(self, x_ND: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x_ND), 16)

    network = FrozenModule("backbone", nn.Flatten(), Input.of(data), 64, 7, Constant())
    metrics = evaluate(network, data, tmp_path, ("embedding",))
    values = {(metric.metric, metric.protocol["features"]): metric.value for metric in metrics}
    assert values["alignment", "embedding"] == pytest.approx(0, abs=1e-6)
    assert values["uniformity", "embedding"] == pytest.approx(0, abs=1e-5)
    assert values["rankme", "embedding"] == pytest.approx(1, abs=1e-3)
    assert values["rankme", "backbone"] > 5


def test_few_labels_on_the_embedding_see_it_and_not_the_features(data: DataSet, tmp_path: Path) -> None:
    class OneClass(nn.Module):
        def forward(self, x_ND: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x_ND), 2)

    network = replace(small_network(), projector=OneClass())
    metrics = evaluate(network, data, tmp_path, ("fewshot_embedding", "fewshot"))
    values = {(m.protocol["features"], m.protocol["labels_per_class"]): m.value for m in metrics}
    assert values["embedding", 5] == pytest.approx(1 / CLASSES)
    assert values["backbone", 5] > 0.5


def test_what_the_data_cannot_give_is_left_out(data: DataSet, tmp_path: Path) -> None:
    options: dict[str, Any] = {"knn_k": (48, 49), "labels_per_class": (16, 17)}
    with pytest.warns(UserWarning, match=r"evaluation\.\w+: \[\d+\] left out above") as told:
        metrics = evaluate(small_network(), data, tmp_path, ("knn", "fewshot"), **options)
    assert len(told) == 2
    assert [metric.protocol.get("k", metric.protocol.get("labels_per_class")) for metric in metrics] == [48, 16]


@pytest.mark.gpu
def test_the_device_changes_figures_by_rounding_only(data: DataSet, tmp_path: Path) -> None:
    from benchmark.runtime.process import Process

    expected = by_name(evaluate(small_network(), data, tmp_path / "cpu"))
    network = small_network()
    assert network.projector is not None
    on_gpu = replace(network, module=network.module.cuda(), projector=network.projector.cuda())
    subject = make_subject(on_gpu, data, tmp_path / "cuda", process=Process(torch.device("cuda", 0)))
    assert by_name(measured(subject)) == pytest.approx(expected, abs=0.05)


def test_the_command_lists_every_probe_with_its_options(spherebench: Command) -> None:
    rows = {row["probe"]: row for row in json.loads(spherebench("probes", "--format", "json").stdout)}
    assert list(rows) == list(probes())
    assert rows["knn"]["options"] == "knn_k=(10, 20, 100, 200), knn_temperature=0.07"
    assert all(row["what it measures"] for row in rows.values())
