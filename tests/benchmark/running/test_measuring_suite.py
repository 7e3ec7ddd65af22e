"""A suite that measures: a runs folder and files of weights on all data sets that are there, in one command."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from benchmark.data import DataSpec, load
from results.record import MeasurementRecord
from tests.benchmark import layouts
from tests.benchmark.conftest import Command

pytestmark = pytest.mark.usefixtures("no_figures")
SUITE = """
description: what is measured in tests
defaults:
  data: {tune_fraction: 0.2, limit: 100}
  evaluation: {probes: [transfer, multilabel, knn], transfer_shots: [1], transfer_ridges: 3, draws: 2, knn_k: [5]}
measure:
  - {data.source: digits}
  - {data.source: food101}
  - {data.source: voc07, data.image_size: 32}
  - {data.source: digits, evaluation.tested_on: mnist}
  - {data.source: digits, evaluation.tested_on: svhn}
"""


@pytest.fixture
def runs(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed, tmp_path / "runs"))


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where MNIST and VOC 2007 lie, and the others do not."""
    layouts.write_mnist(tmp_path / "data")
    layouts.write_voc07(tmp_path / "data")
    return tmp_path / "data"


def _measured(runs: Path) -> dict[str, MeasurementRecord]:
    found = [MeasurementRecord.read(path) for path in sorted(runs.glob("*/measurements/*.json"))]
    return {f"{record.network}/{record.id}": record for record in found}


def test_networks_and_weights_are_measured_on_what_is_there_into_one_table(
    runs: Path, suite: Path, root: Path, tmp_path: Path, spherebench: Command
) -> None:
    torch.save(models.resnet18().state_dict(), tmp_path / "drawn.pth")
    before = _measured(runs)
    command = ("evaluate", runs, f"weights:{tmp_path / 'drawn.pth'}", "--suite", suite, "--set", f"data_root={root}")
    result = spherebench(*command)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "skipped data=food101: data set food101 cannot be read from" in said
    assert "there is no folder food-101; get it with --download" in said
    assert "skipped data=digits to svhn: data set svhn cannot be read from" in said
    assert "skipped data=voc07: its images have 3 channels, not for networks that see 1" in said
    new = {name: record for name, record in _measured(runs).items() if name not in before}
    assert {record.status for record in new.values()} == {"done"}
    asked = []
    for record in new.values():
        method, source = record.network.partition("-")[0], record.settings["data"]["source"]
        asked.append((method, record.probe, source, "tested_on" in record.settings))
    on_digits = [(probe, "digits", other) for probe in ("knn", "transfer") for other in (False, True)]
    expected = [(method, *own) for method in ("sfrik_l2", "vicreg", "weights") for own in on_digits]
    assert sorted(asked) == sorted([*expected, ("weights", "multilabel", "voc07", False)])
    table = (runs / "tables" / "transfer.md").read_text()
    heading = next(line for line in table.splitlines() if line.startswith("| Labels per class"))
    assert [cell.strip() for cell in heading.split("|")[4:-1]] == ["digits", "voc07, mAP", "digits to mnist"]
    lines = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    rows = [line for line in lines if line[0].strip() in ("1", "all")]
    assert [row[0].strip() for row in rows] == ["1"] * 3 + ["all"] * 3
    assert rows[0][4].strip() == "–"  # a grey network before VOC's photographs
    assert [row[1].strip() for row in rows] == ["drawn", "SFRIK, L = 2", "VICReg"] * 2
    assert "Resized from 28 to 8 pixels a side: digits to mnist, before drawn, SFRIK, L = 2, VICReg." in table
    # Once more there is nothing to do, and nothing is measured twice.
    again = spherebench(*command)
    assert again.exit_code == 0
    assert "3 runs, 3 recorded" in again.output
    assert _measured(runs) == _measured(runs) | new


def test_files_alone_have_a_folder_of_their_own_and_data_of_ones_own_the_suites_defaults(
    suite: Path, root: Path, tmp_path: Path, spherebench: Command
) -> None:
    torch.save(models.resnet18().state_dict(), tmp_path / "drawn.pth")
    own = layouts.write_npz(tmp_path / "own.npz")
    weights, out = f"weights:{tmp_path / 'drawn.pth'}", tmp_path / "out"
    asked = ("--suite", suite, "--data", f"npz:{own}", "--set", "evaluation.probes=[transfer]", "--out", out)
    result = spherebench("evaluate", weights, *asked)
    assert result.exit_code == 0, result.output
    (record,) = _measured(out).values()
    assert record.settings["data"] == {**record.settings["data"], "source": f"npz:{own}", "limit": 100}
    assert record.settings["transfer_ridges"] == 3
    assert "own.npz" in (out / "tables" / "transfer.md").read_text()


