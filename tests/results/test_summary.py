import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from results.collect import collect
from results.record import Metric
from results.summary import half_width, metric_title, natural, select, summarise

Make = Callable[..., Any]
Write = Callable[..., Path]


def top1(value: float, **protocol: str | int | float) -> list[Metric]:
    return [Metric(metric="knn_top1", protocol={"k": 20, **protocol}, value=value)]


def summary_of(folder: Path, metric: str = "knn_top1") -> pd.DataFrame:
    return select(summarise(collect([folder])), metric)


def test_seeds_are_averaged_with_their_interval(make_record: Make, write_runs: Write) -> None:
    values = [0.90, 0.92, 0.97]
    folder = write_runs([make_record(seed=seed, metrics=top1(value)) for seed, value in enumerate(values)])
    (row,) = summary_of(folder).to_dict("records")
    assert row["mean"] == pytest.approx(0.93)
    assert (row["n"], row["runs"], row["seeds"], row["failures"]) == (3, 3, "0 1 2", "")
    assert row["half_width"] == pytest.approx(4.302652729911275 * 0.036055512754639925 / math.sqrt(3))
    assert row["high"] - row["mean"] == pytest.approx(row["half_width"])


def test_two_configurations_are_never_averaged(make_record: Make, write_runs: Write) -> None:
    folder = write_runs(
        make_record(metrics=top1(value), network={"batch_size": batch}, axes={"batch_size": batch})
        for batch, value in ((1024, 0.8), (256, 0.9))
    )
    rows = summary_of(folder)
    assert rows["label"].to_list() == ["SFRIK L=2, batch_size=256", "SFRIK L=2, batch_size=1024"]
    assert rows["mean"].to_list() == [0.9, 0.8]


def test_a_difference_off_the_axes_shows_too(make_record: Make, write_runs: Write) -> None:
    folder = write_runs(make_record(metrics=top1(0.9), network={"loss": {"tau": tau}}) for tau in (0.1, 0.2))
    assert summary_of(folder)["label"].to_list() == ["SFRIK L=2, tau=0.1", "SFRIK L=2, tau=0.2"]


def test_what_follows_the_dimension_is_no_part_of_the_name(make_record: Make, write_runs: Write) -> None:
    folder = write_runs(
        make_record(dim=dim, metrics=top1(0.9), network={"loss": {"w": 4000 / dim}}) for dim in (64, 256)
    )
    assert summary_of(folder)["label"].unique().tolist() == ["SFRIK L=2"]


def test_failures_are_counted_in_every_table_of_the_data_set(make_record: Make, write_runs: Write) -> None:
    statuses = ["done", "diverged", "out-of-memory", "diverged"]
    records = [make_record(seed=seed, status=status) for seed, status in enumerate(statuses)]
    summary = summarise(collect([write_runs(records)]))
    assert set(summary["failures"]) == {"diverged 2/4, out-of-memory 1/4"}
    assert set(summary["n"]) == {1}
    assert summary["half_width"].isna().all()


def test_configuration_that_only_failed_keeps_its_rows(make_record: Make, write_runs: Write) -> None:
    folder = write_runs([make_record(), make_record("vicreg", status="failed")])
    rows = summary_of(folder)
    lost = rows[rows["method"] == "vicreg"]
    assert lost["n"].to_list() == [0] * len(rows["key"].unique())
    assert set(lost["failures"]) == {"failed 1/1"}
    assert set(lost["protocol"]) == set(rows["key"])


def test_failed_measurement_is_counted_in_its_probes_tables_only(make_record: Make, write_runs: Write) -> None:
    done = [Metric(metric="logistic_top1", protocol={"C": 1.0}, value=0.9)]
    records = [
        make_record(seed=0, metrics=[*top1(0.9), *done]),
        make_record(seed=1, metrics=done, measurements=[{"probe": "knn", "status": "failed"}]),
    ]
    summary = summarise(collect([write_runs(records)]))
    assert dict(zip(summary["metric"], summary["failures"], strict=True)).items() >= {
        ("knn_top1", "failed 1/2"),
        ("logistic_top1", ""),
        ("step_seconds", ""),
    }


