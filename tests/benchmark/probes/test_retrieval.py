"""Average precision and recall@k against cases by hand, every pair sorted, and scikit-learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch import Tensor

from benchmark.probes import retrieval
from benchmark.probes.retrieval import Retrieval, answered
from benchmark.probes.subject import Features
from benchmark.runtime.errors import UserError
from benchmark.runtime.memory import PeakMemory
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Interrupted
from tests.benchmark import ranks
from tests.benchmark.probes.subjects import AskedAfter, of_features, striped

CLASSES = 4


def random_features(size: int, seed: int, dim: int = 5, classes: int = CLASSES) -> Features:
    draws = torch.Generator().manual_seed(seed)
    x_ND = torch.randn(size, dim, generator=draws)
    return Features(x_ND, torch.randint(classes, (size,), generator=draws))


def at_angles(degrees: list[float], labels: list[int]) -> Features:
    """Points on the circle; the first is the query of the cases by hand."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return Features(torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor(labels))


def answers(queries: Features, gallery: Features, *, within: bool = False) -> Tensor:
    own = torch.arange(len(queries)) if within else None
    most = int(torch.bincount(gallery.labels).max())
    return answered(queries, gallery, gallery.x.norm(dim=1).clamp(min=1e-12), most, own)


def at_once(queries: int, gallery: Features) -> int:
    """The size of a tile of so many queries."""
    return queries * (len(gallery) + 4 * int(torch.bincount(gallery.labels).max()))


def pair_by_pair(queries: Features, gallery: Features, *, within: bool = False) -> list[tuple[float, int]]:
    """The definition, on sorted lists of pairs (similarity, whether it is a hit)."""
    found = []
    for row, label in enumerate(queries.labels.tolist()):
        cosines = torch.cosine_similarity(queries.x[row][None], gallery.x).tolist()
        pairs = [(-cosine, other == label) for cosine, other in zip(cosines, gallery.labels.tolist(), strict=True)]
        if within:
            del pairs[row]
        places = [place for place, (_, hit) in enumerate(sorted(pairs), 1) if hit]  # False, no hit, sorts first
        precision = sum(i / place for i, place in enumerate(places, 1)) / max(1, len(places))
        found.append((precision, places[0] if places else 0))
    return found


def values(probe: Retrieval, bank: Features, queries: Features, folder: Path) -> dict[str, float]:
    metrics = probe.measure(of_features(bank, queries, folder, classes=CLASSES)).metrics
    return {f"{metric.metric}{metric.protocol.get('k', '')}": metric.value for metric in metrics}


def test_a_case_by_hand(tmp_path: Path) -> None:
    """Hits at ranks 2, 3 and 5 of five."""
    query = at_angles([0], [1])
    bank = at_angles([40, 10, 20, 30, 50], [0, 0, 1, 1, 1])
    assert answers(query, bank).tolist() == [[pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3), 2]]
    assert values(Retrieval(retrieval_k=(3, 1, 2)), bank, query, tmp_path) == {
        "retrieval_map": pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3),
        "retrieval_recall1": 0,
        "retrieval_recall2": 1,
        "retrieval_recall3": 1,
    }


def test_recall_is_a_hit_among_the_first_k_and_not_the_share_of_hits() -> None:
    query, bank = at_angles([0], [1]), at_angles([10, 20, 30, 40], [1, 1, 1, 1])
    assert answers(query, bank).tolist() == [[1, 1]]  # three of the hits are not among the first one


def test_of_equally_similar_images_those_of_another_class_rank_first_whatever_their_order() -> None:
    """Two hits and two others at one angle, one hit nearer: ranks 1, 4 and 5."""
    query = at_angles([0], [1])
    for labels in ([1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]):
        bank = at_angles([0, 90, 90, 90, 90], [1, *labels])
        assert answers(query, bank).tolist() == [[pytest.approx((1 + 2 / 4 + 3 / 5) / 3), 1]]


