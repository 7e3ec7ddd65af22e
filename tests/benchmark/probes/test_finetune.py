"""Fine-tuning: its published settings, its arithmetic, which images it learns from, and that the network stays."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmark.data import DataSpec, load
from benchmark.networks.base import FrozenModule, Input
from benchmark.networks.online import initial_head
from benchmark.probes import finetune
from benchmark.probes.finetune import RECIPES, FineTune, drawn
from benchmark.probes.training import LabelledViews, top
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import SettingError
from benchmark.suite.run import changed, measurements
from tests.benchmark import layouts, ranks
from tests.benchmark.conftest import Command
from tests.benchmark.probes.subjects import CLASSES, CPU, make_subject, small_network, striped
from tests.benchmark.probes.test_contract import encoder

# As read from the published code: rates of backbone and head, epochs, and how rates fall.
PUBLISHED = {
    ("sfrik", 1): (0.004, 1.0, 20, "cosine", ()),
    ("sfrik", 10): (0.02, 0.1, 20, "cosine", ()),
    ("vicreg", 1): (0.03, 0.08, 20, "cosine", ()),
    ("vicreg", 10): (0.01, 0.1, 20, "cosine", ()),
    ("barlow_twins", 1): (0.005, 0.5, 20, "cosine", ()),
    ("swav", 1): (0.02, 5.0, 20, "cosine", (12, 16)),
    ("swav", 10): (0.01, 0.2, 20, "cosine", (12, 16)),
    ("lightly", 100): (0.05, 0.05, 30, "cosine_by_step", ()),
}


def resolved(**asked: Any) -> FineTune:
    """The probe as the Run of a suite's network holds it."""
    (measurement,) = measurements({"probes": ["finetune"], **asked}, encoder(), DataSpec(source="imagenet"))
    assert isinstance(measurement.probe, FineTune)
    return measurement.probe


@pytest.mark.parametrize(("recipe", "percent"), RECIPES)
def test_a_resolved_run_has_the_published_settings(recipe: str, percent: int) -> None:
    probe = resolved(finetune_recipe=recipe, finetune_percent=percent)
    backbone, head, epochs, schedule, at = PUBLISHED[recipe, percent]
    assert (probe.finetune_recipe, probe.finetune_percent) == (recipe, percent)
    assert (probe.finetune_backbone_lr, probe.finetune_head_lr, probe.finetune_epochs) == (backbone, head, epochs)
    assert (probe.finetune_schedule, probe.finetune_milestones) == (schedule, at)
    assert (probe.batch_size, probe.finetune_weight_decay) == (256, 0)
    shown = probe.protocol(12_811, 256)
    assert (shown["backbone_lr"], shown["head_lr"], shown["epochs"]) == (backbone, head, epochs)
    assert shown["schedule"] == ("x0.2 at 12 16" if at else schedule)
    assert set(PUBLISHED) == set(RECIPES)


def test_the_page_lists_the_recipes() -> None:
    page = (Path(finetune.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) % \| ([\d.]+) \| ([\d.]+) \| (\d+) \| ([^|]+) \|", page, re.MULTILINE)
    told = {
        (name, int(percent)): (float(backbone), float(head), int(epochs), fall)
        for name, percent, backbone, head, epochs, fall in rows
    }
    assert told == {
        place: (backbone, head, epochs, "to a fifth at 12 16" if at else schedule)
        for place, (backbone, head, epochs, schedule, at) in PUBLISHED.items()
    }


def test_a_percentage_brings_its_recipe_and_what_is_given_stays() -> None:
    assert resolved() == FineTune() == resolved(finetune_recipe="sfrik", finetune_percent=1)
    assert resolved(finetune_percent=10) == resolved(finetune_recipe="sfrik", finetune_percent=10)
    assert resolved(finetune_percent=100) == resolved(finetune_recipe="lightly", finetune_percent=100)
    assert resolved(finetune_percent=10, finetune_head_lr=0.3).finetune_head_lr == 0.3
    assert resolved(finetune_percent=10, finetune_head_lr=0.3).finetune_backbone_lr == 0.02
    assert resolved(finetune_percent=5, finetune_backbone_lr=0.1, finetune_head_lr=0.2).finetune_percent == 5
    listed = measurements({"probes": ["finetune"], "finetune_recipe": "vicreg"}, encoder(), encoder().data)  # type: ignore[attr-defined]
    (other,) = changed({"finetune_percent": 10}, listed, encoder(), None)
    assert other.probe == resolved(finetune_recipe="vicreg", finetune_percent=10)
    (other,) = changed({"finetune_draw": 1}, listed, encoder(), None)
    assert other.probe == listed[0].probe.model_copy(update={"finetune_draw": 1})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"finetune_percent": 5}, "no rates of sfrik for 5 % are known"),
        ({"finetune_percent": 10, "finetune_recipe": "barlow_twins"}, "no rates of barlow_twins for 10 % are known"),
        ({"finetune_percent": 0}, "is 0, should be greater than or equal to 1"),
        ({"finetune_lists": "$NOWHERE/lists"}, "the environment variable NOWHERE is not set"),
    ],
)
def test_what_nobody_published_is_refused_in_a_sentence(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said) as refused:
        resolved(**asked)
    assert refused.value.key == f"evaluation.{min(asked)}"


