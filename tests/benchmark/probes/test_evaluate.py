"""The whole evaluation of a tiny encoder on tiny images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.data import DataSet, PixelImages
from benchmark.networks.backbones import Encoder
from benchmark.probes import evaluate as evaluation
from benchmark.probes.evaluate import check, evaluate, evaluate_pixels
from benchmark.runtime.errors import UserError
from benchmark.suite.run import BackboneSpec, DataSpec, EvaluationSpec, OptimizerSpec, Run
from results.record import Metric

CLASSES = 3
PLACE = {"features", "split", "epoch"}
PROTOCOLS = {
    "knn_top1": {"k", "T", "similarity"},
    "logistic_top1": {"C"},
    "linear_top1": {"optimizer", "epochs", "lr", "batch", "weight_decay", "crops"},
    "fewshot_top1": {"labels_per_class", "draws", "probe"},
    "alignment": {"augmentation", "images"},
    "uniformity": {"t", "images"},
    "rankme": {"epsilon", "images"},
}
ALL = ("knn", "logistic", "linear", "fewshot", "embedding")


def stripes(size: int, seed: int, noise: int = 120) -> PixelImages:
    """8 x 8 images with a bright horizontal band where their class says, under noise."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % CLASSES
    pixels = torch.randint(noise, (size, 1, 8, 8), generator=draws, dtype=torch.uint8)
    for row in range(2):
        pixels[torch.arange(size), 0, 3 * labels + row] += 100
    return PixelImages(pixels, labels.numpy())


@pytest.fixture(scope="module")
def data() -> DataSet:
    train = stripes(48, 0)
    return DataSet("stripes", train, train, stripes(21, 1), stripes(30, 2), CLASSES, 1, 8, mean=(0.3,), std=(0.2,))


def make_run(seed: int = 0, **spec: Any) -> Run:
    defaults = {"probes": ALL, "knn_k": (1, 5), "labels_per_class": (1, 5), "draws": 3, "linear_epochs": 3}
    return Run(
        method="sfrik_l2",
        embedding_dim=16,
        batch_size=16,
        epochs=7,
        seed=seed,
        data=DataSpec(source="digits"),
        augmentation="grey",
        backbone=BackboneSpec(name="small_cnn"),
        optimizer=OptimizerSpec(base_lr=0.1),
        evaluation=EvaluationSpec(**{**defaults, "batch_size": 16, **spec}),
    )


@pytest.fixture
def encoder() -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 12))
        return Encoder(backbone, nn.Linear(12, 16, bias=False), 12)


def by_name(metrics: list[Metric]) -> dict[str, float]:
    return {metric.name: metric.value for metric in metrics}


def test_every_probe_reports_with_its_whole_protocol(encoder: Encoder, data: DataSet) -> None:
    metrics = evaluate(encoder, data, make_run(), "cpu")
    assert {metric.metric for metric in metrics} == set(PROTOCOLS)
    for metric in metrics:
        assert set(metric.protocol) == PROTOCOLS[metric.metric] | PLACE
        assert metric.protocol["split"] == "test"
        assert metric.protocol["epoch"] == 7
        assert (metric.sd is not None) == (metric.metric == "fewshot_top1")
        assert np.isfinite(metric.value)
    assert len(by_name(metrics)) == len(metrics)  # no two figures under one name


def test_units(encoder: Encoder, data: DataSet) -> None:
    units = {metric.metric: metric.unit for metric in evaluate(encoder, data, make_run(), "cpu")}
    geometry = {"alignment": "squared distance", "uniformity": "nats", "rankme": "dimensions"}
    assert units == {name: geometry.get(name, "fraction") for name in PROTOCOLS}


def test_accuracies_are_fractions_that_beat_chance(encoder: Encoder, data: DataSet) -> None:
    for metric in evaluate(encoder, data, make_run(probes=("knn", "logistic")), "cpu"):
        assert 1.5 / CLASSES < metric.value <= 1


def test_the_probes_of_the_spec_in_its_order(encoder: Encoder, data: DataSet) -> None:
    metrics = evaluate(encoder, data, make_run(probes=("fewshot", "knn")), "cpu")
    assert [metric.metric for metric in metrics] == ["fewshot_top1"] * 2 + ["knn_top1"] * 2
    assert [metric.protocol["labels_per_class"] for metric in metrics[:2]] == [1, 5]


def test_equal_features_give_equal_figures_to_the_last_bit(encoder: Encoder, data: DataSet) -> None:
    first = evaluate(encoder, data, make_run(seed=0), "cpu")
    torch.rand(5)
    np.random.random(5)
    assert evaluate(encoder, data, make_run(seed=1), "cpu") == first


def test_the_size_of_batches_changes_no_probe(encoder: Encoder, data: DataSet) -> None:
    probes = ("knn", "logistic", "fewshot")
    small, large = (by_name(evaluate(encoder, data, make_run(probes=probes, batch_size=n), "cpu")) for n in (7, 64))
    assert small == pytest.approx(large)


