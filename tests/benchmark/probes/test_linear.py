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

from benchmark.data import DataSet, PixelImages
from benchmark.networks.base import FrozenModule, Input
from benchmark.probes import linear
from benchmark.probes.linear import Cached, Crops, Linear
from benchmark.probes.subject import AllStopped, Features, Subject
from benchmark.runtime import checkpoints
from tests.benchmark.probes.subjects import CPU, AskedAfter, Given, make_subject, small_network, striped


def features(size: int = 50, dim: int = 6, classes: int = 3) -> Features:
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (size,), generator=draws)
    return Features(F.one_hot(labels, dim) * 2.0 + torch.randn(size, dim, generator=draws) / 4, labels)


def test_rate_is_a_cosine_from_the_scaled_rate() -> None:
    probe = Linear(linear_epochs=100, linear_lr=0.4)
    assert probe.learning_rate(0, 512) == 0.8
    assert probe.learning_rate(50, 512) == pytest.approx(0.4)
    assert probe.learning_rate(99, 512) == pytest.approx(0.8 * (1 + math.cos(0.99 * math.pi)) / 2)


def test_rates_are_those_of_torch() -> None:
    probe = Linear(linear_epochs=10, linear_lr=0.4)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for epoch in range(10):
        assert probe.learning_rate(epoch, 64) == pytest.approx(cosine.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        cosine.step()


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
    head = linear.initial_head(6, 3, CPU)
    weight = head.weight.detach().double()
    probe.train(head, Cached(subject, 16), subject)
    bias, velocity = torch.zeros(3).double(), [torch.zeros(3, 6).double(), torch.zeros(3).double()]
    for epoch in range(3):
        for x_ND, labels, _ in Cached(subject, 16).epoch(epoch):
            error_NC = F.softmax(x_ND.double() @ weight.T + bias, dim=1) - F.one_hot(labels, 3)
            gradients = error_NC.T @ x_ND.double() / len(labels), error_NC.mean(dim=0)
            for v, gradient, parameter in zip(velocity, gradients, (weight, bias), strict=True):
                v.mul_(0.9).add_(gradient + 0.01 * parameter)
                parameter.sub_(probe.learning_rate(epoch, 16) * v)
    torch.testing.assert_close(head.weight.detach().double(), weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.bias.detach().double(), bias, atol=1e-5, rtol=1e-5)


def test_separable_features_are_learnt_and_the_same_way_every_time(tmp_path: Path) -> None:
    bank, heads = features(), []
    for attempt in range(2):
        torch.rand(3)
        head = linear.initial_head(6, 3, CPU)
        subject = before_features(bank, tmp_path / str(attempt))
        Linear(linear_epochs=20).train(head, Cached(subject, 16), subject)
        heads.append(head)
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert linear.top(heads[0], bank, 1) == 1.0


def weights_after(attempt: Callable[[nn.Linear], None]) -> torch.Tensor:
    head = linear.initial_head(6, 3, CPU)
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


def test_a_checkpoint_is_due_by_time_and_none_is_written_before(tmp_path: Path) -> None:
    probe = Linear(linear_epochs=3)
    for seconds, expected in ((0.0, ["step-000000011", "step-000000012"]), (1e9, [])):
        subject = before_features(features(), tmp_path / str(seconds), seconds=seconds)
        probe.train(linear.initial_head(6, 3, CPU), Cached(subject, 16), subject)
        assert [path.name[:14] for path in sorted(subject.own.glob("*"))] == expected


def test_a_disk_that_is_full_at_a_stop_is_a_warning_and_the_stop_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    subject = replace(before_features(features(), tmp_path), requests=AskedAfter(3))
    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.warns(UserWarning, match="is lost: .*no space left"), pytest.raises(AllStopped):
        Linear(linear_epochs=3).train(linear.initial_head(6, 3, CPU), Cached(subject, 16), subject)


def test_top_k_counts_a_hit_among_the_k_best() -> None:
    head = nn.Linear(3, 3, bias=False)
    nn.init.eye_(head.weight)
    queries = Features(torch.tensor([[3.0, 2.0, 1.0]] * 4), torch.tensor([0, 1, 2, 1]))
    assert [linear.top(head, queries, k) for k in (1, 2, 3)] == [0.25, 0.75, 1.0]


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
    assert "bilinear" in repr(linear.PROBE_CROPS)
