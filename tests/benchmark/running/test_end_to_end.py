"""From folders of images to tables in one command: a ResNet, every probe, baselines and a file of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.networks.layouts import write_backbone
from benchmark.probes.base import probes
from results.record import MeasurementRecord, NetworkRecord

SUITE = """
description: everything, small
defaults:
  data: {source: "folder:IMAGES", tune_fraction: 0.25, image_size: 16}
  augmentation: vicreg
  backbone: {name: resnet18}
  projector: {hidden: 16}
  epochs: 2
  batch_size: 8
  optimizer: {name: lars, base_lr: 0.2, warmup_epochs: 1}
  evaluation:
    probes: [PROBES]
    knn_k: [1, 5]
    labels_per_class: [1, 2]
    draws: 2
    linear_epochs: 2
    finetune_epochs: 2
    batch_size: 8
execution: {data_root: ROOT}
grid: {method: [sfrik_l3], embedding_dim: [8], seed: [0]}
baselines: [raw_pixels, untrained]
weights:
  - {file: theirs.pth, title: Somebody's ResNet-18, get: "the attic"}
  - {file: missing.pth, title: Nobody's, get: "the moon"}
"""
CLASSES, TRAIN, TEST = 3, 8, 4


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, spherebench) -> Path:
    """The runs folder; its command's output lies beside it."""
    from torchvision import models

    root = tmp_path_factory.mktemp("everything")
    _write_images(root / "images")
    torch.manual_seed(0)
    network = models.resnet18()
    network.fc = torch.nn.Identity()
    (root / "weights").mkdir()
    write_backbone(network.state_dict(), root / "weights" / "theirs.pth")
    text = SUITE.replace("IMAGES", str(root / "images")).replace("ROOT", str(root))
    (root / "everything.yaml").write_text(text.replace("PROBES", ", ".join(probes())))
    result = spherebench("run", root / "everything.yaml", "--out", root / "runs")
    assert result.exit_code == 0, result.output
    (root / "output.txt").write_text(result.output)
    return root / "runs"


def _write_images(root: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", TEST)):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (40, 48, 3), dtype=np.uint8)
                pixels[..., label] += 130
                Image.fromarray(pixels).save(folder / f"{number}.png")


def _measured(runs: Path) -> dict[str, list[MeasurementRecord]]:
    networks = [NetworkRecord.read(path) for path in sorted(runs.glob("*/network.json"))]
    assert {network.status for network in networks} == {"done"}
    return {
        network.title: [MeasurementRecord.read(path) for path in sorted((runs / network.id / "measurements").glob("*"))]
        for network in networks
    }


def test_every_network_is_measured_by_every_probe_that_is_for_its_kind(runs: Path) -> None:
    measured = _measured(runs)
    kernels = {"spectrum", "kernel_picture", "kernel_limit", "agreement", "recovery"}
    others = set(probes()) - kernels - {"multilabel"}  # which is for images of several labels
    embedding = {"embedding", "fewshot_embedding", "clustering_embedding"}
    found = {title: {record.probe for record in records} for title, records in measured.items()}
    assert found["SFRIK, L = 3"] == others
    assert found["Untrained network"] == found["Somebody's ResNet-18"] == others - embedding
    assert found["Raw pixels"] == others - embedding - {"linear", "finetune"}
    assert {record.status for records in measured.values() for record in records} == {"done"}


def test_the_tables_hold_every_row_and_say_what_was_left_out(runs: Path) -> None:
    table = (runs / "tables" / "accuracy.md").read_text()
    for title in ("SFRIK, L = 3", "Untrained network", "Raw pixels", "Somebody's ResNet-18"):
        assert f"| {title}" in table
    said = (runs.parent / "output.txt").read_text()
    assert "skipped weights=missing.pth" in said
    assert "get it from the moon" in said


def test_colours_that_tell_the_classes_apart_are_found(runs: Path) -> None:
    pixels = {metric.metric: metric.value for record in _measured(runs)["Raw pixels"] for metric in record.metrics}
    assert pixels["logistic_top1"] == 1.0


def test_the_same_command_again_does_nothing(runs: Path, spherebench) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.json") if path.name != "suite.json"}
    result = spherebench("run", runs.parent / "everything.yaml", "--out", runs)
    assert result.exit_code == 0
    assert "4 runs, 4 recorded" in result.output
    assert {path: path.stat().st_mtime_ns for path in before} == before
