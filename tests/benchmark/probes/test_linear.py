"""The linear probe: its schedule, its arithmetic and its crops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmark.data import DataSet, PixelImages
from benchmark.probes import linear
from benchmark.probes.features import Extractor, Features, frozen

CPU = torch.device("cpu")


def features(size: int = 50, dim: int = 6, classes: int = 3) -> Features:
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (size,), generator=draws)
    return Features(F.one_hot(labels, dim) * 2.0 + torch.randn(size, dim, generator=draws) / 4, labels)


def test_rate_is_a_cosine_from_the_scaled_rate() -> None:
    schedule = linear.Schedule(epochs=100, lr=0.4, weight_decay=0, batch_size=512)
    assert schedule.learning_rate(0) == 0.8
    assert schedule.learning_rate(50) == pytest.approx(0.4)
    assert schedule.learning_rate(99) == pytest.approx(0.8 * (1 + math.cos(0.99 * math.pi)) / 2)


def test_rates_are_those_of_torch() -> None:
    schedule = linear.Schedule(epochs=10, lr=0.4, weight_decay=0, batch_size=64)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for epoch in range(10):
        assert schedule.learning_rate(epoch) == pytest.approx(cosine.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        cosine.step()


def test_an_epoch_of_cached_features_holds_each_once_in_a_new_order() -> None:
    bank = Features(torch.arange(10.0)[:, None], torch.arange(10))
    epochs = linear.cached(bank, batch_size=4)
    orders = []
    for epoch in (0, 1):
        batches = list(epochs(epoch))
        assert [len(labels) for _, labels in batches] == [4, 4, 2]
        assert all(torch.equal(x_ND[:, 0].long(), labels) for x_ND, labels in batches)
        orders.append(torch.cat([labels for _, labels in batches]).tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]


def test_training_is_sgd_with_momentum_and_decay() -> None:
    bank, schedule = features(), linear.Schedule(epochs=3, lr=0.4, weight_decay=0.01, batch_size=16)
    head = linear.initial_head(6, 3, CPU)
    weight = head.weight.detach().double()
    linear.train(linear.cached(bank, 16), schedule, head)
    bias, velocity = torch.zeros(3).double(), [torch.zeros(3, 6).double(), torch.zeros(3).double()]
    for epoch in range(3):
        for x_ND, labels in linear.cached(bank, 16)(epoch):
            error_NC = F.softmax(x_ND.double() @ weight.T + bias, dim=1) - F.one_hot(labels, 3)
            gradients = error_NC.T @ x_ND.double() / len(labels), error_NC.mean(dim=0)
            for v, gradient, parameter in zip(velocity, gradients, (weight, bias), strict=True):
                v.mul_(0.9).add_(gradient + 0.01 * parameter)
                parameter.sub_(schedule.learning_rate(epoch) * v)
    torch.testing.assert_close(head.weight.detach().double(), weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.bias.detach().double(), bias, atol=1e-5, rtol=1e-5)


def test_separable_features_are_learnt_and_the_same_way_every_time() -> None:
    bank, heads = features(), []
    for _ in range(2):
        torch.rand(3)
        head = linear.initial_head(6, 3, CPU)
        linear.train(linear.cached(bank, 16), linear.Schedule(20, 0.4, 1e-6, 16), head)
        heads.append(head)
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert linear.top(heads[0], bank, 1) == 1.0


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


def test_crops_carry_the_labels_of_their_images() -> None:
    images = grey_squares()
    data = DataSet("squares", images, images, images, images, 12, 1, 8, (0.0,), (1 / 255,))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with frozen(network):
        epochs = linear.crops(Extractor(network, data, 5, CPU), images, batch_size=5)
        seen = [[(x_ND, labels) for x_ND, labels in epochs(epoch)] for epoch in (0, 1)]
    for batches in seen:
        assert [len(labels) for _, labels in batches] == [5, 5]  # the smaller batch of two is dropped
        for x_ND, labels in batches:
            torch.testing.assert_close(x_ND[:, 0], labels.float(), atol=1e-3, rtol=0)
    assert [labels.tolist() for _, labels in seen[0]] != [labels.tolist() for _, labels in seen[1]]


def test_crops_differ_from_epoch_to_epoch() -> None:
    draws = torch.Generator().manual_seed(0)
    images = PixelImages(torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8, generator=draws), np.arange(4))
    data = DataSet("noise", images, images, images, images, 4, 1, 8, (0.0,), (1.0,))
    network = nn.Flatten()
    epochs = linear.crops(Extractor(network, data, 4, CPU), images, batch_size=4)
    (first, labels), (second, relabelled) = (next(iter(epochs(epoch))) for epoch in (0, 1))
    assert not torch.allclose(first[labels.argsort()], second[relabelled.argsort()])
    again, _ = next(iter(epochs(0)))
    assert torch.equal(first, again)
