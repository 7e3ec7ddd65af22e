"""k-means against scikit-learn's own best of several draws, NMI and ARI against cases by hand."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from benchmark.probes import clustering
from benchmark.probes.clustering import Clustering, clustered
from benchmark.probes.subject import Features
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import key
from benchmark.runtime.signals import Interrupted
from tests.benchmark import ranks
from tests.benchmark.probes.subjects import CLASSES, AskedAfter, of_features, striped


def blobs(size: int, seed: int, spread: float = 1.0, dim: int = 6) -> Features:
    """Gaussian clouds around a corner each."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % CLASSES
    return Features(4 * torch.eye(dim)[labels] + spread * torch.randn(size, dim, generator=draws), labels)


def values(probe: Clustering, queries: Features, folder: Path) -> dict[str, float]:
    metrics = probe.measure(of_features(queries, queries, folder)).metrics
    return {metric.metric: metric.value for metric in metrics}


def test_clusters_that_are_the_classes(tmp_path: Path) -> None:
    assert values(Clustering(), blobs(60, 0, spread=0.1), tmp_path) == {"clustering_nmi": 1, "clustering_ari": 1}


def test_a_case_by_hand(tmp_path: Path) -> None:
    """Two clusters of three, of which one holds an image of the other's class: 2 x 2 counts 3, 0, 1, 2."""
    x_ND = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    queries = Features(x_ND, torch.tensor([0, 0, 0, 0, 1, 1]))
    found = values(Clustering(cluster_k=2, cluster_distance="euclidean"), queries, tmp_path)
    of_classes = -(4 / 6 * math.log(4 / 6) + 2 / 6 * math.log(2 / 6))
    shared = 3 / 6 * math.log(6 * 3 / (3 * 4)) + 1 / 6 * math.log(6 * 1 / (3 * 4)) + 2 / 6 * math.log(6 * 2 / (3 * 2))
    assert found["clustering_nmi"] == pytest.approx(2 * shared / (of_classes + math.log(2)))
    # Pairs together in both: 3 + 1; in classes 6 + 1, in clusters 3 + 3, of 15.
    by_chance = 7 * 6 / 15
    assert found["clustering_ari"] == pytest.approx((4 - by_chance) / ((7 + 6) / 2 - by_chance))


def test_it_is_scikit_learns_best_of_the_same_draws(tmp_path: Path) -> None:
    queries = blobs(90, 0, spread=3.0)
    x_ND = queries.x.numpy() / np.linalg.norm(queries.x.numpy(), axis=1, keepdims=True)
    seeds = [key("clustering", 5, draw) % 2**32 for draw in range(4)]
    models = [KMeans(CLASSES, n_init=1, random_state=seed).fit(x_ND) for seed in seeds]
    best = min(models, key=lambda model: model.inertia_).labels_
    labels = queries.labels.numpy()
    assert values(Clustering(cluster_n_init=4, cluster_seed=5), queries, tmp_path) == {
        "clustering_nmi": pytest.approx(normalized_mutual_info_score(labels, best)),
        "clustering_ari": pytest.approx(adjusted_rand_score(labels, best)),
    }


def test_the_least_inertia_counts_and_not_the_best_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([(3.0, 0.9, 0.9), (1.0, 0.2, 0.1), (1.0, 0.3, 0.3), (2.0, 0.8, 0.8)])
    monkeypatch.setattr(clustering, "clustered", lambda *given: next(draws))
    found = values(Clustering(cluster_n_init=4), blobs(20, 0), tmp_path)
    assert found == {"clustering_nmi": 0.2, "clustering_ari": 0.1}


def test_a_draw_depends_on_the_seed_and_its_number_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(clustering, "clustered", lambda x, y, k, seed: seen.append(seed) or (1.0, 0.5, 0.5))
    for place, (draws, seed) in enumerate([(3, 0), (5, 0), (3, 1)]):
        Clustering(cluster_n_init=draws, cluster_seed=seed).measure(
            of_features(blobs(20, 0), blobs(20, 0), tmp_path / f"{place}")
        )
    first, more, other = seen[:3], seen[3:8], seen[8:]
    assert more[:3] == first
    assert len({*more, *other}) == 8