def test_failures_of_networks_and_of_measurements_are_counted_together(make_record: Make, write_runs: Write) -> None:
    records = [
        make_record(seed=0, metrics=top1(0.9)),
        make_record(seed=1, metrics=(), measurements=[{"probe": "knn", "status": "failed"}]),
        make_record(seed=2, status="failed"),
    ]
    (row,) = summary_of(write_runs(records)).to_dict("records")
    assert (row["failures"], row["n"], row["runs"]) == ("failed 2/3", 1, 3)


def test_configuration_whose_measurement_only_failed_keeps_its_row(make_record: Make, write_runs: Write) -> None:
    lost = make_record("vicreg", metrics=(), measurements=[{"probe": "knn", "status": "out-of-memory"}])
    rows = summary_of(write_runs([make_record(metrics=top1(0.9)), lost])).set_index("method")
    assert (rows["failures"]["vicreg"], rows["n"]["vicreg"]) == ("out-of-memory 1/1", 0)


def test_failure_of_other_options_is_no_failure_here(make_record: Make, write_runs: Write) -> None:
    again = {"probe": "knn", "status": "failed", "settings": {"knn_temperature": 0.1}}
    lost = make_record("vicreg", metrics=(), measurements=[again])
    rows = summary_of(write_runs([make_record(metrics=top1(0.9)), lost]))
    assert rows[["method", "failures"]].to_numpy().tolist() == [["sfrik_l2", ""]]


def test_figure_that_another_measurement_found_is_no_failure(make_record: Make, write_runs: Write) -> None:
    both = {"probe": "knn", "settings": {"knn_k": [20, 200]}}
    longer = Metric(metric="knn_top1", protocol={"k": 200}, value=0.8)
    records = [
        make_record("auh", metrics=top1(0.9), measurements=[both | {"status": "failed"}]),
        make_record("vicreg", metrics=(), measurements=[both | {"metrics": [*top1(0.9), longer]}]),
    ]
    rows = summary_of(write_runs(records)).set_index(["method", "key"])["failures"]
    assert rows.to_dict() == {
        ("auh", "k=20"): "",
        ("auh", "k=200"): "failed 1/1",
        ("vicreg", "k=20"): "",
        ("vicreg", "k=200"): "",
    }


def test_network_that_nothing_was_measured_on_yet_is_no_failure(make_record: Make, write_runs: Write) -> None:
    (row,) = summary_of(write_runs([make_record(metrics=top1(0.9)), make_record(seed=1, metrics=())])).to_dict(
        "records"
    )
    assert (row["failures"], row["n"], row["runs"]) == ("", 1, 2)


def test_network_measured_on_other_data_says_what_it_was_trained_on(make_record: Make, write_runs: Write) -> None:
    on = {"probe": "knn", "metrics": top1(0.5), "settings": {"data": {"source": "mnist"}}}
    rows = summary_of(write_runs([make_record(metrics=top1(0.9), measurements=[on])])).set_index("dataset")
    assert rows["label"].to_dict() == {"digits": "SFRIK L=2", "mnist": "SFRIK L=2, trained on digits"}


@pytest.mark.parametrize(("method", "kind"), [("weights", "weights"), ("raw_pixels", "pixels")])
def test_what_was_trained_here_on_nothing_keeps_its_name_on_every_data_set(
    method: str, kind: str, make_record: Make, write_runs: Write
) -> None:
    data = [{"data": {"source": source}} for source in ("digits", "mnist")]
    on = [{"probe": "knn", "metrics": top1(0.5), "settings": own} for own in data]
    rows = summary_of(write_runs([make_record(method, None, kind=kind, metrics=(), measurements=on)]))
    assert rows[["dataset", "label"]].to_numpy().tolist() == [["digits", method], ["mnist", method]]


def test_names_are_ordered_by_the_numbers_in_them() -> None:
    names = [f"ridge={ridge}" for ridge in (0.0, 1e-05, 0.0001, 0.01, 0.1, 2, 10)]
    assert pd.Series(names[::-1]).sort_values(key=natural).to_list() == names


def test_figure_that_is_not_finite_is_a_failure(make_record: Make, write_runs: Write) -> None:
    folder = write_runs([make_record(metrics=top1(math.nan)), make_record(seed=1, metrics=top1(0.9))])
    (row,) = summary_of(folder).to_dict("records")
    assert (row["mean"], row["n"], row["failures"]) == (0.9, 1, "not finite 1/2")


