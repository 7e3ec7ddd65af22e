import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.collect import collect
from results.compare import dataset_name, read_published, render
from results.record import Metric

Make = Callable[..., Any]
Write = Callable[..., Path]
IMAGENET20 = {
    "epochs": 100,
    "batch_size": 2048,
    "data": {"source": "imagenet20", "limit": None},
    "backbone": {"name": "resnet18", "stem": "imagenet"},
}


def linear(value: float, split: str = "test", **protocol: Any) -> list[Metric]:
    return [Metric(metric="linear_top1", protocol={**protocol, "split": split, "epoch": 100}, value=value)]


def compared(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(render(collect([folder]), "json"))
    return rows


def accuracies(folder: Path) -> list[dict[str, Any]]:
    return [row for row in compared(folder) if row["unit"] == "%"]


def test_every_published_figure_is_read_with_its_source() -> None:
    published = read_published()
    assert len(published) == 233
    told = [f"published_{name}" for name in ("source", "dataset", "backbone", "method", "metric")]
    assert (published[told] != "").all(axis=None)
    assert published["published_value"].notna().all()


def test_same_protocol_is_comparable(make_record: Make, write_runs: Write) -> None:
    folder = write_runs(make_record(dim=8192, seed=seed, network=IMAGENET20, metrics=linear(0.46)) for seed in (0, 1))
    (row,) = accuracies(folder)
    assert (row["mean"], row["published"], row["n"]) == (pytest.approx(46), 47.0, 2)
    assert (row["comparable"], row["differences"]) == (True, "")
    assert row["published_protocol"] == "linear probe, 100 epochs, ImageNet val"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epochs": 10}, "epochs 10 against 100"),
        ({"batch_size": 256}, "batch size 256 against 2048"),
        ({"data": {"source": "imagenet20", "limit": 500}}, "trained on the first 500 images only"),
    ],
)
def test_each_difference_is_stated(make_record: Make, write_runs: Write, change: dict[str, Any], reason: str) -> None:
    (row,) = accuracies(write_runs([make_record(dim=8192, network=IMAGENET20 | change, metrics=linear(0.4))]))
    assert (row["comparable"], row["differences"]) == (False, reason)


def test_epochs_of_the_probe_are_compared(make_record: Make, write_runs: Write) -> None:
    metrics = linear(0.4, epochs=5)
    (row,) = accuracies(write_runs([make_record(dim=8192, network=IMAGENET20, metrics=metrics)]))
    assert row["differences"] == "probe trained for 5 epochs against 100"


def test_weights_from_a_file_are_compared_and_what_fits_nothing_is_not(make_record: Make, write_runs: Write) -> None:
    settings = {"backbone": IMAGENET20["backbone"], "content": "0" * 64}
    on = {"probe": "linear", "metrics": linear(0.4), "settings": {"data": IMAGENET20["data"]}}
    weights = make_record(
        "weights", None, kind="weights", title="Mine", network=settings, measurements=[on], metrics=()
    )
    folder = write_runs([weights])
    assert "No published figure of Mine on imagenet20 with resnet18." in render(collect([folder]))
    write_runs([make_record("untrained", None, kind="random_init", metrics=linear(0.4))])
    assert "untrained" not in render(collect([folder]))


def test_probe_without_the_published_crops_is_another(make_record: Make, write_runs: Write) -> None:
    metrics = [
        Metric(metric=f"linear_top{k}", protocol={"crops": "none", "split": "test"}, value=value)
        for k, value in ((1, 0.7), (5, 0.89))
    ]
    run = IMAGENET20 | {
        "data": {"source": "imagenet"},
        "backbone": {"name": "resnet50", "stem": "imagenet"},
        "epochs": 200,
    }
    rows = accuracies(write_runs([make_record("sfrik_l3", 8192, network=run, metrics=metrics)]))
    assert {row["metric"]: row["published"] for row in rows} == {"linear_top1": 70.2, "linear_top5": 89.6}
    assert {row["differences"] for row in rows} == {"probe trained without random crops"}


RESNET50 = {
    "epochs": 200,
    "batch_size": 2048,
    "data": {"source": "imagenet", "limit": None},
    "backbone": {"name": "resnet50", "stem": "imagenet"},
}