def test_of_cosine_only_the_direction_counts_and_of_euclidean_the_length_too(tmp_path: Path) -> None:
    queries = blobs(60, 0)
    stretched = Features(queries.x * torch.logspace(-2, 2, 60)[torch.randperm(60)][:, None], queries.labels)
    plain, other = (values(Clustering(), some, tmp_path / name) for name, some in (("a", queries), ("b", stretched)))
    assert other == pytest.approx(plain)
    euclidean = Clustering(cluster_distance="euclidean")
    assert values(euclidean, stretched, tmp_path / "c") != pytest.approx(plain, abs=0.1)


def test_the_protocol_says_how(tmp_path: Path) -> None:
    for metric in Clustering(cluster_n_init=2).measure(of_features(blobs(9, 0), blobs(9, 0), tmp_path)).metrics:
        assert metric.protocol == {
            "clusters": CLASSES,
            "n_init": 2,
            "seed": 0,
            "distance": "cosine",
            "features": "given",
            "split": "test",
        }


def test_a_collapsed_network_has_one_cluster_and_tells_nothing(tmp_path: Path) -> None:
    queries = Features(torch.ones(12, 4), torch.arange(12) % CLASSES)
    assert values(Clustering(), queries, tmp_path) == pytest.approx({"clustering_nmi": 0, "clustering_ari": 0})
    zeros = Features(torch.zeros(12, 4), queries.labels)
    assert values(Clustering(), zeros, tmp_path / "zeros") == pytest.approx({"clustering_nmi": 0, "clustering_ari": 0})


def test_as_many_classes_as_images_are_no_warning(tmp_path: Path) -> None:
    queries = Features(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9))
    found = values(Clustering(cluster_k=9), queries, tmp_path)
    assert found["clustering_nmi"] == pytest.approx(1)
    assert found["clustering_ari"] == 1


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_whatever_the_threads_it_is_the_same_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = blobs(5000, 0, spread=4.0)
    x_ND, labels = queries.x.numpy(), queries.labels.numpy()
    from threadpoolctl import threadpool_limits

    with threadpool_limits(2):
        found = [clustered(x_ND, labels, 20, seed=1) for _ in range(3)]
    assert found == [clustered(x_ND, labels, 20, seed=1)] * 3


@pytest.mark.parametrize("seconds", [0, 1e9])
def test_stopped_in_any_draw_it_goes_on_with_that_one(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, made = blobs(40, 0, spread=3.0), []
    probe = Clustering(cluster_n_init=4)
    expected = values(probe, queries, tmp_path / "whole")
    counted = partial(lambda make, *given: made.append(1) or make(*given), clustered)
    monkeypatch.setattr(clustering, "clustered", counted)
    for after in range(9):  # one look at what was saved, two at each draw
        folder = tmp_path / f"{after}"
        with pytest.raises(Interrupted):
            probe.measure(of_features(queries, queries, folder, requests=AskedAfter(after), seconds=seconds))
        made.clear()
        assert values(probe, queries, folder) == expected
        assert len(made) == 4 - max(0, after - 1) // 2


def several(this: Process, out: Path) -> None:
    """Five draws, of which the last round has too few for all."""
    queries = blobs(60, 0, spread=3.0)
    metrics = Clustering(cluster_n_init=5).measure(of_features(queries, queries, out, process=this)).metrics
    assert this.is_main or not metrics
    if this.is_main:
        torch.save([metric.value for metric in metrics], out / "values.pt")


@pytest.mark.parametrize("world", [2, 3])
def test_processes_that_share_the_draws_find_what_one_does_to_the_last_bit(world: int, tmp_path: Path) -> None:
    assert ranks.together(world, partial(several, out=tmp_path)) == [0] * world
    alone = values(Clustering(cluster_n_init=5), blobs(60, 0, spread=3.0), tmp_path / "alone")
    assert torch.load(tmp_path / "values.pt") == list(alone.values())


def test_more_clusters_than_images_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    data = striped()  # 21 images to tune on, 30 to test on
    Clustering(cluster_k=30).check(data, "test")
    Clustering().check(data, "tune")
    with pytest.raises(UserError, match=r"evaluation.cluster_k: is 31, must be at most the 30 images"):
        Clustering(cluster_k=31).check(data, "test")
    with pytest.raises(UserError, match=r"evaluation.cluster_k: is 22, must be at most the 21 images"):
        Clustering(cluster_k=22).check(data, "tune")
    with pytest.raises(UserError, match=r"cluster_k: is 3 \(as many as there are classes\), must be at most the 2"):
        Clustering().measure(of_features(blobs(2, 0), blobs(2, 0), tmp_path))


def test_one_cluster_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        Clustering(cluster_k=1)