def test_what_is_tested_on_the_same_images_elsewhere_has_the_same_figure_and_stands_apart(
    runs: Path, tmp_path: Path, spherebench: Command
) -> None:
    digits = load(DataSpec(source="digits"), Path("nowhere"))
    x_test, x_train = (images.pixels[:, 0].numpy() for images in (digits.test, digits.train))
    path = tmp_path / "same.npz"
    np.savez(path, x_train=255 - x_train, y_train=digits.train.labels, x_test=x_test, y_test=digits.test.labels)
    for place in (path, path.rename(tmp_path / "moved.npz")):
        place = tmp_path / "moved.npz" if place == path else place
        result = spherebench("evaluate", runs, "--set", f"evaluation.tested_on=npz:{place}")
        assert result.exit_code == 0, result.output
    by_source: dict[tuple[str, str], list[MeasurementRecord]] = {}
    for record in _measured(runs).values():
        by_source.setdefault((record.network, record.probe), []).append(record)
    for (_, probe), records in by_source.items():
        inside, outside = sorted(records, key=lambda record: "tested_on" in record.settings)
        assert outside.settings["tested_on"]["content"]
        if probe != "embedding":  # whose views are drawn by an image's number in its own set
            assert [metric.value for metric in inside.metrics] == [metric.value for metric in outside.metrics]
        assert {metric.protocol["tested_on"] for metric in outside.metrics} == {"npz:moved.npz"}
        assert not any("tested_on" in metric.protocol for metric in inside.metrics)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "digits"], "--suite digits: makes networks of its own; spherebench run digits makes and"),
        (["--suite", "SUITE", "--data", "food101"], "none of its data sets can be measured: data set food101 cannot"),
        (["--suite", "SUITE", "--set", "evaluation.transfer_ridge=3"], "--set evaluation.transfer_ridge: unknown key"),
        (["--suite", "SUITE", "--set", "data.content=abc"], "--set data.content: is filled in from the data"),
        (["--suite", "SUITE", "--out", "elsewhere"], "--out is for files of weights alone"),
        (["RUNS", "--suite", "SUITE"], "RUNS: takes one runs folder, which the records go into"),
        (["RUNS"], "RUNS: is one folder or one file; several are measured by a suite, with --suite"),
        (["--set", "evaluation.tested_on=nothing"], "evaluation.tested_on: is 'nothing', must be one of digits"),
        (["--set", "evaluation.tested_on=cifar100"], "cifar100 cannot be read from"),
        (
            ["--set", "evaluation.tested_on=spirals"],
            "evaluation.tested_on spirals: its classes are not those of digits",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_and_nothing_is_written(
    runs: Path, suite: Path, spherebench: Command, arguments: list[str], said: str, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    given = [{"SUITE": str(suite), "RUNS": str(runs)}.get(argument, argument) for argument in arguments]
    result = spherebench("evaluate", runs, *given, "--set", f"data_root={tmp_path / 'none'}")
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("data.source: food101", "data.sources: food101", "measure.1.data.sources: unknown key"),
        ("evaluation.tested_on: svhn", "evaluation.tested_in: svhn", "measure.4.evaluation.tested_in: unknown key"),
        ("measure:", "grid: {seed: [0]}\nmeasure:", "grid: must be given, or measure in its place"),
    ],
)
def test_a_fault_of_the_file_is_told_with_its_row(
    runs: Path, suite: Path, spherebench: Command, old: str, new: str, said: str
) -> None:
    suite.write_text(SUITE.replace(old, new))
    result = spherebench("evaluate", runs, "--suite", suite)
    assert result.exit_code == 2
    assert f"elsewhere.yaml: {said}" in " ".join(result.output.split())


def test_it_cannot_be_run(suite: Path, spherebench: Command) -> None:
    result = spherebench("run", suite)
    assert result.exit_code == 2
    assert "makes no network, it measures those there are: evaluate RUNS --suite" in " ".join(result.output.split())