def test_fine_tuning_stands_beside_that_on_as_many_labels(make_record: Make, write_runs: Write) -> None:
    listed = {"labels": "published list", "epochs": 20, "backbone_lr": 0.004, "head_lr": 1.0, "split": "test"}
    metrics = [
        Metric(metric=f"finetune_top{k}", protocol={"percent": percent, **listed}, value=0.5)
        for k, percent in ((1, 1), (5, 10))
    ]
    drawn = {"percent": 1, **listed, "labels": "stratified draw 0", "epochs": 5}
    metrics.append(Metric(metric="finetune_top1", protocol=drawn, value=0.4))
    rows = accuracies(write_runs([make_record("sfrik_l3", 32768, network=RESNET50, metrics=metrics)]))
    assert {(row["mean"], row["published_metric"], row["published"], row["differences"]) for row in rows} == {
        (50.0, "semi1pct_top1", 46.6, ""),
        (50.0, "semi10pct_top5", 87.5, ""),
        (
            40.0,
            "semi1pct_top1",
            46.6,
            "probe trained for 5 epochs against 20; labels by a stratified draw 0 against the published list",
        ),
    }


def test_whole_fine_tuning_is_compared_with_lightlys_and_rates_with_rates(make_record: Make, write_runs: Write) -> None:
    whole = {"percent": 100, "labels": "all", "epochs": 30, "backbone_lr": 0.05, "head_lr": 0.5, "split": "test"}
    metrics = [Metric(metric="finetune_top1", protocol=whole, value=0.7)]
    run = RESNET50 | {"epochs": 100, "batch_size": 256}
    (row,) = accuracies(write_runs([make_record("barlow_twins", 8192, network=run, metrics=metrics)]))
    assert (row["published"], row["published_metric"]) == (72.6, "finetune_top1_max_over_epochs")
    best = "best epoch on the test split against the last epoch"
    assert row["differences"] == f"{best}; rate of the classifier 0.5 against 0.05"


@pytest.mark.parametrize(
    ("metric", "source", "found"),
    [
        ("linear_top5", "places205", [("places205_top5", 83.4)]),
        ("linear_top5", "folder:/x/places205", [("places205_top5", 83.4)]),
        ("multilabel_map", "voc07", [("voc07_map", 84.9), ("voc07_map", 86.6)]),
        ("linear_top5", "stl10", []),
    ],
)
def test_a_network_on_another_data_set_stands_beside_such_figures(
    make_record: Make, write_runs: Write, metric: str, source: str, found: list[Any]
) -> None:
    """Of networks that the same data trained, and not of those that were trained where ours is measured."""
    metrics = [Metric(metric=metric, protocol={"epochs": 28, "split": "test"}, value=0.8)]
    on = {"probe": metric.split("_")[0], "metrics": metrics, "settings": {"data": {"source": source}}}
    folder = write_runs([make_record("vicreg", 8192, network=RESNET50, measurements=[on], metrics=())])
    rows = accuracies(folder)
    assert [(row["published_metric"], row["published"]) for row in rows] == found
    assert not [row for row in rows if "trained on" in row["differences"]]
    if source == "places205":
        assert "imagenet, resnet50, on places205: Linear probe, top-5" in render(collect([folder]))


def test_nearest_published_dimension_stands_beside_ours(make_record: Make, write_runs: Write) -> None:
    (row,) = accuracies(write_runs([make_record(dim=512, network=IMAGENET20, metrics=linear(0.4))]))
    assert row["published_embedding_dim"] == 1024
    assert row["differences"] == "D 512 against 1024"


def test_tune_split_is_no_test_split(make_record: Make, write_runs: Write) -> None:
    (row,) = accuracies(write_runs([make_record(dim=8192, network=IMAGENET20, metrics=linear(0.4, "tune"))]))
    assert row["differences"] == "measured on the tune split"


def test_kernel_order_decides_which_figure(make_record: Make, write_runs: Write) -> None:
    methods = ("sfrik_l1", "sfrik_l2", "sfrik_l3")
    folder = write_runs(make_record(method, 8192, network=IMAGENET20, metrics=linear(0.4)) for method in methods)
    assert {row["method"]: row["published"] for row in accuracies(folder)} == dict(
        zip(methods, (27.7, 47.0, 47.5), strict=True)
    )


def test_other_simclr_is_said_to_be_another(make_record: Make, write_runs: Write) -> None:
    folder = write_runs(
        make_record(method, 8192, network=IMAGENET20, metrics=linear(0.4)) for method in ("simclr", "simclr_sfrik")
    )
    assert {row["method"]: row["differences"] for row in accuracies(folder)} == {
        "simclr": "another variant of the SimCLR loss",
        "simclr_sfrik": "",
    }


def test_knn_is_compared_at_the_published_k_only(make_record: Make, write_runs: Write) -> None:
    metrics = [Metric(metric="knn_top1", protocol={"k": k, "T": 0.07, "split": "test"}, value=0.8) for k in (20, 200)]
    run = {"data": {"source": "cifar10", "limit": None}, "backbone": {"name": "resnet18", "stem": "small"}}
    rows = accuracies(write_runs([make_record("simclr", 512, network=run, metrics=metrics)]))
    assert {row["protocol"] for row in rows} == {"k=200, T=0.07, split=test"}
    assert all("best epoch on the test split" in row["differences"] for row in rows)
    assert all("T=0.07 against 0.1" in row["differences"] for row in rows)
    assert all("stem" in row["not_stated"] for row in rows)


