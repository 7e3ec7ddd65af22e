"""Every loss with a pairing: the published multi-crops, the textbook forms, and what a pairing may not change."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from methods import Pairing, registry, sfrik
from methods.pairing import Star
from tests.methods.small import OPTIONS, small

FIXTURE = Path(__file__).parents[2] / "fixtures" / "multicrop_losses.npz"
with np.load(FIXTURE) as stored:
    ARRAYS = {name: stored[name] for name in stored.files}
CASES = [entry for entry in json.loads(str(ARRAYS["meta"])) if entry["case"].startswith("SFRIK")]

# A view that is only aligned, one that is only regularised, a hub that is no spoke, and unequal weights.
UNEVEN = Pairing(4, (Star((1, 2), (0, 2), Fraction(2, 3)), Star((0,), (1,), Fraction(1, 2))), (1, 3))
PAIRINGS = {
    "obow": Pairing.obow(3),
    "obow original": Pairing.obow(3, "original"),
    "swav": Pairing.swav(2, 2),
    "swav all": Pairing.swav(2, 2, "all"),
    "centre": Pairing.centre(2, 2),
    "uneven": UNEVEN,
}
WITH_TEXTBOOK = [name for name in registry.names() if registry.get(name).textbook]
TWO_FORMS = ("sfrik_l1", "sfrik_l2", "spectral", "vicreg", "barlow_twins", "frossl", "wasserstein", "vne", "mmcr")
WITH_POSITIVES = ("barlow_twins", "simclr", "simclr_sfrik", "dcl", "spectral", "vne", "mmcr")
FORMS = [(name, form) for name in WITH_TEXTBOOK for form in (("primal", "dual") if name in TWO_FORMS else ("auto",))]


def published_pairing(case):
    small = case.endswith("True")
    if "OBoW" in case:
        return Pairing.obow(7, "all" if small else "original")
    return Pairing.swav(2, 6, "all" if small else "large")


@pytest.mark.parametrize("entry", CASES, ids=lambda entry: f"{entry['case']} {entry['N']}x{entry['D']}")
def test_sfrik_on_several_crops_as_published(entry):
    views = [torch.tensor(ARRAYS[f"view{v}_{entry['shape']}"], requires_grad=True) for v in range(entry["views"])]
    loss = sfrik(views, align_weight=4000 / entry["D"], pairing=published_pairing(entry["case"]))
    loss.value.backward()
    assert loss.value.item() == pytest.approx(entry["loss"], abs=1e-9, rel=0)
    for v, view in enumerate(views):
        np.testing.assert_allclose(view.grad, ARRAYS[f"grad{v}_{entry['k']}"], rtol=0, atol=1e-9)


def test_every_case_of_sfrik_is_compared():
    assert len(CASES) == 8


@pytest.mark.parametrize("pairing", PAIRINGS.values(), ids=PAIRINGS)
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_value_and_gradient_are_the_textbooks(name, form, pairing, make_views, assert_is_the_textbook):
    assert_is_the_textbook(name, make_views(12, 6, 4), form=form, pairing=pairing, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("pairing", PAIRINGS.values(), ids=PAIRINGS)
@pytest.mark.parametrize("name", registry.names())
def test_relabelled_views_and_pairing_give_the_same(name, pairing, make_views, assert_same_derivative):
    views, order = make_views(12, 6, 4), (2, 0, 3, 1)  # what was view v is view order[v]
    places = lambda indices: tuple(sorted(order[v] for v in indices))  # noqa: E731
    stars = tuple(Star(places(star.hub), places(star.spokes), star.weight) for star in pairing.stars)
    relabelled = Pairing(4, stars, places(pairing.regularised))
    moved = [views[order.index(v)] for v in range(4)]
    method = small(name)
    assert_same_derivative(views, method(moved, pairing=relabelled).value, method(views, pairing=pairing).value)


@pytest.mark.parametrize("name", registry.names())
def test_all_pairings_of_two_views_are_one(name, make_views, assert_same_derivative):
    views, method = make_views(12, 6), small(name)
    expected = method(views, pairing=Pairing.all_pairs()).value
    for pairing in (Pairing.obow(1), Pairing.swav(2, 0)):
        assert_same_derivative(views, method(views, pairing=pairing).value, expected)


@pytest.mark.parametrize("name", registry.names())
def test_the_centre_of_two_views_is_a_quarter_of_their_distance(name, make_views, assert_same_derivative):
    """Of losses of distances; the aligned pair is the one there is."""
    views, method = make_views(12, 6), small(name)
    expected = method(views, pairing=Pairing.all_pairs())
    found = method(views, pairing=Pairing.centre(2, 0))
    if name in WITH_POSITIVES:
        assert_same_derivative(views, found.value, expected.value)
        return
    torch.testing.assert_close(found.terms["alignment"] * 4, expected.terms["alignment"])
    others = [name for name in found.terms if name != "alignment"]
    assert {term: found.terms[term] for term in others} == {term: expected.terms[term] for term in others}


@pytest.mark.parametrize("name", registry.names())
def test_a_view_that_is_neither_aligned_nor_regularised_has_no_part(name, make_views, assert_same_derivative):
    views, method = make_views(12, 6, 3), small(name)
    pairing = Pairing(3, (Star((0,), (1,), Fraction(1)),), (0, 1))
    value = method(views, pairing=pairing).value
    (left_out,) = torch.autograd.grad(value, views[2:], retain_graph=True)
    assert left_out.abs().max() == 0 or name == "spectral"  # which contrasts it with the regularised views
    if name != "spectral":
        assert_same_derivative(views[:2], value, method(views[:2], pairing=Pairing.all_pairs()).value)


@pytest.mark.parametrize("name", registry.names())
def test_in_float32_too(name, make_views):
    pairing, method = Pairing.swav(2, 2), small(name)
    exact = method(make_views(60, 30, 4), pairing=pairing).value
    single = method(make_views(60, 30, 4, dtype=torch.float32), pairing=pairing).value
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("name", registry.names())
def test_a_pairing_of_other_views_is_refused(name, make_views):
    with pytest.raises(ValueError, match="the pairing is of 8 views, but there are 2"):
        small(name)(make_views(12, 6), pairing=Pairing.obow())