def test_the_encoder_comes_back_as_it_was(encoder: Encoder, data: DataSet) -> None:
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    evaluate(encoder, data, make_run(), "cpu")
    assert encoder.training
    assert all(module.training for module in encoder.modules())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in encoder.parameters())


def test_the_named_split_is_evaluated_and_the_other_is_not_read(encoder: Encoder, data: DataSet) -> None:
    class Unreadable(PixelImages):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("the test split was read")

    blind = replace(data, test=Unreadable(data.test.pixels, data.test.labels))
    swapped = replace(data, test=data.tune)
    tune = evaluate(encoder, blind, make_run(split="tune"), "cpu")
    test = evaluate(encoder, swapped, make_run(split="test"), "cpu")
    assert [metric.value for metric in tune] == [metric.value for metric in test]
    assert {metric.protocol["split"] for metric in tune} == {"tune"}


def test_probes_are_trained_on_the_labelled_images(encoder: Encoder, data: DataSet) -> None:
    unlabelled = PixelImages(data.train.pixels, np.full(48, -1))
    run = make_run(probes=("logistic",))
    expected = evaluate(encoder, data, run, "cpu")
    assert evaluate(encoder, replace(data, train=unlabelled), run, "cpu") == expected


def test_pixels_have_every_probe_and_no_embedding(data: DataSet) -> None:
    metrics = evaluate_pixels(data, make_run())
    assert {metric.metric for metric in metrics} == {"knn_top1", "logistic_top1", "linear_top1", "fewshot_top1"}
    assert {metric.protocol["features"] for metric in metrics} == {"pixels"}


def test_pixels_are_the_features_of_a_network_that_does_nothing(data: DataSet) -> None:
    identity = Encoder(nn.Flatten(), nn.Identity(), 64)
    run = make_run(probes=("knn", "logistic", "fewshot", "linear"))
    assert [metric.value for metric in evaluate_pixels(data, run)] == [
        metric.value for metric in evaluate(identity, data, run, "cpu")
    ]


def test_cached_features_train_the_linear_probe_without_crops(encoder: Encoder, data: DataSet) -> None:
    (metric,) = evaluate(encoder, data, make_run(probes=("linear",), linear_crops=False, batch_size=256), "cpu")
    assert metric.protocol["crops"] == "none"
    assert metric.protocol["batch"] == 48  # the bank is smaller than the batch that was asked for


def test_top5_is_told_where_there_are_many_classes(
    encoder: Encoder, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "TOP5_CLASSES", 8)
    metrics = evaluate(encoder, replace(data, classes=8), make_run(probes=("linear",)), "cpu")
    assert [metric.metric for metric in metrics] == ["linear_top1", "linear_top5"]
    assert metrics[0].value <= metrics[1].value


def test_geometry_looks_at_evenly_spaced_images(
    encoder: Encoder, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "GEOMETRY_IMAGES", 10)
    half = replace(data, test=data.test.subset(np.linspace(0, 29, 10).round().astype(np.int64)))
    run = make_run(probes=("embedding",))
    metrics = evaluate(encoder, data, run, "cpu")
    assert {metric.protocol["images"] for metric in metrics} == {10}
    assert metrics == evaluate(encoder, half, run, "cpu")


def test_geometry_of_a_collapsed_encoder(data: DataSet) -> None:
    class Constant(nn.Module):
        def forward(self, x_ND: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x_ND), 16)

    metrics = evaluate(Encoder(nn.Flatten(), Constant(), 64), data, make_run(probes=("embedding",)), "cpu")
    values = {(metric.metric, metric.protocol["features"]): metric.value for metric in metrics}
    assert values["alignment", "embedding"] == pytest.approx(0, abs=1e-6)
    assert values["uniformity", "embedding"] == pytest.approx(0, abs=1e-5)
    assert values["rankme", "embedding"] == pytest.approx(1, abs=1e-3)
    assert values["rankme", "backbone"] > 5


def test_what_the_data_cannot_give_is_left_out(encoder: Encoder, data: DataSet) -> None:
    run = make_run(probes=("knn", "fewshot"), knn_k=(48, 49), labels_per_class=(16, 17))
    metrics = evaluate(encoder, data, run, "cpu")
    assert [metric.protocol.get("k", metric.protocol.get("labels_per_class")) for metric in metrics] == [48, 16]


def test_nothing_to_probe_is_a_user_error(encoder: Encoder, data: DataSet) -> None:
    one_class = replace(data, labelled=data.labelled.subset(np.arange(0, 48, CLASSES)))
    with pytest.raises(UserError, match=r"stripes: .* 1 class, must have two"):
        evaluate(encoder, one_class, make_run(), "cpu")
    no_images = replace(data, tune=data.tune.subset(np.arange(0)))
    with pytest.raises(UserError, match=r"evaluation.split tune: stripes has 0 images"):
        check(no_images, make_run(split="tune"))


@pytest.mark.gpu
def test_the_device_changes_figures_by_rounding_only(encoder: Encoder, data: DataSet) -> None:
    expected = by_name(evaluate(encoder, data, make_run(), "cpu"))
    assert by_name(evaluate(encoder.cuda(), data, make_run(), "cuda")) == pytest.approx(expected, abs=0.05)