@pytest.mark.parametrize("recipe", ["sfrik", "swav"])
def test_the_rates_fall_as_torchs_schedulers_have_it_each_from_its_own(recipe: str) -> None:
    probe = resolved(finetune_recipe=recipe)
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.004, 1.0)]
    optimizer, scheduler = torch.optim.SGD(groups), torch.optim.lr_scheduler
    theirs: Any = scheduler.CosineAnnealingLR(optimizer, 20)
    if recipe == "swav":
        theirs = scheduler.MultiStepLR(optimizer, [12, 16], gamma=0.2)
    for epoch in range(20):
        for time in (epoch, epoch + 0.9):
            assert [0.004 * probe.schedule(time), probe.schedule(time)] == pytest.approx(theirs.get_last_lr())
        optimizer.step()
        theirs.step()


def test_by_step_the_cosine_goes_on_within_an_epoch() -> None:
    probe = resolved(finetune_percent=100)
    assert probe.schedule(15.0) == pytest.approx(0.5)
    assert probe.schedule(15.5) < probe.schedule(15.0) < probe.schedule(14.9)


def test_training_is_that_of_the_published_loop_batch_statistics_included(tmp_path: Path) -> None:
    """In training mode, two groups of parameters, momentum, the cosine once an epoch, a smaller last batch."""
    network, data = small_network(), striped()
    probe = FineTune(finetune_percent=100, finetune_epochs=3, finetune_head_lr=0.1, finetune_backbone_lr=0.05)
    subject = make_subject(network, data, tmp_path)
    backbone, head = probe.trained(network, CLASSES, views(subject, 20), subject)
    model = nn.Sequential(copy.deepcopy(network.module), initial_head(12, CLASSES, CPU)).train()
    groups = [{"params": model[0].parameters(), "lr": 0.05}, {"params": model[1].parameters(), "lr": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=0, momentum=0.9, weight_decay=0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    sizes = []
    for epoch in range(3):
        for x_NCHW, labels_N, _ in views(subject, 20).epoch(epoch):
            loss = F.cross_entropy(model(x_NCHW), labels_N)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sizes.append(len(labels_N))
        scheduler.step()
    assert sizes == [20, 20, 8] * 3
    torch.testing.assert_close(nn.Sequential(backbone, head).state_dict(), model.state_dict(), atol=1e-5, rtol=1e-4)
    assert model[0][1].running_mean.abs().max() > 0.01, "the running statistics have not moved"


def views(subject: Any, batch_size: int) -> LabelledViews:
    return LabelledViews(subject, subject.data.labelled, batch_size)


def test_it_learns_and_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network, data = small_network(), striped()
    before = copy.deepcopy(network.module.state_dict())
    probe = FineTune(finetune_percent=100, finetune_epochs=15, finetune_head_lr=0.1, finetune_backbone_lr=0.05)
    (metric,) = probe.measure(make_subject(network, data, tmp_path)).metrics
    assert (metric.metric, metric.protocol["images"], metric.protocol["labels"]) == ("finetune_top1", 48, "all")
    assert metric.protocol["epoch"] == 7, "of the pretraining"
    queries = make_subject(network, data, tmp_path / "frozen").queries("bilinear")
    assert metric.value > 0.8 > top(initial_head(12, CLASSES, CPU), queries, 1)
    torch.testing.assert_close(network.module.state_dict(), before, atol=0, rtol=0)


def test_a_training_that_diverges_is_told_of_and_leaves_the_network(tmp_path: Path) -> None:
    network = small_network()
    before = copy.deepcopy(network.module.state_dict())
    probe = FineTune(finetune_percent=100, finetune_backbone_lr=1e30)
    with pytest.raises(UserError, match=r"are 1e\+30 and 1, .* diverged: .* after [12] of 20 epochs"):
        probe.measure(make_subject(network, striped(), tmp_path))
    torch.testing.assert_close(network.module.state_dict(), before, atol=0, rtol=0)


def test_a_last_batch_of_one_image_is_left_out_and_no_batch_has_one(tmp_path: Path) -> None:
    data = striped()
    (metric,) = (
        FineTune(finetune_percent=100, batch_size=47).measure(make_subject(small_network(), data, tmp_path)).metrics
    )
    assert metric.protocol["batch"] == 47
    with pytest.raises(UserError, match=r"evaluation\.batch_size: is 1, must be two or more"):
        FineTune(batch_size=1).check(data, "test")


def test_top5_is_told_of_a_hundred_classes(tmp_path: Path) -> None:
    labels = np.arange(200) % 100
    pixels = np.random.RandomState(0).randint(256, size=(200, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    data = load(DataSpec(source=f"npz:{tmp_path / 'many.npz'}", tune_fraction=0), tmp_path)
    found = FineTune(finetune_epochs=1).measure(make_subject(small_network(), data, tmp_path)).metrics
    assert [metric.metric for metric in found] == ["finetune_top1", "finetune_top5"]
    assert found[0].protocol == found[1].protocol
    assert found[0].protocol["images"] == 100, "one of each class at least"


# ---- which images


@given(st.lists(st.integers(0, 4), min_size=5, max_size=300), st.integers(1, 99), st.integers(0, 3))
def test_a_draw_is_stratified_and_a_part_of_a_larger_one(labels: list[int], percent: int, draw: int) -> None:
    labels_N = np.array(labels)
    rows, more = drawn(labels_N, percent, draw), drawn(labels_N, percent + 1, draw)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert set(rows) <= set(more)
    for label in np.unique(labels_N):
        count = (labels_N == label).sum()
        assert (labels_N[rows] == label).sum() == max(1, round(count * percent / 100))
    assert drawn(labels_N, 100, draw).tolist() == list(range(len(labels_N)))


def test_draws_differ_and_are_the_same_again() -> None:
    labels_N = np.arange(500) % 5
    assert drawn(labels_N, 10, 0).tolist() == drawn(labels_N, 10, 0).tolist() != drawn(labels_N, 10, 1).tolist()


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of 1 % for the small ImageNet, four of its 24 images, known by its digest."""
    layouts.write_imagenet(tmp_path / "data")
    names = [f"{name}_{number:04d}.JPEG" for name in ("n02102040", "n01440764") for number in (3, 11)]
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "1percent.txt").write_text("\n".join(names) + "\n")
    digest = hashlib.sha256((folder / "1percent.txt").read_bytes()).hexdigest()
    monkeypatch.setitem(finetune.LISTS, 1, digest)
    return folder


def of_imagenet(lists: Path, **changed: Any) -> Any:
    return load(DataSpec(source="imagenet", image_size=32, **{"tune_fraction": 0.0, **changed}), lists.parent / "data")


def test_the_images_of_a_published_list_are_trained_on(lists: Path) -> None:
    data, probe = of_imagenet(lists), resolved(finetune_lists=str(lists))
    rows = probe.images(data)
    found = [os.fsdecode(path).rpartition("/")[2] for path in data.labelled.paths[rows]]
    assert sorted(found) == sorted((lists / "1percent.txt").read_text().split())
    assert (data.labelled.labels[rows] == [0, 0, 1, 1]).all()
    network = FrozenModule("mean", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), Input.of(data), 3, None)
    (metric,) = probe.measure(make_subject(network, data, lists.parent)).metrics
    assert (metric.protocol["labels"], metric.protocol["images"]) == ("published list", 4)


def test_a_list_is_known_by_what_it_is_and_not_by_where_it_lies(lists: Path, tmp_path: Path) -> None:
    here, there = (resolved(finetune_lists=str(folder)) for folder in (lists, tmp_path / "elsewhere"))
    assert here.canonical() == there.canonical() != resolved().canonical()


def test_a_list_that_is_another_or_whose_images_are_not_there_is_refused(lists: Path) -> None:
    probe = resolved(finetune_lists=str(lists))
    with pytest.raises(UserError, match=r"[1-4] of its 4 images are not among those to learn from of imagenet"):
        probe.check(of_imagenet(lists, tune_fraction=0.5), "test")
    with pytest.raises(UserError, match="digits has none"):
        probe.check(load(DataSpec(source="digits"), lists), "test")
    with pytest.raises(UserError, match=r"10percent\.txt: cannot be read: No such file"):
        resolved(finetune_lists=str(lists), finetune_percent=10).check(of_imagenet(lists), "test")
    with pytest.raises(UserError, match="published are lists of 1 and 10 %, not of 100 %"):
        resolved(finetune_lists=str(lists), finetune_percent=100).check(of_imagenet(lists), "test")
    (lists / "1percent.txt").write_text("n01440764_0003.JPEG\n")
    with pytest.raises(UserError, match="is not the published list, of imagenet_subsets"):
        probe.check(of_imagenet(lists), "test")


# ---- killed, and on networks of every kind


class KilledAt(Requests):
    """Requests of a process that is killed as it looks at them the so many-th time."""

    def __init__(self, look: int) -> None:
        self.left = look
        super().__init__()

    @property
    def run_must_end(self) -> bool:
        """Nobody asks; there is no time to."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    @run_must_end.setter
    def run_must_end(self, value: bool) -> None:
        """What is asked for comes as a kill."""


PROBE = FineTune(
    finetune_percent=100, finetune_epochs=4, finetune_head_lr=0.1, finetune_backbone_lr=0.05, batch_size=20
)


def measured(this: Process, folder: Path, look: int) -> None:
    """Leave what is found; a checkpoint after every step."""
    subject = make_subject(small_network(), striped(), folder, process=this, requests=KilledAt(look), seconds=0)
    (metric,) = PROBE.measure(subject).metrics
    if this.is_main:
        (folder / "found.json").write_text(metric.model_dump_json())


def test_killed_at_every_epoch_it_ends_in_the_undisturbed_figure(tmp_path: Path) -> None:
    (expected,) = PROBE.measure(make_subject(small_network(), striped(), tmp_path / "whole")).metrics
    # A look as it begins, one a step, of which an epoch has three: killed in the first step of the next.
    for _ in range(PROBE.finetune_epochs):
        assert ranks.together(1, partial(measured, folder=tmp_path, look=1 + 3 + 1)) == [-signal.SIGKILL]
        assert not (tmp_path / "found.json").exists()
    assert list(tmp_path.rglob(f"step-{3 * PROBE.finetune_epochs:09d}-*.pt")), "all epochs are there"
    assert ranks.together(1, partial(measured, folder=tmp_path, look=10**6)) == [0]
    assert (tmp_path / "found.json").read_text() == expected.model_dump_json()


def test_weights_from_a_file_are_fine_tuned_and_keep_their_bytes(tmp_path: Path, spherebench: Command) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    layouts.write_npz(tmp_path / "small.npz")
    content = (tmp_path / "resnet18.pth").read_bytes()
    asked = {"probes": "[finetune]", "finetune_percent": "10", "finetune_epochs": "2", "batch_size": "8"}
    settings = [part for key, value in asked.items() for part in ("--set", f"evaluation.{key}={value}")]
    place = ("--data", f"npz:{tmp_path / 'small.npz'}", "--set", "data.image_size=32", "--out", tmp_path / "runs")
    result = spherebench("evaluate", f"weights:{tmp_path / 'resnet18.pth'}", *place, *settings)
    assert result.exit_code == 0, result.output
    assert "finetune_top1" in result.output
    table = spherebench("tables", tmp_path / "runs", "--metric", "finetune_top1").output
    assert "Fine-tuning, top-1 accuracy" in table
    assert "percent=10, labels=stratified draw 0, images=10" in " ".join(table.split())
    assert (tmp_path / "resnet18.pth").read_bytes() == content
    result = spherebench(
        "evaluate",
        f"weights:{tmp_path / 'resnet18.pth'}",
        *place,
        *settings[:-2],
        "--set",
        "evaluation.finetune_percent=3",
    )
    assert result.exit_code == 2
    assert "--set evaluation.finetune_percent: no rates of sfrik for 3 %" in " ".join(result.output.split())
