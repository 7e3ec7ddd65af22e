"""Value and gradient of every loss are those of its textbook form under autograd."""

import pytest
import torch

from methods import registry
from methods.losses.regularisers import sfrik_textbook
from tests.methods import small

# Options other than the defaults, so that no weight is left out unseen.
OPTIONS = {
    "sfrik_l1": {"align_weight": 0.3, "reg_weight": 2.0},
    "sfrik_l2": {"weights": [2.0, 3.0]},
    "sfrik_l3": {"align_weight": 0.5},
    "auh": {"align_weight": 0.5, "scale": 1.5, "reg_weight": 2.0},
    "vicreg": {"align_weight": 0.1, "variance_weight": 5.0, "covariance_weight": 3.0},
    "barlow_twins": {"off_diagonal_weight": 0.3},
    "simclr": {"temperature": 0.2},
    "simclr_sfrik": {"temperature": 0.2},
    "dcl": {"temperature": 0.2},
    "spectral": {"reg_weight": 3.0},
    "zonal_mmd": {"kernel": "bandlimited", "degree": 3, "weight": 0.4},
    "zonal_ksd": {"t": 3.0, "weight": 0.4},
    "zonal_kl": {"t": 3.0, "weight": 0.3},
    "sigreg": {"weight": 0.3, "slices": 70, "knots": 6, "t_max": 4.0},
    "susreg": {"weight": 0.3, "slices": 70, "knots": 40, "t_max": 4.0},
    "visreg": {"weight": 0.3, "slices": 70, "centre_weight": 2.0, "scale_weight": 3.0, "shape_weight": 4.0},
    "frossl": {"align_weight": 1.4},
    "wasserstein": {"align_weight": 0.3, "reg_weight": 2.0},
    "vne": {"align_weight": 0.3, "entropy_weight": 2.0},
    "mmcr": {},
}
TWO_FORMS = ("sfrik_l1", "sfrik_l2", "spectral", "vicreg", "barlow_twins", "frossl", "wasserstein", "vne", "mmcr")
CASES = [(name, form) for name in OPTIONS for form in (("primal", "dual") if name in TWO_FORMS else ("auto",))]


@pytest.mark.parametrize("options", ["defaults", "others"])
@pytest.mark.parametrize(("count", "width", "views"), [(40, 90, 2), (40, 90, 3), (300, 20, 2)])
@pytest.mark.parametrize(("name", "form"), CASES)
def test_value_and_gradient_are_the_textbooks(
    name, form, count, width, views, options, make_views, assert_is_the_textbook
):
    chosen = small.OPTIONS.get(name, {}) | (OPTIONS[name] if options == "others" else {})
    assert_is_the_textbook(name, make_views(count, width, views), form=form, **chosen)


def test_every_method_that_is_one_equation_has_a_textbook_form():
    # `mmd` takes any kernel.
    without = {name for name in registry.names() if registry.get(name).textbook is None}
    assert without == set(registry.names()) - set(OPTIONS) == {"mmd"}


def test_a_degree_that_the_textbook_has_not_is_refused():
    with pytest.raises(ValueError, match="has 3 degrees, not 4"):
        sfrik_textbook([torch.randn(4, 3)] * 2, weights=(1, 2, 3, 4), align_weight=1.0, reg_weight=1.0)
