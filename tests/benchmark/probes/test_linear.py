"""The linear probe: its schedule, its arithmetic and its crops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmark.data import DataSet, DataSpec, PixelImages
from benchmark.networks.base import FrozenModule, Input
from benchmark.networks.online import initial_head
from benchmark.probes.base import Measurement
from benchmark.probes.linear import Cached, Crops, Linear
from benchmark.probes.subject import AllStopped, Features, Subject
from benchmark.probes.training import top
from benchmark.running import attempts
from benchmark.runtime import checkpoints
from benchmark.runtime.errors import UserError
from benchmark.suite.run import measurements
from benchmark.views import PROBE_CROPS
from tests.benchmark.probes.subjects import CPU, AskedAfter, Given, make_subject, small_network, striped
from tests.benchmark.probes.test_contract import encoder


def features(size: int = 50, dim: int = 6, classes: int = 3) -> Features:
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (size,), generator=draws)
    return Features(F.one_hot(labels, dim) * 2.0 + torch.randn(size, dim, generator=draws) / 4, labels)


def test_the_rate_is_a_cosine_of_whole_epochs() -> None:
    probe = Linear(linear_epochs=100)
    assert probe.schedule(0) == 1
    assert probe.schedule(50.9) == pytest.approx(0.5)
    assert probe.schedule(99) == pytest.approx((1 + math.cos(0.99 * math.pi)) / 2)


def test_rates_are_those_of_torch() -> None:
    probe = Linear(linear_epochs=10)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for epoch in range(10):
        assert probe.schedule(epoch) == pytest.approx(cosine.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        cosine.step()


def resolved(**asked: Any) -> Linear:
    """The probe as the Run of a suite's network holds it."""
    (measurement,) = measurements({"probes": ["linear"], **asked}, encoder(), DataSpec(source="imagenet"))
    assert isinstance(measurement.probe, Linear)
    return measurement.probe


# As read from the published code: epochs, rate for a batch of 256, weight decay, falls of the rate, crops.
PUBLISHED: dict[str, tuple[Any, ...]] = {
    "imagenet": (100, 0.4, 1e-6, (), True, "sgd", "random"),
    "places205": (28, 0.01, 1e-5, (10, 20), "squares", "sgd", "random squares"),
    "inat18": (84, 0.01, 5e-4, (24, 48, 72), True, "sgd with nesterov", "random"),
}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_resolved_run_has_the_published_settings(recipe: str) -> None:
    probe = resolved(linear_recipe=recipe)
    epochs, lr, weight_decay, at, crops, optimizer, told = PUBLISHED[recipe]
    assert (probe.linear_epochs, probe.linear_lr, probe.linear_weight_decay) == (epochs, lr, weight_decay)
    assert (probe.linear_milestones, probe.linear_crops, probe.batch_size) == (at, crops, 256)
    shown = probe.protocol(256)
    assert (shown["optimizer"], shown["crops"], shown["epochs"], shown["lr"]) == (optimizer, told, epochs, lr)
    assert shown.get("milestones", "") == " ".join(map(str, at))
    assert shown.get("normalised") == (None if recipe == "imagenet" else "batch")
    assert set(PUBLISHED) == set(Linear.recipes)


def test_a_recipe_gives_way_to_what_is_given_and_the_first_is_the_default() -> None:
    assert resolved() == Linear() == resolved(linear_recipe="imagenet")
    assert resolved(linear_recipe="inat18", linear_epochs=2).linear_epochs == 2
    assert resolved(linear_recipe="inat18").changed({"linear_recipe": "imagenet"}) == Linear()
    places = resolved(linear_recipe="places205")
    assert places.changed({"linear_lr": 0.1}) == places.model_copy(update={"linear_lr": 0.1})


def test_at_milestones_the_rate_falls_as_torchs_does() -> None:
    probe = resolved(linear_recipe="places205")
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    steps = torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 20], gamma=0.1)
    for epoch in range(28):
        assert probe.schedule(epoch + 0.5) == pytest.approx(steps.get_last_lr()[0])
        optimizer.step()
        steps.step()


