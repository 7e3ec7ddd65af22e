"""The committed example of transfer: networks of digits on MNIST and back, beside a ResNet-18 as it is drawn."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from statistics import mean

from benchmark.probes.base import Measurement
from benchmark.suite.expand import load_suite, read_suite, suite_path
from benchmark.suite.measure import rows_of
from results.collect import collect
from results.formats import join
from results.runs import Records, read_runs
from results.summary import summarise
from results.transfer import transfer

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference" / "transfer"
_TRAINED = ("sfrik_l2", "sfrik_l3", "auh", "vicreg", "barlow_twins", "simclr")
# What it was made with, so that two busy cores sufficed.
CHANGED = {"data": {"limit": 10_000}, "evaluation": {"draws": 5}}


@cache
def _records() -> list[Records]:
    return read_runs([REFERENCE])


def test_the_networks_are_those_of_the_suite_digits_and_one_file_of_weights() -> None:
    of_suite = {cell.run.id for cell in load_suite("digits").cells}
    networks = [records.network for records in _records()]
    others = [network for network in networks if network.id not in of_suite]
    assert [(network.network["kind"], network.network["backbone"]["name"]) for network in others] == [
        ("weights", "resnet18")
    ]
    methods = {network.network["method"] for network in networks}
    assert methods == {*_TRAINED, "raw_pixels", "untrained", "weights"}


def test_each_is_measured_as_the_suite_lists_it_at_one_clean_commit() -> None:
    file = read_suite(suite_path("transfer"))
    rows, _ = rows_of(file, ["mnist", "digits"], CHANGED, Path("nowhere"), download=True, where="transfer.yaml")
    listed = {
        (data.source, evaluation.get("tested_on")) for data, evaluation in rows if evaluation.get("tested_on") != "svhn"
    }
    assert len(listed) == 4
    commits = set()
    for records in _records():
        found = [record for record in records.measurements if record.probe == "transfer"]
        asked = [Measurement.parse(record.settings) for record in found]
        assert {(own.data.source, own.tested_on.source if own.tested_on else None) for own in asked} == listed
        assert {own.data.limit for own in asked} == {10_000}
        assert [own.id for own in asked] == [record.id for record in found]
        assert {(record.status, record.provenance.dirty) for record in found} == {("done", False)}
        commits |= {record.provenance.commit for record in found}
    assert len(commits) == 1


def test_mnist_is_resized_for_networks_of_digits_and_said_so() -> None:
    for records in _records():
        for record in (record for record in records.measurements if record.probe == "transfer"):
            onto = record.settings.get("tested_on", record.settings["data"])["source"]
            said = {metric.protocol.get("resized") for metric in record.metrics}
            if records.network.network["kind"] == "trained":
                assert said == {"28 to 8" if onto == "mnist" else None}


def _values(source: str, tested_on: str | None, shots: int | str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for records in _records():
        for record in records.measurements:
            place = (record.settings["data"]["source"], record.settings.get("tested_on", {}).get("source"))
            if record.probe == "transfer" and place == (source, tested_on):
                values = [metric.value for metric in record.metrics if metric.protocol["shots"] == shots]
                found.setdefault(records.network.network["method"], []).extend(values)
    return found


def test_networks_of_digits_learn_mnist_from_one_label_a_class_better_than_a_network_as_it_is_drawn() -> None:
    values = _values("mnist", None, 1)
    for method in _TRAINED:
        assert min(values[method]) > max(*values["weights"], *values["untrained"], *values["raw_pixels"])


def test_out_of_domain_they_lose_less_than_pixels() -> None:
    inside, outside = _values("digits", None, "all"), _values("digits", "mnist", "all")
    lost = {method: mean(inside[method]) - mean(outside[method]) for method in inside}
    assert max(lost[method] for method in _TRAINED) < lost["raw_pixels"]


def test_the_table_is_made_from_the_records_and_the_readme_says_what_it_says() -> None:
    made = join(transfer(summarise(collect([REFERENCE]))), "md")
    assert made == (REFERENCE / "tables" / "transfer.md").read_text(encoding="utf-8")
    page = (ROOT / "benchmark" / "README.md").read_text(encoding="utf-8")
    section = page.partition("## Transfer")[2].partition("\n## ")[0]
    figures = re.findall(r"\d\d\.\d", section)
    assert len(figures) >= 4
    assert [figure for figure in figures if figure not in made] == []
