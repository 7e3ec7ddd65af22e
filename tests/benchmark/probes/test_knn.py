"""Weighted kNN against the votes counted one by one."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.probes import knn
from benchmark.probes.features import Features
from benchmark.probes.knn import weighted_knn

CLASSES = 4


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
    found = weighted_knn(bank, queries, ks=(7, 1, 30), temperature=0.07, classes=CLASSES)
    assert found == {k: brute_force(bank, queries, k, 0.07) for k in (1, 7, 30)}


def test_a_small_temperature_listens_to_the_nearest_alone() -> None:
    bank, queries = random_features(40, 0), random_features(30, 1)
    nearest = weighted_knn(bank, queries, ks=(1,), temperature=0.07, classes=CLASSES)[1]
    assert weighted_knn(bank, queries, ks=(40,), temperature=1e-3, classes=CLASSES)[40] == nearest


def test_only_the_direction_of_features_counts() -> None:
    bank, queries = random_features(40, 0), random_features(30, 1)
    scaled = Features(queries.x * torch.logspace(-3, 3, 30)[:, None], queries.labels)
    ks = (1, 5, 20)
    expected = weighted_knn(bank, queries, ks=ks, temperature=0.1, classes=CLASSES)
    assert weighted_knn(bank, scaled, ks=ks, temperature=0.1, classes=CLASSES) == expected


def test_chunks_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = random_features(40, 0), random_features(33, 1)
    whole = weighted_knn(bank, queries, ks=(3, 9), temperature=0.07, classes=CLASSES)
    monkeypatch.setattr(knn, "_SIMILARITIES", 200)  # five queries at once
    assert weighted_knn(bank, queries, ks=(3, 9), temperature=0.07, classes=CLASSES) == whole


def test_a_k_larger_than_the_bank_is_left_out() -> None:
    bank, queries = random_features(10, 0), random_features(5, 1)
    assert list(weighted_knn(bank, queries, ks=(10, 11), temperature=0.07, classes=CLASSES)) == [10]
    assert weighted_knn(bank, queries, ks=(11, 200), temperature=0.07, classes=CLASSES) == {}


def test_equal_votes_go_to_the_lower_class() -> None:
    bank = Features(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.tensor([3, 1]))
    query = Features(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert weighted_knn(bank, query, ks=(2,), temperature=0.07, classes=CLASSES) == {2: 1.0}