def test_options_that_came_later_leave_the_ids_of_measurements_as_they_were() -> None:
    data = DataSpec(source="digits")
    assert Measurement(probe=Linear(), data=data).id == "linear-f6e41b8152"
    assert Measurement(probe=Linear(linear_crops=False, linear_epochs=3), data=data).id == "linear-b966306f6c"


def test_with_batch_statistics_it_is_the_textbooks_classifier_and_a_last_image_alone_is_left_out(
    tmp_path: Path,
) -> None:
    """Features normalised by the batch's, without scale and shift, in testing by running ones; 48 images by 47."""
    options = {"linear_crops": False, "linear_batch_norm": True, "linear_epochs": 3, "linear_nesterov": True}
    probe, data = Linear(**options, batch_size=47), striped()
    subject = make_subject(small_network(), data, tmp_path)
    (metric,) = probe.measure(subject).metrics
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(12, affine=False), initial_head(12, 3, CPU))
    optimizer = torch.optim.SGD(model.parameters(), 0.4 * 47 / 256, 0.9, weight_decay=1e-6, nesterov=True)
    cosine, seen = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3), []
    for epoch in range(3):
        for x_NF, labels_N, _ in Cached(subject, 47, smallest=2).epoch(epoch):
            optimizer.zero_grad()
            F.cross_entropy(model(x_NF), labels_N).backward()
            optimizer.step()
            seen.append(len(labels_N))
        cosine.step()
    assert seen == [47] * 3
    assert metric.value == top(model, subject.queries("bilinear"), 1)
    held = checkpoints.load(checkpoints.newest_whole(subject.own) or Path(), CPU)["model"]
    torch.testing.assert_close(held, model.state_dict(), rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match=r"evaluation\.batch_size: is 1, must be two or more, to normalise over"):
        probe.model_copy(update={"batch_size": 1}).check(data, "test")


def before_features(bank: Features, folder: Path, **changed: Any) -> Subject:
    """A subject whose bank's features are these."""
    subject = make_subject(Given(), striped(), folder, **changed)
    subject._made[("labelled", "bilinear")] = bank
    return subject


def test_an_epoch_of_cached_features_holds_each_once_in_a_new_order(tmp_path: Path) -> None:
    cached = Cached(before_features(Features(torch.arange(10.0)[:, None], torch.arange(10)), tmp_path), batch_size=4)
    assert cached.steps_per_epoch == 3
    orders = []
    for epoch in (0, 1):
        batches = list(cached.epoch(epoch))
        assert [(len(labels), size) for _, labels, size in batches] == [(4, 4), (4, 4), (2, 2)]
        assert all(torch.equal(x_ND[:, 0].long(), labels) for x_ND, labels, _ in batches)
        orders.append(torch.cat([labels for _, labels, _ in batches]).tolist())
        later = [labels.tolist() for _, labels, _ in cached.epoch(epoch, first_step=1)]
        assert later == [labels.tolist() for _, labels, _ in batches[1:]]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]


def test_training_is_sgd_with_momentum_and_decay(tmp_path: Path) -> None:
    bank, probe = features(), Linear(linear_epochs=3, linear_weight_decay=0.01)
    subject = before_features(bank, tmp_path)
    head = initial_head(6, 3, CPU)
    weight = head.weight.detach().double()
    probe.train(head, Cached(subject, 16), subject)
    bias, velocity = torch.zeros(3).double(), [torch.zeros(3, 6).double(), torch.zeros(3).double()]
    for epoch in range(3):
        for x_ND, labels, _ in Cached(subject, 16).epoch(epoch):
            error_NC = F.softmax(x_ND.double() @ weight.T + bias, dim=1) - F.one_hot(labels, 3)
            gradients = error_NC.T @ x_ND.double() / len(labels), error_NC.mean(dim=0)
            for v, gradient, parameter in zip(velocity, gradients, (weight, bias), strict=True):
                v.mul_(0.9).add_(gradient + 0.01 * parameter)
                parameter.sub_(0.4 * 16 / 256 * probe.schedule(epoch) * v)
    torch.testing.assert_close(head.weight.detach().double(), weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.bias.detach().double(), bias, atol=1e-5, rtol=1e-5)


