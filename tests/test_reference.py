"""The committed records are of the suites as they stand, and say what is shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.suite import Suite, load_suite, read_suite, suite_path
from benchmark.tune import choose, scores, tuning_suite
from results.record import RECORD_NAME, Record

REFERENCE = Path(__file__).parents[1] / "results" / "reference"


@pytest.fixture(scope="module")
def candidates() -> Suite:
    """Every candidate of `spherebench tune digits`."""
    return tuning_suite(read_suite(suite_path("digits")), {}, name="digits", where="digits.yaml")


def _records(suite: Suite, folder: Path) -> list[Record]:
    return [Record.read(folder / cell.run.id / RECORD_NAME) for cell in suite.cells]


def test_every_run_of_digits_is_done_at_one_clean_commit() -> None:
    records = _records(load_suite("digits"), REFERENCE / "digits")
    assert {record.status for record in records} == {"done"}
    assert {record.provenance.dirty for record in records} == {False}
    assert len({record.provenance.commit for record in records}) == 1
    assert {metric.protocol["split"] for record in records for metric in record.metrics} == {"test"}


def test_the_hyperparameters_of_digits_are_what_tuning_chose(candidates: Suite) -> None:
    file = read_suite(suite_path("digits"))
    assert file.tune is not None
    chosen = choose(scores(candidates, file.tune, REFERENCE / "digits-tune"))
    assert file.methods == chosen


def test_tuning_looked_at_the_tune_split_only(candidates: Suite) -> None:
    records = _records(candidates, REFERENCE / "digits-tune")
    assert {metric.protocol["split"] for record in records for metric in record.metrics} == {"tune"}


def test_few_labels_beat_the_raw_pixels_and_the_untrained_network() -> None:
    accuracy: dict[str, list[float]] = {}
    for record in _records(load_suite("digits"), REFERENCE / "digits"):
        for metric in record.metrics:
            if metric.metric == "fewshot_top1" and metric.protocol["features"] != "embedding":
                key = f"{record.run['method']}, {metric.protocol['labels_per_class']}"
                accuracy.setdefault(key, []).append(metric.value)
    for key, values in accuracy.items():
        method, labels = key.split(", ")
        if method not in ("raw_pixels", "untrained") and labels in ("1", "5"):
            for baseline in ("raw_pixels", "untrained"):
                assert min(values) > max(accuracy[f"{baseline}, {labels}"]), key


def test_the_committed_tables_are_made_from_the_committed_records() -> None:
    from results.collect import collect
    from results.summary import summarise
    from results.tables import accuracy, join

    made = join(accuracy(summarise(collect([REFERENCE / "digits"]))), "md")
    assert made == (REFERENCE / "digits" / "tables" / "accuracy.md").read_text(encoding="utf-8")