def test_a_collapsed_network_finds_nothing(tmp_path: Path) -> None:
    bank = Features(torch.ones(6, 3), torch.tensor([1, 1, 1, 0, 0, 0]))
    query = Features(torch.ones(2, 3), torch.tensor([0, 1]))
    expected = {"retrieval_map": (1 / 4 + 2 / 5 + 3 / 6) / 3, "retrieval_recall1": 0, "retrieval_recall3": 0}
    assert values(Retrieval(retrieval_k=(1, 3)), bank, query, tmp_path) == pytest.approx(expected)
    nothing = Features(torch.zeros(6, 3), bank.labels)
    assert values(Retrieval(retrieval_k=(1, 3)), nothing, query, tmp_path / "zeros") == pytest.approx(expected)


@given(st.integers(0, 10_000), st.booleans())
def test_it_is_the_definition_pair_by_pair(seed: int, within: bool) -> None:
    bank, queries = random_features(30, seed), random_features(12, seed + 1)
    gallery = queries if within else bank
    found = answers(queries, gallery, within=within).tolist()
    for (precision, first), expected in zip(found, pair_by_pair(queries, gallery, within=within), strict=True):
        assert (precision, first) == (pytest.approx(expected[0]), expected[1])


@given(st.integers(0, 10_000))
def test_it_is_the_definition_where_many_are_equally_similar(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    axes = torch.eye(3).double()[torch.randint(3, (40,), generator=draws)]
    whole = Features(axes, torch.randint(2, (40,), generator=draws))
    queries, bank = Features(whole.x[:10], whole.labels[:10]), Features(whole.x[10:], whole.labels[10:])
    for (precision, first), expected in zip(answers(queries, bank).tolist(), pair_by_pair(queries, bank), strict=True):
        assert (precision, first) == (pytest.approx(expected[0]), expected[1])


def test_average_precision_is_that_of_scikit_learn_where_no_two_are_equally_similar() -> None:
    bank, queries = random_features(200, 0), random_features(50, 1)
    expected = [
        average_precision_score(bank.labels == label, torch.cosine_similarity(x_F[None], bank.x))
        for x_F, label in zip(queries.x, queries.labels, strict=True)
    ]
    np.testing.assert_allclose(answers(queries, bank)[:, 0], expected, rtol=1e-6)


def test_within_a_split_a_query_is_not_looked_for_in_itself(tmp_path: Path) -> None:
    """Of the four, each has its like beside it, but for the last that has none and does not count."""
    split = at_angles([0, 10, 90, 95, 180], [0, 0, 1, 1, 2])
    probe = Retrieval(retrieval_k=(1,), retrieval_gallery="split")
    metrics = probe.measure(of_features(random_features(3, 0, dim=2), split, tmp_path)).metrics
    assert [metric.value for metric in metrics] == [1, 1]
    for metric in metrics:
        assert (metric.protocol["gallery"], metric.protocol["queries"]) == ("split", 4)


def test_only_the_direction_of_features_counts(tmp_path: Path) -> None:
    bank, queries = random_features(40, 0), random_features(30, 1)
    scaled = Features(queries.x * torch.logspace(-3, 3, 30)[:, None], queries.labels)
    expected = values(Retrieval(), bank, queries, tmp_path / "first")
    assert values(Retrieval(), bank, scaled, tmp_path / "second") == pytest.approx(expected)


@pytest.mark.parametrize("gallery", ["bank", "split"])
def test_tiles_do_not_change_the_figures(gallery: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = random_features(40, 0), random_features(33, 1)
    probe = Retrieval(retrieval_gallery=gallery)  # type: ignore[arg-type]
    whole = values(probe, bank, queries, tmp_path / "whole")
    monkeypatch.setattr(retrieval, "SIMILARITIES", at_once(5, queries if gallery == "split" else bank))
    assert values(probe, bank, queries, tmp_path / "tiles") == pytest.approx(whole)


@pytest.mark.parametrize("seconds", [0, 1e9])
def test_stopped_after_any_tile_it_goes_on_from_there(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, queries, tiles = random_features(40, 0), random_features(33, 1), []
    monkeypatch.setattr(retrieval, "SIMILARITIES", at_once(5, bank))
    expected = values(Retrieval(), bank, queries, tmp_path / "whole")
    counted = partial(lambda make, *given: tiles.append(1) or make(*given), answered)
    monkeypatch.setattr(retrieval, "answered", counted)
    for after in range(8):  # one look at what was saved, seven tiles
        folder = tmp_path / f"{after}"
        subject = of_features(bank, queries, folder, requests=AskedAfter(after), seconds=seconds)
        with pytest.raises(Interrupted):
            Retrieval().measure(subject)
        tiles.clear()
        assert values(Retrieval(), bank, queries, folder) == expected
        assert len(tiles) == min(7, 8 - after)  # the tile after which it was asked is made anew


def several(this: Process, out: Path) -> None:
    """Three queries at a time on each of the processes, the last round short."""
    bank, queries = random_features(40, 0), random_features(31, 1)
    retrieval.SIMILARITIES = at_once(3, bank)
    metrics = Retrieval().measure(of_features(bank, queries, out, process=this)).metrics
    assert this.is_main or not metrics
    if this.is_main:
        torch.save([metric.value for metric in metrics], out / "values.pt")


@pytest.mark.parametrize("world", [2, 3])
def test_processes_that_share_the_tiles_find_what_one_does_to_the_last_bit(
    world: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ranks.together(world, partial(several, out=tmp_path)) == [0] * world
    bank = random_features(40, 0)
    monkeypatch.setattr(retrieval, "SIMILARITIES", at_once(3, bank))
    alone = values(Retrieval(), bank, random_features(31, 1), tmp_path / "alone")
    assert torch.load(tmp_path / "values.pt") == list(alone.values())


def test_a_k_above_the_gallery_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    data = striped()  # 48 images to learn from, 21 to tune on, 30 to test on
    Retrieval(retrieval_k=(1, 48)).check(data, "test")
    Retrieval(retrieval_k=(29,), retrieval_gallery="split").check(data, "test")
    with pytest.raises(UserError, match=r"evaluation.retrieval_k: is \[1, 49\], must be at most the 48 images that"):
        Retrieval(retrieval_k=(1, 49)).check(data, "test")
    with pytest.raises(UserError, match=r"evaluation.retrieval_k: is \[21\], must be at most the 20 images that"):
        Retrieval(retrieval_k=(21,), retrieval_gallery="split").check(data, "tune")
    with pytest.raises(UserError, match=r"must be at most the 4 images"):
        Retrieval().measure(of_features(random_features(4, 0), random_features(9, 1), tmp_path))


def test_a_k_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Retrieval(retrieval_k=(0, 1))


def test_queries_without_any_of_their_class_are_refused_in_a_sentence(tmp_path: Path) -> None:
    bank, queries = at_angles([0, 1], [0, 0]), at_angles([0, 1], [1, 2])
    with pytest.raises(UserError, match="no image of split test has another of its class to be found"):
        Retrieval(retrieval_k=(1,)).measure(of_features(bank, queries, tmp_path))


def test_a_bank_of_50_000_is_not_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(0)
    bank = Features(torch.randn(50_000, 256, generator=draws), torch.arange(50_000) % 1000)
    queries = Features(bank.x[:24] + 0.1, bank.labels[:24])
    tile = 2**19  # ten queries at once
    monkeypatch.setattr(retrieval, "SIMILARITIES", tile)
    subject = of_features(bank, queries, tmp_path)
    with PeakMemory(bank.x, queries.x, bank.labels, queries.labels) as memory:
        found = Retrieval().measure(subject).metrics
    assert found[1].value > 0.9
    assert memory.baseline_bytes > 50e6
    # A similarity, whether it is a hit, and how many hits it passes; the norms, and what is held of ten queries' hits.
    assert memory.peak_bytes < 13 * tile + 4 * len(bank) + 2**20


def test_few_classes_with_many_hits_each_hold_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bank, queries = random_features(20_000, 0, classes=2), random_features(60, 1, classes=2)
    tile = 2**20
    monkeypatch.setattr(retrieval, "SIMILARITIES", tile)
    subject = of_features(bank, queries, tmp_path)
    with PeakMemory(bank.x, queries.x, bank.labels, queries.labels) as memory:
        Retrieval().measure(subject)
    assert memory.peak_bytes < 13 * tile + 12 * len(bank)