def test_separable_features_are_learnt_and_the_same_way_every_time(tmp_path: Path) -> None:
    bank, heads = features(), []
    for attempt in range(2):
        torch.rand(3)
        head = initial_head(6, 3, CPU)
        subject = before_features(bank, tmp_path / str(attempt))
        Linear(linear_epochs=20).train(head, Cached(subject, 16), subject)
        heads.append(head)
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert top(heads[0], bank, 1) == 1.0


def test_a_training_that_diverges_ends_after_that_epoch_in_a_sentence(tmp_path: Path) -> None:
    subject = before_features(features(), tmp_path)
    with pytest.raises(UserError, match=r"linear_lr: is 4e\+39, .* diverged: .* after 1 of 20 epochs; must be lower"):
        Linear(linear_epochs=20, linear_lr=4e39).train(initial_head(6, 3, CPU), Cached(subject, 16), subject)


def weights_after(attempt: Callable[[nn.Linear], None]) -> torch.Tensor:
    head = initial_head(6, 3, CPU)
    attempt(head)
    return torch.cat([parameter.detach().flatten() for parameter in head.parameters()])


@pytest.mark.parametrize("looks", [1, 2, 6])
def test_it_goes_on_from_the_very_step_at_which_it_was_stopped(tmp_path: Path, looks: int) -> None:
    """In the middle of an epoch of four steps, with the optimiser's momentum: equal to the last bit."""
    probe, subject = Linear(linear_epochs=3), before_features(features(), tmp_path / "whole")
    whole = weights_after(lambda head: probe.train(head, Cached(subject, 16), subject))
    stopped = replace(
        before_features(features(), tmp_path / "parts"),
        requests=AskedAfter(looks + 1),  # one look is at the start
    )
    with pytest.raises(AllStopped):
        weights_after(lambda head: probe.train(head, Cached(stopped, 16), stopped))
    newest = checkpoints.newest_whole(stopped.own)
    assert newest is not None
    assert newest.name.startswith(f"step-{looks:09d}-")
    looked = AskedAfter()
    on = replace(stopped, requests=looked)
    assert torch.equal(weights_after(lambda head: probe.train(head, Cached(on, 16), on)), whole)
    assert looked.looks == 1 + 12 - looks  # one look is at the start


