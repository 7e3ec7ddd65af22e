"""Pairings: stars, the weights that follow from them, and what is refused."""

from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from methods import Pairing
from methods.pairing import Star, common_weight


@st.composite
def pairings(draw):
    """Any pairing, of stars of its own."""
    views = draw(st.integers(2, 6))
    some = st.lists(st.integers(0, views - 1), min_size=1, max_size=views, unique=True).map(tuple)
    stars = st.builds(Star, some, some, st.fractions(Fraction(1, 9), 3, max_denominator=9))
    proper = stars.filter(lambda star: len({*star.hub, *star.spokes}) > 1)
    return Pairing(views, tuple(draw(st.lists(proper, min_size=1, max_size=3))), draw(some))


PUBLISHED = [Pairing.of(None, 5), Pairing.obow(), Pairing.swav(), Pairing.centre(), Pairing.centre(4, 4)]


def by_stars(pairing, z_VD):
    """The alignment as it is defined."""
    return sum(
        float(star.weight) * (z_VD[list(star.spokes)] - z_VD[list(star.hub)].mean(0)).square().sum()
        for star in pairing.stars
    )


def check_weights(pairing):
    z_VD = torch.randn(pairing.views, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_pairs = sum(w * (z_VD[a] - z_VD[b]).square().sum() for (a, b), w in pairing.weights.items())
    torch.testing.assert_close(torch.as_tensor(by_pairs, dtype=torch.float64), by_stars(pairing, z_VD))
    assert sum(pairing.aligned.values()) == pytest.approx(1, abs=1e-12)
    assert min(pairing.aligned.values()) > 0
    assert all(a < b for a, b in {*pairing.weights, *pairing.aligned, *pairing.contrasted})


@given(pairings())
def test_the_weights_of_pairs_are_those_of_the_stars(pairing):
    check_weights(pairing)


@pytest.mark.parametrize("pairing", PUBLISHED)
def test_the_weights_of_the_published_pairings(pairing):
    check_weights(pairing)


@given(pairings())
def test_pairs_align_a_hub_with_a_spoke_and_contrast_what_is_regularised(pairing):
    joined = {frozenset((c, v)) for star in pairing.stars for c in star.hub for v in star.spokes if c != v}
    assert set(map(frozenset, pairing.aligned)) == joined
    others = set(range(pairing.views)) - set(pairing.regularised)
    assert set(pairing.contrasted) == set(combinations(range(pairing.views), 2)) - set(combinations(sorted(others), 2))


@given(st.integers(2, 9))
def test_all_pairs_weigh_the_same(views):
    pairing = Pairing.of(Pairing.all_pairs(), views)
    assert pairing == Pairing.of(None, views)
    assert pairing.regularised == tuple(range(views))
    pairs = list(combinations(range(views), 2))
    assert pairing.weights == pairing.aligned == dict.fromkeys(pairs, 1 / len(pairs))


def test_the_original_is_aligned_with_every_crop():
    assert Pairing.obow(3).weights == {(0, crop): 1 / 3 for crop in (1, 2, 3)}
    assert Pairing.obow(3).regularised == (0, 1, 2, 3)
    assert Pairing.obow(3, "original").regularised == (0,)


def test_the_pair_of_large_views_counts_twice():
    pairing = Pairing.swav(2, 2)
    assert pairing.weights == {(0, 1): 1 / 3, (0, 2): 1 / 6, (0, 3): 1 / 6, (1, 2): 1 / 6, (1, 3): 1 / 6}
    assert pairing.aligned == pairing.weights
    assert pairing.regularised == (0, 1)
    assert Pairing.swav(2, 2, "all").regularised == (0, 1, 2, 3)


def test_the_large_views_may_repel_where_all_are_drawn_to_their_centre():
    assert Pairing.centre(2, 6).weights[0, 1] == -1 / 8
    assert (0, 1) not in Pairing.centre(4, 4).weights  # the two parts cancel
    assert Pairing.centre(2, 6).aligned == Pairing.swav(2, 6).aligned


def test_with_two_views_all_pairings_align_the_one_pair():
    for pairing in (Pairing.all_pairs(), Pairing.obow(1), Pairing.swav(2, 0)):
        bound = Pairing.of(pairing, 2)
        assert bound.weights == bound.aligned == {(0, 1): 1.0}
        assert bound.regularised == (0, 1)
    assert Pairing.centre(2, 0).weights == {(0, 1): 0.25}  # each to the middle
    assert Pairing.centre(2, 0).aligned == {(0, 1): 1.0}


@given(st.lists(st.sampled_from([0.25, 0.5, 2.0]), min_size=1), st.data())
def test_the_commonest_weight_and_the_others_make_the_sum(weights, data):
    numbers = data.draw(st.lists(st.floats(-1, 1), min_size=len(weights), max_size=len(weights)))
    common, others = common_weight(dict(enumerate(weights)))
    total = common * sum(numbers) + sum(weight * numbers[index] for index, weight in others.items())
    assert total == pytest.approx(sum(w * x for w, x in zip(weights, numbers, strict=True)), abs=1e-12)
    assert len(others) <= len(weights) * 2 / 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pairing.of(Pairing.obow(), 2), "the pairing is of 8 views, but there are 2"),
        (lambda: Pairing.of(None, 1), "at least 2 views, not 1"),
        (lambda: Pairing.obow(crops=0), "crops must be a whole number of at least 1, not 0"),
        (lambda: Pairing.obow(regularise="large"), "regularise must be all or original, not 'large'"),
        (lambda: Pairing.swav(regularise="original"), "regularise must be large or all, not 'original'"),
        (lambda: Pairing.swav(large=0), "large must be a whole number of at least 1, not 0"),
        (lambda: Pairing.centre(small=-1), "small must be a whole number of at least 0, not -1"),
        (lambda: Pairing.centre(large=1, small=0), "at least 2 views, not 1"),
        (lambda: Pairing.centre(large=1.5), "large must be a whole number"),
        (lambda: Pairing(2, (), (0,)), "at least one star"),
        (lambda: Pairing(2, (Star((0,), (1,), Fraction(1)),), ()), "regularised views must hold one or more"),
        (lambda: Pairing(2, (Star((0,), (1,), Fraction(1)),), (0, 2)), r"different views of 0..1, not \(0, 2\)"),
        (lambda: Pairing(2, (Star((), (1,), Fraction(1)),), (0,)), "hub of a star must hold one or more"),
        (lambda: Pairing(2, (Star((0,), (1, 1), Fraction(1)),), (0,)), "spokes of a star must hold one or more diff"),
        (lambda: Pairing(2, (Star((0,), (0,), Fraction(1)),), (0,)), "not view 0 with itself"),
        (lambda: Pairing(2, (Star((0,), (1,), Fraction(0)),), (0,)), "weight of a star must be above 0, not 0"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
