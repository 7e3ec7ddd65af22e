"""The losses of spectra, and DCL: published values and gradients, and what spectra without full rank may not do."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from methods import Pairing, dcl, frossl, mmcr, simclr, vne, wasserstein

FIXTURE = Path(__file__).parents[2] / "fixtures" / "frontier_losses.npz"
# Beginning of a case -> the loss, and its factor.
CASES = {
    "frossl invariance_weight 1": (frossl, 1),
    "frossl invariance_weight 1.4": (partial(frossl, align_weight=1.4), 1),
    "mmcr ": (mmcr, 1),
    "von neumann entropy ": (partial(vne, align_weight=0.0), -1),
    "wasserstein ": (partial(wasserstein, align_weight=0.0, reg_weight=1.0), 1),
    "dcl temperature 0.1": (dcl, 1),
}
SPECTRAL = {"frossl": frossl, "mmcr": mmcr, "vne": vne, "wasserstein": wasserstein}
FORMS = ("primal", "dual")


def published():
    """(the loss, its views, value, gradients, form)."""
    with np.load(FIXTURE) as stored:
        for entry in json.loads(str(stored["meta"])):
            found = [case for beginning, case in CASES.items() if entry["case"].startswith(beginning)]
            if not found:
                continue
            loss, factor = found[-1]  # 1.4 begins with 1
            views = [stored[f"view{v}_{entry['shape']}"] for v in range(entry["views"])]
            gradients = [factor * stored[f"grad{v}_{entry['k']}"] for v in range(entry["views"])]
            for form in ("auto",) if loss is dcl else FORMS:
                name = f"{entry['case']} {entry['N']}x{entry['D']} {form}"
                yield pytest.param(loss, views, factor * entry["loss"], gradients, form, id=name)


PUBLISHED = list(published())


@pytest.mark.parametrize(("loss", "views", "value", "gradients", "form"), PUBLISHED)
def test_value_and_gradient_as_published(loss, views, value, gradients, form):
    views = [torch.tensor(view, requires_grad=True) for view in views]
    found = loss(views, form=form)
    found.value.backward()
    assert found.value.item() == pytest.approx(value, abs=1e-9, rel=0)
    for view, gradient in zip(views, gradients, strict=True):
        np.testing.assert_allclose(view.grad, gradient, rtol=0, atol=1e-9)


def test_every_case_is_compared():
    assert len(PUBLISHED) == 2 * (3 * 4 + 1) + 2


SEEDS = st.integers(0, 2**32 - 1)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value_and_gradient(loss, views, **options):
    views = [view.clone().requires_grad_() for view in views]
    value = loss(views, **options).value
    return value.detach(), torch.stack(torch.autograd.grad(value, views))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", SPECTRAL.values(), ids=SPECTRAL)
@given(seed=SEEDS, count=st.integers(3, 30), dim=st.integers(2, 30))
def test_rotated_embeddings_spread_alike(loss, form, seed, count, dim):
    """And FroSSL's with other scales of the columns; gradients turn and stretch along."""
    views, rotation_DD = list(draw(seed, 2, count, dim)), torch.linalg.qr(draw(seed + 1, dim, dim)).Q
    if loss is frossl:
        rotation_DD = torch.diag(draw(seed + 1, dim).exp())
    value, gradient = value_and_gradient(loss, views, form=form)
    turned, turned_gradient = value_and_gradient(loss, [view @ rotation_DD for view in views], form=form)
    torch.testing.assert_close(turned, value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(turned_gradient @ rotation_DD.T, gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("loss", SPECTRAL.values(), ids=SPECTRAL)
@given(seed=SEEDS, count=st.integers(6, 24), dim=st.integers(6, 24), rank=st.integers(2, 4))
def test_both_forms_agree_where_the_rank_is_low(loss, seed, count, dim, rank):
    """Directions that no embedding has pull nowhere: not by the rounding of their eigenvalues either."""
    basis_RD = draw(seed, rank, dim)
    views = [coefficients @ basis_RD for coefficients in draw(seed + 1, 2, count, rank)]
    (primal, by_primal), (dual, by_dual) = (value_and_gradient(loss, views, form=form) for form in FORMS)
    torch.testing.assert_close(primal, dual, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(by_primal, by_dual, rtol=1e-5, atol=1e-6)
    if loss is not frossl:  # whose columns are scaled each by itself
        outside_DD = torch.eye(dim, dtype=torch.float64) - torch.linalg.pinv(basis_RD) @ basis_RD
        assert (by_primal @ outside_DD).abs().max() < 1e-6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", [vne, mmcr, frossl], ids=["vne", "mmcr", "frossl"])
def test_where_all_eigenvalues_are_equal_the_gradient_is_the_numerical_one(loss, form):
    turn = torch.tensor([[math.cos(0.3), math.sin(0.3)], [-math.sin(0.3), math.cos(0.3)]], dtype=torch.float64)
    frame = torch.eye(4, dtype=torch.float64).repeat(2, 1)
    views = [frame, 2 * frame @ torch.block_diag(turn, turn)]  # of the centroids' too
    assert torch.autograd.gradcheck(lambda *v: loss(v, form=form).value, [view.requires_grad_() for view in views])


def test_what_is_known_of_a_frame_and_of_collapse():
    frame = torch.cat([torch.eye(4, dtype=torch.float64), -torch.eye(4, dtype=torch.float64)])
    same = torch.ones(8, 4, dtype=torch.float64)
    for form in FORMS:
        value = lambda loss, view, **options: loss([view, view], form=form, **options).value.item()  # noqa: E731, B023
        assert value(wasserstein, frame) == pytest.approx(0, abs=1e-6)
        assert value(wasserstein, same, reg_weight=1.0) == pytest.approx(math.sqrt(2))
        assert value(vne, frame, align_weight=0.0) == pytest.approx(-math.log(4))
        assert value(vne, same, align_weight=3.0) == pytest.approx(-3)
        assert value(mmcr, frame) == pytest.approx(-math.sqrt(8 * 4))
        assert value(mmcr, same) == pytest.approx(-math.sqrt(8))
        assert value(frossl, frame) == pytest.approx(-2 * math.log(4))
        assert value(frossl, same) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", SPECTRAL.values(), ids=SPECTRAL)
def test_collapse_has_a_gradient_and_what_is_no_number_stays_none(loss, form):
    same = torch.ones(8, 4)
    _, gradient = value_and_gradient(loss, [same, same], form=form)
    assert torch.isfinite(gradient).all()
    for broken in (math.nan, math.inf):
        views = draw(0, 2, 8, 4).float()
        views[0, 3, 1] = broken
        value, gradient = value_and_gradient(loss, list(views), form=form)
        assert not torch.isfinite(value)
        assert not torch.isfinite(gradient).all()


@pytest.mark.parametrize("form", FORMS)
def test_close_embeddings_are_centred_before_they_are_rounded(form):
    """At a distance of 1e-3 from each other, in float32."""
    views = [1 + 1e-3 * view for view in draw(0, 2, 40, 12)]
    value, gradient = value_and_gradient(wasserstein, views, form=form, align_weight=0.0)
    single, single_gradient = value_and_gradient(
        wasserstein, [view.float() for view in views], form=form, align_weight=0.0
    )
    assert single.item() == pytest.approx(value.item(), rel=1e-6)
    assert (single_gradient - gradient).norm() < 1e-3 * gradient.norm()


def test_a_column_of_zeros_has_no_part_in_frossl():
    views = list(draw(0, 2, 8, 4))
    value, gradient = value_and_gradient(frossl, views)
    wider, wider_gradient = value_and_gradient(frossl, [torch.nn.functional.pad(view, (0, 1)) for view in views])
    torch.testing.assert_close(wider, value)
    torch.testing.assert_close(wider_gradient[..., :4], gradient)


def test_mmcr_takes_the_centroid_of_all_views_that_a_star_brings_together(make_views, assert_same_derivative):
    views = make_views(12, 6, 4)
    expected = mmcr(views).value
    for pairing in (Pairing.obow(3), Pairing.swav(2, 2), Pairing.centre(1, 3)):
        assert_same_derivative(views, mmcr(views, pairing=pairing).value, expected)
    assert Pairing.swav(2, 2).bundles == {(0, 1, 2, 3): 1.0}


def test_of_two_images_dcl_is_simclr_without_the_positive(make_views):
    """log(e^{t/τ} + Σ) of the row and log Σ, the sum over the two views of the one other image."""
    views, temperature = make_views(2, 9), 0.5
    z = [torch.nn.functional.normalize(view) for view in views]
    t = lambda a, b: (z[a] @ z[b].T) / temperature  # noqa: E731
    negatives = torch.stack([torch.stack([t(a, 0)[i, 1 - i], t(a, 1)[i, 1 - i]]) for a in (0, 1) for i in (0, 1)])
    positives = torch.stack([t(a, 1 - a)[i, i] for a in (0, 1) for i in (0, 1)])[:, None]
    expected = (negatives.logsumexp(1, keepdim=True) - positives).mean()
    torch.testing.assert_close(dcl(views, temperature=temperature).value, expected)
    whole = (torch.cat([negatives, positives], 1).logsumexp(1, keepdim=True) - positives).mean()
    torch.testing.assert_close(simclr(views, temperature=temperature).value, whole)


@pytest.mark.parametrize("loss", SPECTRAL.values(), ids=SPECTRAL)
def test_an_unknown_form_is_refused(loss, make_views):
    with pytest.raises(ValueError, match="no form 'rowwise': it takes auto, dual, primal"):
        loss(make_views(6, 4), form="rowwise")
