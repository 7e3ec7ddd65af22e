"""Every registered method, on tiny data: finite, right derivative, no order in the batch, collapse costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from methods import registry
from methods.options import check_option
from tests.methods.small import small

COUNT, WIDTH = 12, 6
PRIMAL = {"sfrik_l1", "sfrik_l2", "spectral", "vicreg", "barlow_twins", "frossl", "wasserstein", "vne", "mmcr"}
FORMS = [(name, form) for name in registry.names() for form in ("auto", "primal") if form == "auto" or name in PRIMAL]


def loss_of(name, views, **options):
    return small(name)(views, **options)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("name", registry.names())
def test_value_is_the_sum_of_finite_terms(name, views, make_views):
    loss = loss_of(name, make_views(COUNT, WIDTH, views))
    assert torch.isfinite(loss.value)
    assert loss.value.shape == ()
    assert not any(term.requires_grad for term in loss.terms.values())
    torch.testing.assert_close(sum(loss.terms.values()), loss.value.detach())


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_gradient_is_the_numerical_one(name, form, views, make_views):
    # VISReg's shape is detached from the deviations, as published: no derivative of its value.
    options = {"shape_weight": 0.0} if name == "visreg" else {}
    if "slices" in registry.get(name).defaults:
        options["slices"] = 16
    loss = lambda *v: loss_of(name, v, form=form, **options).value  # noqa: E731
    # Every coordinate takes two values of the loss: few of them.
    assert torch.autograd.gradcheck(loss, make_views(5, 3, views))


@pytest.mark.parametrize("name", registry.names())
def test_the_order_of_the_batch_and_of_the_views_does_not_matter(name, make_views):
    views = make_views(COUNT, WIDTH, 3)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    value = loss_of(name, views).value
    torch.testing.assert_close(loss_of(name, [view[order] for view in views]).value, value)
    torch.testing.assert_close(loss_of(name, views[::-1]).value, value)


@pytest.mark.parametrize("name", registry.names())
def test_collapse_costs_more_than_uniform(name):
    generator = torch.Generator().manual_seed(0)
    uniform = torch.randn(64, 16, generator=generator, dtype=torch.float64)
    collapsed = torch.ones(64, 16, dtype=torch.float64) + 1e-6 * uniform
    assert loss_of(name, [collapsed, collapsed]).value > loss_of(name, [uniform, uniform]).value


@pytest.mark.parametrize("name", sorted(PRIMAL))
def test_forms_agree(name, make_views):
    views = make_views(COUNT, WIDTH, 3)
    primal, dual = (loss_of(name, views, form=form) for form in ("primal", "dual"))
    assert (primal.form, dual.form) == ("primal", "dual")
    torch.testing.assert_close(primal.value, dual.value)
    torch.testing.assert_close(torch.autograd.grad(primal.value, views), torch.autograd.grad(dual.value, views))


@pytest.mark.parametrize("name", registry.names())
def test_value_without_gradient(name, make_views):
    views = make_views(COUNT, WIDTH)
    value = loss_of(name, views).value
    with torch.no_grad():
        plain = loss_of(name, views).value
    assert not plain.requires_grad
    torch.testing.assert_close(plain, value.detach())


@pytest.mark.parametrize("name", registry.names())
def test_resolved_options_are_plain_and_final(name):
    method = registry.get(name)
    resolved = method.resolve({}, 512)
    assert json.loads(json.dumps(resolved)) == resolved
    assert method.resolve(resolved, 512) == resolved
    assert set(method.origin) == set(method.defaults)
    assert method.title
    assert method.source


def test_names_are_those_of_the_suite():
    assert set(registry.names()) == {
        *("sfrik_l1", "sfrik_l2", "sfrik_l3", "mmd", "auh", "vicreg"),
        *("barlow_twins", "simclr", "simclr_sfrik", "dcl", "spectral"),
        *("zonal_mmd", "zonal_ksd", "zonal_kl"),
        *("sigreg", "susreg", "visreg"),
        *("frossl", "wasserstein", "vne", "mmcr"),
    }


@pytest.mark.parametrize(
    ("name", "published", "width", "expected"),
    [("sfrik_l3", 4000, 8192, 0.488), ("sfrik_l3", 40000, 32768, 1.22), ("auh", 3000, 8192, 0.366)],
)
def test_published_coefficients_are_converted_in_the_open(name, published, width, expected):
    resolved = registry.get(name).resolve({"published_sim_coeff": published}, width)
    assert resolved["align_weight"] == pytest.approx(expected, abs=1e-3)
    assert "published_sim_coeff" not in resolved


def test_the_alignment_of_vicreg_stays_a_mean_over_coordinates():
    assert registry.get("vicreg").resolve({}, 100)["align_weight"] == 0.25
    assert registry.get("vicreg").resolve({"align_weight": 1.0}, 100)["align_weight"] == 1.0


@pytest.mark.parametrize("kernel", registry.get("mmd").kernels)
def test_mmd_takes_every_kernel(kernel, make_views):
    parameters = {
        "legendre": {"weights": [1, 2]},
        "exponential": {"tau": 0.5},
        "polynomial": {"coefficients": [0, 1, 1]},
        "distance": {"p": 1.0},
        "heat": {"tau": 0.3},
        "bandlimited": {"degree": 2},
    }
    method = registry.get("mmd")
    resolved = method.resolve({"kernel": kernel, **parameters.get(kernel, {})}, WIDTH)
    assert json.loads(json.dumps(resolved)) == resolved
    assert torch.autograd.gradcheck(lambda *v: method(v, **resolved).value, make_views(5, WIDTH))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sfrik_l3", {"weight": [1]}, "no option 'weight': it takes weights, align_weight, reg_weight, published_sim"),
        ("sfrik_l3", {"weights": [1, -1]}, "weights must be a list"),
        ("sfrik_l3", {"align_weight": -1}, "align_weight must be a finite number, not negative, not -1"),
        ("sfrik_l3", {"align_weight": True}, "align_weight must be"),
        ("sfrik_l3", {"align_weight": 1, "published_sim_coeff": 1}, "not both"),
        ("auh", {"scale": 0}, "scale must be"),
        ("auh", {"scale": 100}, "at most 40"),
        ("simclr", {"temperature": 0.001}, "at least 0.02"),
        ("mmd", {"kernel": "gauss"}, "kernel must be legendre, rbf"),
        ("mmd", {"kernel": "heat"}, "missing a required argument: 'tau'"),
        ("mmd", {"kernel": "heat", "s": 1.0}, "no option 's'"),
        ("mmd", {"s": -1.0}, "s must be a finite number above 0, not -1.0"),
        ("mmd", {"s": "wide"}, "s must be"),
        ("mmd", {"kernel": ["rbf"]}, "kernel must be"),
        ("mmd", {"kernel": "distance", "p": 2}, "strictly between"),
        ("mmd", {"kernel": "polynomial", "coefficients": [0, -1]}, "not a positive definite kernel"),
        ("mmd", {"statistic": "W"}, "statistic must be V, U"),
        ("mmd", {"kernel": "bandlimited", "degree": 2.5}, "degree must be a whole number of at least 1, not 2.5"),
        ("vne", {"published_sim_coeff": 25}, "method 'vne' has no option 'published_sim_coeff'"),
        ("frossl", {"published_sim_coeff": 25}, "no option 'published_sim_coeff': it takes align_weight$"),
        ("zonal_mmd", {"weight": -1}, "weight must be a number from 0 to 1, not -1"),
        ("zonal_mmd", {"t": 0}, "t must be a finite number above 0"),
        ("zonal_kl", {"normaliser": "area"}, "normaliser must be published, uniform, or null"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(name, options, message):
    with pytest.raises(ValueError, match=message):
        registry.get(name).resolve(options, 64)


@pytest.mark.parametrize(
    ("name", "options", "dim", "message"),
    [
        ("zonal_kl", {}, 16, "normaliser of zonal_kl, .* is 1.33 at D = 16"),
        ("zonal_kl", {"t": 0.2}, 40, "too small for the logarithm"),
        ("zonal_mmd", {"t": 60}, 40, "is a constant but for rounding"),
        ("zonal_ksd", {"kernel": "bandlimited", "degree": 900}, 4096, "more harmonics"),
    ],
)
def test_what_makes_no_loss_at_a_dimension_is_refused_before_any_training(name, options, dim, message):
    with pytest.raises(ValueError, match=message):
        registry.get(name).resolve(options, dim)


@pytest.mark.parametrize("name", registry.names())
def test_every_option_has_a_check(name):
    method = registry.get(name)
    kernels = list(method.kernels) if "kernel" in method.defaults else [None]
    for kernel in kernels:
        for option in method.allowed({"kernel": kernel} if kernel else {}):
            with pytest.raises(ValueError, match=f"{option} must be"):
                check_option(name, option, float("nan"))


def test_a_dimension_below_two_is_refused():
    with pytest.raises(ValueError, match="embedding dimension must be a whole number of at least 2, not 1"):
        registry.get("vicreg").resolve({}, 1)


def test_importing_the_package_imports_no_torch():
    code = "import sys, methods; assert 'torch' not in sys.modules; assert 'sfrik' in methods.__all__"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    from methods import sfrik

    assert callable(sfrik)


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(ImportError, match="cannot import name 'byol'"):
        from methods import byol  # noqa: F401


def test_an_unknown_method_lists_what_there_is():
    with pytest.raises(ValueError, match="unknown method 'byol': there is sfrik_l1, sfrik_l2"):
        registry.get("byol")


def test_registering_twice_or_without_origin_is_refused():
    method = registry.get("auh")
    with pytest.raises(ValueError, match="already"):
        registry.register(method)
    bare = registry.Method("bare", "bare", "none", method.loss, {"scale": 1.0}, {})
    with pytest.raises(ValueError, match="scale"):
        registry.register(bare)
