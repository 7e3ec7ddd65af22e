"""Values and gradients of published implementations, float64, reproduced to 1e-9."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from methods import auh, barlow_twins, mmd, sfrik, simclr, simclr_sfrik, vicreg
from methods.kernels.kernel import rbf

FIXTURE = Path(__file__).parents[2] / "fixtures" / "published_losses.npz"
with np.load(FIXTURE) as stored:
    ARRAYS = {name: stored[name] for name in stored.files}
CASES = json.loads(str(ARRAYS.pop("meta")))


def uniformity(views, form, *, s, align_weight, reg_weight):
    kernel = rbf(s, views[0].shape[1])
    weights = {"align_weight": align_weight, "reg_weight": reg_weight}
    return mmd(views, kernel=kernel, statistic="U", log=True, form=form, **weights)


# case -> loss(views, D, form)
LOSSES = {
    "sfrik/ssl.py SFRIK sim=4000 mmd=1 w=1-40-40": lambda v, D, form: sfrik(v, align_weight=4000 / D, form=form),
    "sfrik/ssl.py SFRIK sim=4000 mmd=1 w=1-40-0 (L=2)": lambda v, D, form: sfrik(
        v, weights=(1, 40), align_weight=4000 / D, form=form
    ),
    "sfrik/ssl.py SFRIK sim=0 mmd=1 w=1-2-3-4 (L=4)": lambda v, D, form: sfrik(
        v, weights=(1, 2, 3, 4), align_weight=0, form=form
    ),
    "sfrik/ssl.py AUH sim=3000 unif=1 scale=2.5": lambda v, D, form: auh(v, align_weight=3000 / D, form=form),
    "sfrik/ssl.py VICReg 10-10-1": lambda v, D, form: vicreg(v, align_weight=10 / D, variance_weight=10, form=form),
    "vicreg 25-25-1": lambda v, D, form: vicreg(v, form=form),
    "lightly VICRegLoss 25-25-1": lambda v, D, form: vicreg(v, form=form),
    "sfrik/ssl.py SimCLR T=0.15": lambda v, D, form: simclr_sfrik(v, temperature=0.15, form=form),
    "lightly NTXentLoss T=0.5": lambda v, D, form: simclr(v, temperature=0.5, form=form),
    "align_uniform lalign(alpha=2)": lambda v, D, form: uniformity(v, form, s=2, align_weight=1, reg_weight=0),
    "align_uniform lunif(t=2) mean of views": lambda v, D, form: uniformity(v, form, s=2, align_weight=0, reg_weight=1),
    "lightly HypersphereLoss t=1 lam=1 alpha=2": lambda v, D, form: uniformity(
        v, form, s=1, align_weight=1, reg_weight=1
    ),
    "barlowtwins lambd=0.0051": lambda v, D, form: barlow_twins(v, form=form),
    "lightly BarlowTwinsLoss lambda=0.005": lambda v, D, form: barlow_twins(v, off_diagonal_weight=0.005, form=form),
}
BOTH_FORMS = ("VICReg", "Barlow", "barlow", "L=2", "vicreg")

# The published SFRIK repository adds these terms up in a float32 scalar, whatever the type of the embeddings; their
# gradients are exact. Their values are compared after the same rounding.
SINGLE_PRECISION = {"sfrik/ssl.py AUH sim=3000 unif=1 scale=2.5": "regulariser", "sfrik/ssl.py SimCLR T=0.15": None}


def as_published(case, loss):
    if case not in SINGLE_PRECISION:
        return loss.value.item()
    rounded = SINGLE_PRECISION[case]
    if rounded is None:
        return float(np.float32(loss.value.item()))
    return loss.value.item() - loss.terms[rounded].item() + float(np.float32(loss.terms[rounded].item()))


def cases_and_forms():
    for entry in CASES:
        both = any(name in entry["case"] for name in BOTH_FORMS)
        for form in ("primal", "dual") if both else ("auto",):
            yield pytest.param(entry, form, id=f"{entry['case']} {entry['N']}x{entry['D']} {form}".replace(" ", "_"))


@pytest.mark.parametrize(("entry", "form"), cases_and_forms())
def test_value_and_gradient_as_published(entry, form):
    x, y = (torch.tensor(ARRAYS[f"{name}{entry['shape']}"], requires_grad=True) for name in "xy")
    loss = LOSSES[entry["case"]]([x, y], entry["D"], form)
    loss.value.backward()
    assert loss.form == form or form == "auto"
    assert as_published(entry["case"], loss) == pytest.approx(entry["loss"], abs=1e-9, rel=0)
    np.testing.assert_allclose(x.grad, ARRAYS[f"gx{entry['k']}"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(y.grad, ARRAYS[f"gy{entry['k']}"], rtol=0, atol=1e-9)


def test_every_case_of_the_fixture_is_compared():
    assert {entry["case"] for entry in CASES} == set(LOSSES)
    assert len(CASES) == 42