def test_a_run_that_measured_nothing_but_costs(make_record: Make, write_runs: Write) -> None:
    summary = summarise(collect([write_runs([make_record(metrics=())])]))
    assert "step_seconds" in set(summary["metric"])
    assert not {"linear_top1", "knn_top1"} & set(summary["metric"])


def test_cost_of_two_machines_is_not_averaged(make_record: Make, write_runs: Write) -> None:
    here = make_record(seed=0)
    there = make_record(seed=1, provenance=here.provenance.model_copy(update={"device": "another"}))
    summary = summarise(collect([write_runs([here, there])]))
    steps = summary[summary["metric"] == "step_seconds"]
    assert steps["protocol"].to_list() == [
        "device=cpu, threads=2, processes=1",
        "device=another, threads=2, processes=1",
    ]
    assert steps["n"].to_list() == [1, 1]
    peaks = summary[summary["metric"] == "peak_bytes_step"]
    assert all(protocol.endswith("memory=tensor storages") for protocol in peaks["protocol"])


def test_cost_that_was_not_measured_is_absent(make_record: Make, write_runs: Write) -> None:
    cost = make_record().network.cost.model_copy(update={"loss_seconds": None, "peak_bytes_loss": None})
    summary = summarise(collect([write_runs([make_record(cost=cost)])]))
    assert not {"loss_seconds", "peak_bytes_loss"} & set(summary["metric"])


def test_rows_come_by_metric_then_method_then_dimension(digits: Path) -> None:
    summary = summarise(collect([digits]))
    metrics = summary["metric"].drop_duplicates().to_list()
    assert metrics[:4] == ["logistic_top1", "knn_top1", "fewshot_top1", "rankme"]
    first = summary[summary["metric"] == "logistic_top1"]
    assert first["label"].drop_duplicates().to_list()[-3:] == ["VICReg", "Raw pixels", "Untrained network"]
    assert first["embedding_dim"].to_list()[:3] == [64, 256, 1024]


def test_headline_takes_one_k_and_every_number_of_labels(digits: Path) -> None:
    chosen = select(summarise(collect([digits])))
    keys = chosen[["metric", "key"]].drop_duplicates()["key"].to_list()
    assert [key.split(",")[0] for key in keys] == [
        "C=1.0",
        "k=20",
        "labels_per_class=1",
        "labels_per_class=5",
        "labels_per_class=10",
    ]


def test_unknown_metric_lists_those_there_are(digits: Path) -> None:
    summary = summarise(collect([digits]))
    with pytest.raises(ValueError, match=r"no metric 'top1' in these runs: there are logistic_top1, knn_top1, .*all$"):
        select(summary, "top1")
    assert set(select(summary, "all")["metric"]) == {"logistic_top1", "knn_top1", "fewshot_top1", "rankme"}


def test_title_says_the_unit() -> None:
    assert metric_title("knn_top1", "fraction") == "Weighted kNN, top-1 accuracy (%)"
    assert metric_title("new_metric", "nats") == "new metric (nats)"


VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)


def _half(values: list[float]) -> float:
    return float(half_width(np.std(values, ddof=1), len(values)))


@given(VALUES)
def test_it_is_half_the_t_interval(values: list[float]) -> None:
    expected = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    assert _half(values) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(VALUES, st.floats(0.1, 10), st.floats(-100, 100))
def test_it_follows_the_scale_and_not_the_place(values: list[float], scale: float, shift: float) -> None:
    assert _half([scale * value + shift for value in values]) == pytest.approx(scale * _half(values), abs=1e-6)


def test_two_values_by_hand() -> None:
    # t_{1, 0.975} = tan(0.475 π) = 12.7062; the sample deviation of 1 and 3 is √2, so the half-width is 12.7062.
    assert _half([1.0, 3.0]) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-9)


def test_single_values_have_none() -> None:
    width = half_width(np.array([math.nan, 1.0]), np.array([1, 4]))
    assert math.isnan(width[0])
    assert width[1] == pytest.approx(stats.t.ppf(0.975, 3) / 2)
