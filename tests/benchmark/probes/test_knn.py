"""Weighted kNN against the votes counted one by one."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.probes import classifiers
from benchmark.probes.classifiers import KNN, nearest, weighted_knn
from benchmark.probes.subject import Features
from benchmark.runtime.errors import UserError
from benchmark.runtime.memory import PeakMemory
from tests.benchmark.probes.subjects import of_features

CLASSES = 4


def unasked() -> None:
    """Nobody asks for anything."""


def random_features(size: int, seed: int, dim: int = 5) -> Features:
    draws = torch.Generator().manual_seed(seed)
    x_ND = torch.randn(size, dim, generator=draws)
    return Features(x_ND, torch.randint(CLASSES, (size,), generator=draws))


def brute_force(bank: Features, queries: Features, k: int, temperature: float) -> float:
    """Python's own floats, one pair at a time."""
    right = 0
    for query, label in zip(queries.x.tolist(), queries.labels.tolist(), strict=True):
        similarities = [cosine(query, other) for other in bank.x.tolist()]
        nearest = sorted(range(len(bank)), key=lambda i: -similarities[i])[:k]
        votes: Counter[int] = Counter()
        for i in nearest:
            votes[int(bank.labels[i])] += math.exp(similarities[i] / temperature)  # type: ignore[assignment]
        right += max(sorted(votes), key=lambda c: votes[c]) == label
    return right / len(queries)


def cosine(a: list[float], b: list[float]) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_all_k_agree_with_brute_force(seed: int) -> None:
    bank, queries = random_features(30, seed), random_features(25, seed + 1)
    found = weighted_knn(bank, queries, ks=(7, 1, 30), temperature=0.07, classes=CLASSES, check=unasked)
    assert found == {k: brute_force(bank, queries, k, 0.07) for k in (1, 7, 30)}


def test_a_small_temperature_listens_to_the_nearest_alone() -> None:
    bank, queries = random_features(40, 0), random_features(30, 1)
    nearest = weighted_knn(bank, queries, ks=(1,), temperature=0.07, classes=CLASSES, check=unasked)[1]
    assert weighted_knn(bank, queries, ks=(40,), temperature=1e-3, classes=CLASSES, check=unasked)[40] == nearest


def test_only_the_direction_of_features_counts() -> None:
    bank, queries = random_features(40, 0), random_features(30, 1)
    scaled = Features(queries.x * torch.logspace(-3, 3, 30)[:, None], queries.labels)
    ks = (1, 5, 20)
    expected = weighted_knn(bank, queries, ks=ks, temperature=0.1, classes=CLASSES, check=unasked)
    assert weighted_knn(bank, scaled, ks=ks, temperature=0.1, classes=CLASSES, check=unasked) == expected


def test_chunks_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = random_features(40, 0), random_features(33, 1)
    whole = weighted_knn(bank, queries, ks=(3, 9), temperature=0.07, classes=CLASSES, check=unasked)
    monkeypatch.setattr(classifiers, "SIMILARITIES", 200)  # five queries at once
    assert weighted_knn(bank, queries, ks=(3, 9), temperature=0.07, classes=CLASSES, check=unasked) == whole


def test_a_k_larger_than_the_bank_is_left_out() -> None:
    bank, queries = random_features(10, 0), random_features(5, 1)
    assert list(weighted_knn(bank, queries, ks=(10, 11), temperature=0.07, classes=CLASSES, check=unasked)) == [10]
    assert weighted_knn(bank, queries, ks=(11, 200), temperature=0.07, classes=CLASSES, check=unasked) == {}


def test_equal_votes_go_to_the_lower_class() -> None:
    bank = Features(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.tensor([3, 1]))
    query = Features(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert weighted_knn(bank, query, ks=(2,), temperature=0.07, classes=CLASSES, check=unasked) == {2: 1.0}


def test_a_constant_bank_has_no_direction_and_no_nan() -> None:
    bank, queries = Features(torch.zeros(4, 3), torch.tensor([2, 1, 1, 1])), random_features(5, 1, dim=3)
    (value,) = weighted_knn(bank, queries, ks=(4,), temperature=0.07, classes=CLASSES, check=unasked).values()
    assert value == int((queries.labels == 1).sum()) / 5


def test_somebody_is_looked_for_after_every_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries, looked = random_features(40, 0), random_features(33, 1), []
    monkeypatch.setattr(classifiers, "SIMILARITIES", 200)
    weighted_knn(bank, queries, ks=(3,), temperature=0.07, classes=CLASSES, check=lambda: looked.append(1))
    assert len(looked) == 7


def test_a_probe_without_a_k_that_can_be_measured_is_refused_in_a_sentence(tmp_path: Path) -> None:
    subject = of_features(random_features(10, 0), random_features(5, 1), tmp_path)
    with pytest.raises(UserError, match=r"evaluation.knn_k: is \[11, 200\], must be at most the bank's 10 images"):
        KNN(knn_k=(11, 200)).measure(subject)
    found = KNN(knn_k=(11, 10)).measure(subject)
    assert [metric.protocol["k"] for metric in found.metrics] == [10]


def test_a_bank_of_200_000_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.Generator().manual_seed(0)
    bank = Features(torch.randn(200_000, 512, generator=draws), torch.arange(200_000) % 10)
    queries = Features(bank.x[:24] + 0.1, bank.labels[:24])
    tile = 2**21  # ten queries at once
    monkeypatch.setattr(classifiers, "SIMILARITIES", tile)
    with PeakMemory(bank.x, queries.x, bank.labels, queries.labels) as memory:
        found = weighted_knn(bank, queries, ks=(20, 200), temperature=0.07, classes=10, check=unasked)
    assert found[20] > 0.9
    assert memory.baseline_bytes > 400e6
    # The tile, a mask or a copy of it, and the norms.
    assert memory.peak_bytes < 2 * 4 * tile + 8 * len(bank)


def test_a_bank_of_imagenets_size_is_compared_in_bounded_tiles() -> None:
    images, features, k = 1_281_167, 2048, 200
    bank, norms_M = torch.empty(images, features, device="meta"), torch.empty(images, device="meta")
    rows = classifiers.SIMILARITIES // images
    tile, norms_N = torch.empty(rows, features, device="meta"), torch.empty(rows, device="meta")
    with PeakMemory(bank, norms_M, tile, norms_N) as memory:
        cosines_NK, nearest_NK = nearest(tile, norms_N, bank, norms_M, k)
    assert cosines_NK.shape == nearest_NK.shape == (rows, k)
    assert rows > 50
    assert memory.peak_bytes < 2**28 + 2**20
