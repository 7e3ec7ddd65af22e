import json
from collections.abc import Callable
from pathlib import Path

import pytest

from results.collect import LeftOut, collect, flatten
from results.record import Metric, Record


def test_one_row_a_run_and_metric_with_axes_and_provenance(digits: Path) -> None:
    collection = collect([digits])
    tidy = collection.tidy()
    assert collection.axes == ("method", "seed", "embedding_dim")
    assert {"method", "embedding_dim", "seed", "data.source", "provenance.commit", "cost.step_seconds.median"} <= {
        *tidy
    }
    assert len(tidy) == len(collection.metrics) + (collection.runs["status"] != "done").sum()
    assert not tidy.duplicated(["id", "metric", "protocol"]).any()


def test_values_keep_their_full_precision(make_record: Callable[..., Record], write_runs: Callable[..., Path]) -> None:
    value = 0.1 + 0.2
    folder = write_runs([make_record(metrics=[Metric(metric="m", protocol={}, value=value)])])
    assert collect([folder]).tidy()["value"].to_list() == [value]


def test_whole_numbers_stay_whole_where_a_run_has_none(
    make_record: Callable[..., Record], write_runs: Callable[..., Path]
) -> None:
    folder = write_runs([make_record(), make_record("auh", run={"data": {"source": "digits", "limit": 500}})])
    assert collect([folder]).runs["data.limit"].to_list() == [500, None]


def test_damaged_record_is_named_and_left_out(
    make_record: Callable[..., Record], write_runs: Callable[..., Path]
) -> None:
    good, bad = make_record(seed=0), make_record(seed=1)
    folder = write_runs([good, bad])
    damaged = folder / bad.id / "record.json"
    damaged.write_bytes(damaged.read_bytes()[:200])
    before = sorted(path for path in folder.rglob("*"))
    with pytest.warns(LeftOut, match=f"damaged record .*{bad.id}.*left out"):
        collection = collect([folder])
    assert collection.runs["id"].to_list() == [good.id]
    assert sorted(path for path in folder.rglob("*")) == before, "collecting writes nothing"


def test_record_of_another_schema_is_damaged(
    make_record: Callable[..., Record], write_runs: Callable[..., Path]
) -> None:
    record = make_record()
    folder = write_runs([record, make_record(seed=1)])
    path = folder / record.id / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    with pytest.warns(LeftOut, match="schema_version"):
        assert len(collect([folder]).runs) == 1


def test_a_run_in_two_folders_counts_once(make_record: Callable[..., Record], tmp_path: Path) -> None:
    record = make_record()
    for name in ("a", "b"):
        (tmp_path / name / record.id).mkdir(parents=True)
        record.write(tmp_path / name / record.id)
    with pytest.warns(LeftOut, match=f"run {record.id} is in .*a.* and again in .*b.*: the first is used"):
        assert len(collect([tmp_path / "a", tmp_path / "b"]).runs) == 1


def test_folder_may_be_named_twice_or_be_a_run_or_hold_suites(digits: Path) -> None:
    count = len(collect([digits]).runs)
    assert len(collect([digits, digits]).runs) == count
    assert len(collect([digits.parent]).runs) == count
    assert len(collect([next(digits.glob("sfrik_l2-*"))]).runs) == 1


def test_records_deep_inside_a_run_are_not_its_suite(
    make_record: Callable[..., Record], write_runs: Callable[..., Path]
) -> None:
    record, copied = make_record(seed=0), make_record(seed=1)
    folder = write_runs([record])
    inside = folder / record.id / "snapshot" / "results" / "reference" / copied.id
    inside.mkdir(parents=True)
    copied.write(inside)
    assert collect([folder]).runs["id"].to_list() == [record.id]


def test_folder_without_records_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"runs folder .*: no readable record\.json in it or two levels down$"):
        collect([tmp_path])
    with pytest.raises(ValueError, match="there is no such folder"):
        collect([tmp_path / "nowhere"])


def test_metric_of_two_features_in_one_run_makes_two_tables(digits: Path) -> None:
    metrics = collect([digits]).metrics
    keys = metrics.groupby("metric")["key"].unique().to_dict()
    assert sorted(keys["rankme"]) == ["split=test, features=backbone", "split=test, features=embedding"]
    assert keys["logistic_top1"].tolist() == ["C=1.0, split=test"], "pixels and backbone share a table"


def test_flatten_makes_dotted_paths_and_lists_into_text() -> None:
    tree = {"data": {"source": "digits", "crop": {"size": 32}}, "weights": (1, 40)}
    assert flatten(tree) == {"data.source": "digits", "data.crop.size": 32, "weights": "[1, 40]"}
