from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.collect import collect, flatten, short_source
from results.record import Converted, MeasurementCost, Metric

Make = Callable[..., Any]
Write = Callable[..., Path]


def test_one_row_a_run_and_metric_with_axes_and_provenance(digits: Path) -> None:
    collection = collect([digits])
    tidy = collection.tidy()
    assert collection.axes == ("method", "seed", "embedding_dim")
    assert {"method", "embedding_dim", "seed", "data.source", "provenance.commit", "cost.step_seconds.median"} <= {
        *tidy
    }
    assert len(tidy) == len(collection.metrics) + (collection.runs["status"] != "done").sum()
    assert not tidy.duplicated(["id", "metric", "protocol"]).any()


def test_values_keep_their_full_precision(make_record: Make, write_runs: Write) -> None:
    value = 0.1 + 0.2
    folder = write_runs([make_record(metrics=[Metric(metric="m", protocol={}, value=value)])])
    assert collect([folder]).tidy()["value"].to_list() == [value]


def test_whole_numbers_stay_whole_where_a_run_has_none(make_record: Make, write_runs: Write) -> None:
    folder = write_runs([make_record(), make_record("auh", network={"data": {"source": "digits", "limit": 500}})])
    assert collect([folder]).runs["data.limit"].to_list() == [500, None]


def test_protocol_keys_are_columns_with_their_types(digits: Path) -> None:
    metrics = collect([digits]).metrics
    knn = metrics[metrics["metric"] == "knn_top1"]
    assert set(knn["protocol.k"]) == {10, 20, 100}
    assert {type(k) for k in knn["protocol.k"]} == {int}
    assert set(metrics.loc[metrics["metric"] == "fewshot_top1", "protocol.probe"]) == {"logistic C=1"}
    assert set(metrics["measurement"].str.split("-").str[0]) == {"fewshot", "knn", "logistic", "embedding"}


def test_evaluation_took_what_its_measurements_took(make_record: Make, write_runs: Write) -> None:
    old = Converted(schema_version=1, id="old", evaluation_seconds=7.5)
    unknown = [{"probe": "knn", "cost": MeasurementCost()}]
    records = [
        make_record(seed=0),
        make_record(seed=1, metrics=(), measurements=unknown, converted=old),
        make_record(seed=2, metrics=()),
    ]
    runs = collect([write_runs(records)]).runs.set_index("seed")
    assert runs.loc[[0, 1], "cost.evaluation_seconds"].to_list() == [1.0, 7.5]
    assert runs["cost.evaluation_seconds"].isna()[2]


def test_same_content_at_two_paths_is_one_data_set(make_record: Make, write_runs: Write) -> None:
    paths = ("npz:/a/own.npz", "npz:/b/other.npz")
    data = [{"source": path, "limit": None, "content": "ab" * 32} for path in paths]
    runs = collect([write_runs(make_record(seed=seed, network={"data": own}) for seed, own in enumerate(data))]).runs
    assert runs["configuration"].nunique() == 1
    assert set(runs["dataset"]) == set(runs["data.source"]) == {paths[0]}


def test_weights_are_known_by_their_content(make_record: Make, write_runs: Write) -> None:
    files = [("/a/x.pth", "1"), ("/b/x.pth", "1"), ("/a/x.pth", "2")]
    settings = [{"path": path, "content": content} for path, content in files]
    runs = collect([write_runs(make_record("weights", None, kind="weights", network=own) for own in settings)]).runs
    assert runs.groupby("content")["configuration"].nunique().to_dict() == {"1": 1, "2": 1}
    assert runs["configuration"].nunique() == 2


def test_two_contents_of_one_path_are_two_data_sets(make_record: Make, write_runs: Write) -> None:
    data = [{"source": "npz:/a/own.npz", "limit": None, "content": digit * 64} for digit in "12"]
    collection = collect([write_runs(make_record(seed=seed, network={"data": own}) for seed, own in enumerate(data))])
    names = [f"npz:/a/own.npz (content {digit * 8})" for digit in "12"]
    assert set(collection.runs["dataset"]) == set(collection.metrics["dataset"]) == set(names)
    assert collection.runs["configuration"].nunique() == 2
    assert short_source(names[0]) == "npz:own.npz (content 11111111)"


def test_weights_stand_with_what_they_were_measured_on(make_record: Make, write_runs: Write) -> None:
    metric = Metric(metric="knn_top1", protocol={"k": 20}, value=0.9)
    data = [{"data": {"source": source}} for source in ("mnist", "stl10")]
    on = [{"probe": "knn", "metrics": [metric], "settings": own} for own in data]
    measured = make_record("weights", None, kind="weights", metrics=(), measurements=on)
    lost = make_record("weights", None, kind="weights", status="failed", network={"name": "lost"})
    collection = collect([write_runs([measured, lost, make_record()])])
    assert collection.metrics.loc[collection.metrics["id"] == measured.id, "dataset"].to_list() == ["mnist", "stl10"]
    assert collection.runs.set_index("id")["dataset"][lost.id] in ("digits", "mnist"), "one of its suite's"