def test_online_probe_is_not_ours(make_record: Make, write_runs: Write) -> None:
    run = {
        "epochs": 1000,
        "data": {"source": "npz:/x/cifar10.npz"},
        "backbone": {"name": "resnet18", "stem": "imagenet"},
    }
    rows = accuracies(write_runs([make_record("barlow_twins", 2048, network=run, metrics=linear(0.9))]))
    told = {row["source"].partition(" ")[0]: row["differences"] for row in rows}
    assert told["Fang"] == "epochs 1000 against 500; the data are a npz source, taken by its name"
    assert told["solo-learn"] == (
        "the data are a npz source, taken by its name; ImageNet stem against resnet18-cifar; "
        "online probe against frozen features"
    )


def test_memory_stands_beside_published_memory_in_their_unit(make_record: Make, write_runs: Write) -> None:
    run = {"data": {"source": "imagenet"}, "backbone": {"name": "resnet50", "stem": "imagenet"}}
    rows = compared(write_runs([make_record("vicreg", 32768, network=run)]))
    memory = [row for row in rows if row["unit"] == "GB" and row["source"].startswith("Zheng")]
    assert [row["published"] for row in memory] == [22.5, 25.4, 31.1]
    assert memory[0]["mean"] == pytest.approx(90 * 2**20 / 1e9)
    assert "another machine (device=cpu" in memory[0]["differences"]


def test_what_nobody_published_is_said_plainly(digits: Path, make_record: Make, write_runs: Write) -> None:
    assert render(collect([digits]), "md").startswith(
        "Nothing was published for digits with small_cnn; there is imagenet"
    )
    folder = write_runs(
        [
            make_record("auh", 8192, network=IMAGENET20, metrics=linear(0.4)),
            make_record("mmd", 8192, network=IMAGENET20),
        ]
    )
    assert "No published figure of mmd on imagenet20 with resnet18." in render(collect([folder]))


def test_table_for_reading_puts_protocol_beside_protocol(make_record: Make, write_runs: Write) -> None:
    run = IMAGENET20 | {"epochs": 10}
    records = [
        make_record(method, dim, network=run, metrics=linear(0.4)) for method, dim in (("auh", 8192), ("vicreg", 512))
    ]
    text = render(collect([write_runs(records)]), "md")
    assert "| AUH      | 8192 | 40.0 (n=1) |        46.8 | no                     |" in text
    assert "no: D 512 against 1024" in text
    assert "Ours: split=test, epoch=100." in text
    assert "linear probe, 100 epochs, ImageNet val." in text
    assert "Not comparable as they stand: epochs 10 against 100." in text


def test_failed_configuration_is_compared_as_such(make_record: Make, write_runs: Write) -> None:
    records = [
        make_record("auh", 8192, network=IMAGENET20, metrics=linear(0.4)),
        make_record("vicreg", 8192, network=IMAGENET20, status="diverged"),
    ]
    folder = write_runs(records)
    assert {row["method"]: row["failures"] for row in accuracies(folder)} == {"auh": "", "vicreg": "diverged 1/1"}
    assert "diverged 1/1" in render(collect([folder]))


def test_own_files_stand_for_the_data_set_they_are_named_after() -> None:
    assert [dataset_name(name) for name in ("imagenet20", "npz:/a/cifar10.npz", "stl10")] == [
        "imagenet-20pct",
        "cifar10",
        "stl10",
    ]


def test_sfrik_without_order_concerns_every_order(make_record: Make, write_runs: Write) -> None:
    run = {"data": {"source": "imagenet", "limit": None}, "backbone": {"name": "resnet50", "stem": "imagenet"}}
    rows = compared(write_runs([make_record("sfrik_l3", 32768, network=run)]))
    assert [row["published"] for row in rows if row["metric"] == "peak_bytes_step"] == [10.3, 13.1, 18.8, 30.9]


def test_what_is_solved_in_closed_form_has_no_counterpart(make_record: Make, write_runs: Write) -> None:
    run = {"regime": {"kernel": {"name": "rbf"}}}
    closed = make_record("kernel_spectral", None, kind="kernel", network=run, metrics=linear(0.5))
    folder = write_runs([closed])
    assert render(collect([folder]), "md").strip() == "There is no trained network to compare."
    write_runs([make_record("sfrik_l3", 64, metrics=linear(0.5))])
    assert "Nothing was published for digits" in render(collect([folder]), "md")