def test_it_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its features made first: 50 images in batches of 16, then epochs of four steps."""
    monkeypatch.setattr("benchmark.probes.subject.TOLD_SECONDS", 0)
    own = tmp_path / "measuring" / "data" / "linear-0a"
    data = striped()
    network = FrozenModule("pixels", nn.Flatten(), Input.of(data), 64, 0)
    subject = make_subject(network, data, tmp_path, requests=AskedAfter(2))
    with pytest.raises(AllStopped):
        replace(subject, own=own).bank()
    batches = -(-len(data.labelled) // 16)
    assert attempts.progress(tmp_path, "linear-0a") == f"features of labelled 1/{batches}"
    stopped = replace(before_features(features(), tmp_path), own=own, requests=AskedAfter(7))
    with pytest.raises(AllStopped):
        Linear(linear_epochs=3).train(initial_head(6, 3, CPU), Cached(stopped, 16), stopped)
    assert attempts.progress(tmp_path, "linear-0a") == "epoch 2/3"
    assert attempts.kept(tmp_path).endswith(", 1 of linear-0a up to step-000000006"), "what it says is not kept"
    assert attempts.progress(tmp_path, "linear-0b") == ""


def test_a_checkpoint_is_due_by_time_and_at_the_end_and_none_is_written_before(tmp_path: Path) -> None:
    probe = Linear(linear_epochs=3)
    for seconds, expected in ((0.0, ["step-000000011", "step-000000012"]), (1e9, ["step-000000012"])):
        subject = before_features(features(), tmp_path / str(seconds), seconds=seconds)
        probe.train(initial_head(6, 3, CPU), Cached(subject, 16), subject)
        assert [path.name[:14] for path in sorted(subject.own.glob("*"))] == expected


def test_a_disk_that_is_full_at_a_stop_is_a_warning_and_the_stop_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    subject = replace(before_features(features(), tmp_path), requests=AskedAfter(3))
    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.warns(UserWarning, match="is lost: .*no space left"), pytest.raises(AllStopped):
        Linear(linear_epochs=3).train(initial_head(6, 3, CPU), Cached(subject, 16), subject)


def test_top_k_counts_a_hit_among_the_k_best() -> None:
    head = nn.Linear(3, 3, bias=False)
    nn.init.eye_(head.weight)
    queries = Features(torch.tensor([[3.0, 2.0, 1.0]] * 4), torch.tensor([0, 1, 2, 1]))
    assert [top(head, queries, k) for k in (1, 2, 3)] == [0.25, 0.75, 1.0]


def grey_squares() -> PixelImages:
    """Flat images of a brightness that is their label: no crop or flip changes them."""
    labels = np.arange(12, dtype=np.int64)
    pixels = torch.from_numpy(labels).to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    return PixelImages(pixels, labels)


def test_crops_carry_the_labels_of_their_images_and_the_last_smaller_batch_is_kept(tmp_path: Path) -> None:
    images = grey_squares()
    data = DataSet("squares", images, images, images, images, 12, 1, 8, (0.0,), (1 / 255,))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    subject = make_subject(FrozenModule("mean", network, Input.of(data), 1, 0), data, tmp_path)
    crops = Crops(subject, batch_size=5)
    assert crops.steps_per_epoch == 3
    seen = [list(crops.epoch(epoch)) for epoch in (0, 1)]
    for batches in seen:
        assert [(len(labels), size) for _, labels, size in batches] == [(5, 5), (5, 5), (2, 2)]
        for x_ND, labels, _ in batches:
            torch.testing.assert_close(x_ND[:, 0], labels.float(), atol=1e-3, rtol=0)
        assert sorted(torch.cat([labels for _, labels, _ in batches]).tolist()) == list(range(12))
    assert [labels.tolist() for _, labels, _ in seen[0]] != [labels.tolist() for _, labels, _ in seen[1]]
    later = list(crops.epoch(0, first_step=2))
    assert torch.equal(later[0][0], seen[0][2][0])
    assert torch.equal(later[0][1], seen[0][2][1])


def test_crops_differ_from_epoch_to_epoch(tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(0)
    images = PixelImages(torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8, generator=draws), np.arange(4))
    data = DataSet("noise", images, images, images, images, 4, 1, 8, (0.0,), (1.0,))
    subject = make_subject(FrozenModule("pixels", nn.Flatten(), Input.of(data), 64, 0), data, tmp_path)
    crops = Crops(subject, batch_size=4)
    (first, labels, _), (second, relabelled, _) = (next(iter(crops.epoch(epoch))) for epoch in (0, 1))
    assert not torch.allclose(first[labels.argsort()], second[relabelled.argsort()])
    again, _, _ = next(iter(crops.epoch(0)))
    assert torch.equal(first, again)


def test_crops_and_the_resize_of_test_images_are_bilinear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    made = Subject._features

    def noted(self: Subject, part: str, images: Any, interpolation: Any) -> Features:
        asked.append(interpolation)
        return made(self, part, images, interpolation)

    monkeypatch.setattr(Subject, "_features", noted)
    for crops in (True, False):
        probe = Linear(linear_epochs=1, linear_crops=crops)
        probe.measure(make_subject(small_network(), striped(), tmp_path / str(crops)))
    assert set(asked) == {"bilinear"}
    assert "bilinear" in repr(PROBE_CROPS)