def knn(value: float, temperature: float, **settings: Any) -> dict[str, Any]:
    """A measurement of kNN."""
    metric = Metric(metric="knn_top1", protocol={"k": 20, "T": temperature, "split": "test"}, value=value)
    return {"probe": "knn", "metrics": [metric], "settings": {"knn_temperature": temperature, **settings}}


def test_two_values_of_an_option_stand_side_by_side(make_record: Make, write_runs: Write) -> None:
    one = make_record(metrics=(), measurements=[knn(0.8, 0.1), knn(0.9, 0.07)])
    metrics = collect([write_runs([one])]).metrics
    assert dict(zip(metrics["key"], metrics["value"], strict=True)) == {
        "k=20, T=0.07, split=test": 0.9,
        "k=20, T=0.1, split=test": 0.8,
    }
    assert metrics["protocol.T"].to_list() == [0.07, 0.1], "in the order of their values"


def test_an_option_that_no_protocol_tells_is_told(make_record: Make, write_runs: Write) -> None:
    half = make_record(seed=1, metrics=(), measurements=[knn(0.8, 0.07, precision="bf16")])
    whole = make_record(seed=0, metrics=(), measurements=[knn(0.9, 0.07)])
    metrics = collect([write_runs([half, whole])]).metrics
    assert set(metrics["key"]) == {f"k=20, T=0.07, split=test, precision={name}" for name in ("fp32", "bf16")}
    assert set(metrics["protocol.precision"]) == {"fp32", "bf16"}


@pytest.mark.parametrize(("again", "rows"), [(0.9, 1), (0.8, 2)])
def test_a_figure_measured_twice_is_told_once_unless_it_differs(
    make_record: Make, write_runs: Write, again: float, rows: int
) -> None:
    measurements = [knn(0.9, 0.07, knn_k=[20]), knn(again, 0.07, knn_k=[20, 200])]
    metrics = collect([write_runs([make_record(metrics=(), measurements=measurements)])]).metrics
    assert len(metrics) == metrics["key"].nunique() == rows


def test_order_of_metrics_is_that_of_probes_not_of_files(make_record: Make, write_runs: Write) -> None:
    first = make_record(seed=0, metrics=(), measurements=[knn(0.9, 0.07)])
    collection = collect([write_runs([first, make_record(seed=1)])])
    assert list(dict.fromkeys(collection.metrics["probe"])) == ["fewshot", "knn", "logistic", "embedding"]


def test_references_come_after_what_they_are_there_for(make_record: Make, write_runs: Write) -> None:
    pixels = make_record("a_pixels", None, kind="pixels", metrics=_fewshot("pixels"))
    seen = {"probe": "embedding", "metrics": _fewshot("embedding")}
    trained = make_record(metrics=_fewshot("backbone"), measurements=[seen])
    metrics = collect([write_runs([pixels, trained])]).metrics
    assert metrics["protocol.features"].to_list() == ["backbone", "embedding", "pixels"]


def _fewshot(features: str) -> list[Metric]:
    protocol = {"labels_per_class": 1, "probe": "logistic C=1", "features": features}
    return [Metric(metric="fewshot_top1", protocol=protocol, value=0.5)]


def test_two_probes_of_one_metric_do_not_share_a_table(make_record: Make, write_runs: Write) -> None:
    seen = {"probe": "fewshot_embedding", "metrics": _fewshot("embedding")}
    records = [make_record(seed=0, metrics=_fewshot("backbone")), make_record(seed=1, metrics=(), measurements=[seen])]
    assert collect([write_runs(records)]).metrics["key"].nunique() == 2


def test_details_are_of_the_measurement_that_is_done(make_record: Make, write_runs: Write) -> None:
    lost = {"probe": "spectrum", "status": "failed", "settings": {"split": "tune"}}
    record = make_record(measurements=[lost, {"probe": "spectrum", "details": {"eigenvalues": [1.0]}}])
    collection = collect([write_runs([record, make_record("auh")])])
    assert collection.details("spectrum") == {record.id: {"eigenvalues": [1.0]}}


def test_metric_of_two_features_in_one_run_makes_two_tables(digits: Path) -> None:
    metrics = collect([digits]).metrics
    keys = metrics.groupby("metric")["key"].unique().to_dict()
    assert sorted(keys["rankme"]) == ["split=test, features=backbone", "split=test, features=embedding"]
    assert keys["logistic_top1"].tolist() == ["C=1.0, split=test"], "pixels and backbone share a table"


def test_flatten_makes_dotted_paths_and_lists_into_text() -> None:
    tree = {"data": {"source": "digits", "crop": {"size": 32}}, "weights": (1, 40)}
    assert flatten(tree) == {"data.source": "digits", "data.crop.size": 32, "weights": "[1, 40]"}
