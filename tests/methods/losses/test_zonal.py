"""Zonal tests of uniformity: the published values, the identities between them, and what each kernel can bound."""

import json
import math
import warnings
from itertools import combinations, pairwise
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from methods import Pairing, mmd, registry, sfrik, zonal_kl, zonal_ksd, zonal_mmd
from methods.kernels.kernel import bandlimited, exponential, heat, induced, legendre, polynomial, rbf

FIXTURES = Path(__file__).parents[2] / "fixtures"


def stored(name):
    with np.load(FIXTURES / f"{name}_losses.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays["meta"]))


FRONTIER, FRONTIER_CASES = stored("frontier")
MULTICROP, MULTICROP_CASES = stored("multicrop")

# The beginning of a case's name -> loss(views, form)
LOSSES = {
    "mmd induced": lambda v, form: zonal_mmd(v, kernel="induced", weight=1, form=form),
    "mmd heat t=5/d": lambda v, form: zonal_mmd(v, weight=1, form=form),
    "mmd bandlimited L=2": lambda v, form: zonal_mmd(v, kernel="bandlimited", degree=2, weight=1, form=form),
    "ksd heat t=5/d": lambda v, form: zonal_ksd(v, weight=1, form=form),
    "ksd bandlimited L=2": lambda v, form: zonal_ksd(v, kernel="bandlimited", degree=2, weight=1, form=form),
    "kl heat t=2/d": lambda v, form: zonal_kl(v, weight=1, normaliser="published", form=form),
    "spherical objective: (1-0.05) inv + 0.05 ksd": lambda v, form: zonal_ksd(v, form=form),
}


def published_cases():
    for entry in FRONTIER_CASES:
        for beginning, loss in LOSSES.items():
            if entry["case"].startswith(beginning):
                for form in ("primal", "dual") if "bandlimited" in beginning else ("auto",):
                    yield pytest.param(entry, loss, form, id=f"{entry['case']} {entry['N']}x{entry['D']} {form}")


@pytest.mark.filterwarnings("ignore:the published normaliser")  # of D = 16
@pytest.mark.parametrize(("entry", "loss", "form"), published_cases())
def test_value_and_gradient_as_published(entry, loss, form):
    check_published(FRONTIER, entry, lambda views: loss(views, form))


@pytest.mark.parametrize("entry", [case for case in MULTICROP_CASES if case["case"].startswith("spherical")])
def test_large_and_small_views_as_published(entry):
    check_published(MULTICROP, entry, lambda views: zonal_ksd(views, pairing=Pairing.centre(2, 6)))


def check_published(arrays, entry, loss):
    views = [torch.tensor(arrays[f"view{v}_{entry['shape']}"], requires_grad=True) for v in range(entry["views"])]
    found = loss(views)
    found.value.backward()
    assert found.value.item() == pytest.approx(entry["loss"], abs=1e-9, rel=0)
    for v, view in enumerate(views):
        np.testing.assert_allclose(view.grad, arrays[f"grad{v}_{entry['k']}"], rtol=0, atol=1e-9)


def test_every_zonal_case_of_the_fixtures_is_compared():
    assert len(list(published_cases())) == 3 * (5 + 2 * 2)
    assert sum(case["case"].startswith("spherical") for case in MULTICROP_CASES) == 2


OPTIONS = [{}, {"kernel": "bandlimited", "degree": 3}, {"kernel": "induced"}, {"kernel": "rbf", "s": 1.5}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["zonal_mmd", "zonal_ksd", "zonal_kl"])
@pytest.mark.parametrize(("count", "dim"), [(12, 40), (40, 7)])
def test_every_kernel_is_its_textbook_form(name, options, count, dim, make_views, assert_is_the_textbook):
    if name == "zonal_kl":
        if options.get("kernel") == "bandlimited":
            pytest.skip("the divergence needs a positive kernel")
        options = {**options, "normaliser": "uniform"}
    assert_is_the_textbook(name, make_views(count, dim, 3), weight=0.4, **options)
    assert_is_the_textbook(name, make_views(count, dim, 4), weight=0.4, pairing=Pairing.swav(2, 2), **options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("loss", [zonal_mmd, zonal_ksd, zonal_kl])
@pytest.mark.parametrize("dim", [7, 40, 256])
def test_a_collapsed_batch_costs_one(loss, options, dim):
    if loss is zonal_kl:
        if options.get("kernel") == "bandlimited":
            return
        options = {**options, "normaliser": "uniform"}
    collapsed = torch.ones(8, dim, dtype=torch.float64)
    assert loss([collapsed] * 2, weight=1.0, **options).value.item() == pytest.approx(1)


@pytest.mark.parametrize("options", [{}, {"kernel": "induced"}, {"kernel": "rbf"}], ids=str)
@pytest.mark.parametrize("dim", [3, 7])
def test_uniform_points_cost_nothing(options, dim):
    z = torch.randn(1500, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options = {**options, "weight": 1.0}
    assert abs(zonal_kl([z, z], normaliser="uniform", **options).value) < 1e-2
    for loss in (zonal_mmd, zonal_ksd):  # a V-statistic: at most its diagonal, 1/N, in expectation
        assert 0 < loss([z, z], **options).value < 4 / len(z)


@pytest.mark.parametrize("dim", [7, 64])
@pytest.mark.parametrize(
    "make", [lambda d: heat(5 / d, d), lambda d: bandlimited(3, d), induced, lambda d: rbf(2.5, d)]
)
def test_ksd_is_the_mmd_of_the_kernel_with_coefficients_times_half_the_eigenvalues(
    make, dim, make_views, assert_same_derivative
):
    """FRONTIER, statement 1, the kernel built from its coefficients alone."""
    views, kernel, degrees = make_views(20, dim), make(dim), np.arange(61.0)
    halves = kernel.coefficients(60) * degrees * (degrees + dim - 2) / 2
    series = legendre((halves / halves.sum())[1:], dim)
    expected = mmd(views, kernel=series, align_weight=0.0).value
    assert_same_derivative(views, zonal_ksd(views, kernel=kernel, weight=1.0).value, expected, rtol=1e-8)


@given(st.integers(2, 5), st.integers(0, 100))
def test_pairwise_alignment_is_a_multiple_of_the_distance_to_the_centre(views, seed):
    """mean_{a<b} ‖z_a − z_b‖² = 2V/(V − 1) · mean_v ‖z_v − μ‖²: four times for two views."""
    z = torch.randn(views, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = list(z.requires_grad_())
    for loss in (zonal_mmd, zonal_ksd):
        centre = loss(z, weight=0.0).value
        pairs = loss(z, weight=0.0, pairing=Pairing.all_pairs()).value
        torch.testing.assert_close(pairs, 2 * views / (views - 1) * centre)


def test_two_views_pairwise_and_by_their_centre(make_views, assert_same_derivative):
    views = make_views(12, 40)
    for loss in (zonal_mmd, zonal_ksd, zonal_kl):
        test, centre = loss(views, weight=1.0).value, loss(views, weight=0.2).value
        pairs = loss(views, weight=0.2, pairing=Pairing.all_pairs()).value
        assert_same_derivative(views, pairs - 0.2 * test, 4 * (centre - 0.2 * test))


@pytest.mark.parametrize("dim", [256, 8192])
def test_at_large_d_the_bandlimited_kernel_is_sfriks_with_almost_all_weight_on_degree_two(dim, make_views):
    """FRONTIER, statement 3."""
    kernel = bandlimited(2, dim)
    shares = kernel.coefficients(2)[1:] / (kernel.value_at_one - kernel.constant)
    second = (dim + 2) * (dim - 1) / 2  # dim(2, D); dim(1, D) = D
    assert shares[1] == pytest.approx(second / (second + dim), rel=1e-9)
    assert shares[1] > 0.99
    views = make_views(20, dim)
    ours = zonal_mmd(views, kernel="bandlimited", weight=0.05, pairing=Pairing.all_pairs()).value
    theirs = sfrik(views, weights=shares.tolist(), align_weight=0.95, reg_weight=0.05).value
    torch.testing.assert_close(ours, theirs)


# --- FRONTIER, statement 4 (arXiv 2610.10299, corollary 1). InfoNCE's uniformity at temperature τ = 1/β is
# E_x log E_y e^{β c} ≤ log e_0 + MMD²_e/e_0, e the coefficients of e^{β c}, and MMD²_e ≤ C MMD²_φ for every law of
# points if and only if e_l ≤ C b_l at every degree l ≥ 1.


def exact_ratio(kernel_log, beta, dim, degree):
    """log e_l/b_l, with e_l from mpmath: far beyond the degrees at which double precision underflows."""
    half, order = mpmath.mpf(dim) / 2, degree + mpmath.mpf(dim) / 2
    harmonics = mpmath.mpf(2 * degree + dim - 2) / degree * mpmath.binomial(degree + dim - 3, degree - 1)
    leading = mpmath.log(harmonics) + mpmath.loggamma(half) - mpmath.loggamma(order)

    def exponential_log(rate):
        rate = mpmath.mpf(rate)
        return leading + degree * mpmath.log(rate / 2) + mpmath.log(mpmath.hyp0f1(order, rate**2 / 4))

    return float(exponential_log(beta) - kernel_log(degree, harmonics, exponential_log))


def gaussian_log(gamma):
    return lambda degree, harmonics, exponential_log: exponential_log(2 * gamma) - 2 * gamma


def heat_log(time, dim):
    return lambda degree, harmonics, _: mpmath.log(harmonics) - time * degree * (degree + dim - 2)


@pytest.mark.parametrize("dim", [16, 256])
@pytest.mark.parametrize("beta", [2.0, 10.0])
def test_a_gaussian_kernel_bounds_infonce_from_half_its_rate_on(beta, dim):
    degrees = (1, 2, 4, 8, 16, 64, 256, 1024)
    for gamma in (beta / 2, beta):
        ratios = [exact_ratio(gaussian_log(gamma), beta, dim, degree) for degree in degrees]
        assert all(later <= earlier + 1e-9 for earlier, later in pairwise(ratios))
    ratios = [exact_ratio(gaussian_log(0.45 * beta), beta, dim, degree) for degree in degrees]
    assert ratios[-1] > ratios[0] + 100  # (β/2γ)^l: without bound


@pytest.mark.parametrize("dim", [16, 256])
@pytest.mark.parametrize("t", [2.0, 5.0])
def test_heat_and_bandlimited_kernels_bound_no_infonce(t, dim):
    ratios = [exact_ratio(heat_log(t / dim, dim), 2.0, dim, degree) for degree in (256, 1024, 4096)]
    assert all(later > earlier + 100 for earlier, later in pairwise(ratios))
    assert exponential(0.5, dim).coefficients(3)[3] > 0 == bandlimited(2, dim).coefficients(3)[3]


def test_which_methods_of_the_suite_are_covered():
    """A kernel method at its defaults bounds InfoNCE down to the temperature 1/(2s) of its Gaussian, or not at all."""
    reaches = {
        name: 1 / (2 * resolved.get("s", resolved.get("scale")))
        for name in registry.names()
        for resolved in [registry.get(name).resolve({}, 256)]
        if resolved.get("kernel") == "rbf" or "scale" in resolved
    }
    assert reaches == {"mmd": 0.2, "auh": 0.2}
    # SimCLR's temperatures here are sharper: .1 and .15. SFRIK is band-limited, the zonal defaults are heat kernels.
    assert all(registry.get(name).defaults["temperature"] < 0.2 for name in ("simclr", "simclr_sfrik"))


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_the_bound_on_points(gamma):
    """E_x log E_y e^{β c} ≤ log e_0 + C MMD²_φ/e_0 with C the largest e_l/b_l, on points far from and near uniform."""
    dim, beta = 8, 2.0
    e, kernel = exponential(1 / beta, dim), rbf(gamma, dim)
    largest = (e.coefficients(40) / kernel.coefficients(40))[1:].max()
    for spread in (0.1, 1.0, 10.0):
        x = 1 + spread * torch.randn(50, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        c = F.normalize(x) @ F.normalize(x).T
        uniformity = e(c).mean(1).log().mean().item()
        bound = math.log(e.constant) + largest * (kernel(c).mean().item() - kernel.constant) / e.constant
        assert uniformity <= bound


def test_the_published_normaliser_below_its_range():
    views = [torch.randn(6, 19, dtype=torch.float64)] * 2
    with pytest.raises(ValueError, match=r"is -0\.12 at D = 19, where it makes no test: .* normaliser='uniform'"):
        zonal_kl(views)
    with pytest.warns(UserWarning, match="rewards collapse or has no scale below D = 32"):
        zonal_kl(views, normaliser="published")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zonal_kl(views, normaliser="uniform")
        zonal_kl([torch.randn(6, 32, dtype=torch.float64)] * 2)


@pytest.mark.parametrize(("dim", "log_area"), [(12, 2.8), (18, 0.4), (19, -0.1), (20, -0.7), (40, -15.8), (256, -344)])
def test_the_published_normaliser_is_the_area_of_the_sphere(dim, log_area):
    """Of two normalisers of one divergence: value − 1 scales by the ratio."""
    views = [torch.randn(6, dim, dtype=torch.float64)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        published, uniform = (zonal_kl(views, weight=1.0, normaliser=n).value - 1 for n in ("published", "uniform"))
    kernel = heat(2 / dim, dim).normalised()
    assert math.log(kernel.constant) * (uniform / published).item() == pytest.approx(log_area, abs=0.06, rel=0.002)


# --- Where φ falls further from collapse to uniform than any type's range: against series of 70 to 1300 digits.


class ExactHeat:
    """log φ and φ'/φ of the heat kernel at time 2/D, by its series in mpmath."""

    def __init__(self, dim):
        self.dim, self.bits = dim, 200 + dim // 2  # from φ(1) to φ(−1) it falls by 0.45 D bits, from b_0 by 0.28 D
        with mpmath.workprec(self.bits):
            time, self.weights = mpmath.mpf(2 / dim), [mpmath.mpf(1)]
            decay, fall = mpmath.exp(-time * (dim - 1)), mpmath.exp(-2 * time)
            while len(self.weights) < 9 or self.weights[-1] > mpmath.mpf(2) ** -(0.3 * dim + 80):
                degree = len(self.weights)
                ratio = mpmath.mpf((2 * degree + dim - 2) * (degree + dim - 3)) / ((2 * degree + dim - 4) * degree)
                ratio = dim if degree == 1 else ratio
                self.weights.append(self.weights[-1] * ratio * decay)
                decay *= fall
            self.log_at_one = mpmath.log(mpmath.fsum(self.weights))

    def log_value_and_slope(self, t):
        """log φ(t)/φ(1) and φ'(t)/φ(t)."""
        dim = self.dim
        with mpmath.workprec(self.bits):
            t = mpmath.mpf(t)
            before, now, slope_before, slope = mpmath.mpf(1), t, mpmath.mpf(0), mpmath.mpf(1)
            value, derivative = self.weights[0] + self.weights[1] * t, self.weights[1]
            for degree, weight in enumerate(self.weights[2:], start=1):
                rise, over = 2 * degree + dim - 2, degree + dim - 2
                before, now, slope_before, slope = (
                    now,
                    (rise * t * now - degree * before) / over,
                    slope,
                    (rise * (now + t * slope) - degree * slope_before) / over,
                )
                value += weight * now
                derivative += weight * slope
            return float(mpmath.log(value) - self.log_at_one), float(derivative / value)


@pytest.fixture(scope="module", params=[64, 256, 1024, 8192])
def exact(request):
    return ExactHeat(request.param)


def test_the_heat_kernels_logarithm_is_that_of_its_series(exact):
    t = [-0.999, -0.4, 0.01, 0.6, 0.999]
    value, slope = heat(2 / exact.dim, exact.dim).log_value_and_slope(torch.tensor(t, dtype=torch.float64))
    expected = [exact.log_value_and_slope(one) for one in t]
    rounding = 1e-13 * float(exact.log_at_one)
    assert value.tolist() == pytest.approx([log for log, _ in expected], rel=1e-11, abs=rounding)
    assert slope.tolist() == pytest.approx([slope for _, slope in expected], rel=1e-9)


@pytest.mark.parametrize("spread", [0.05, 1.0, 100.0], ids=["clustered", "between", "uniform"])
def test_the_divergence_is_exact_at_every_dimension(exact, spread):
    """Value and gradient at four points, as given in float32, from inner products and φ in high precision."""
    dim, count = exact.dim, 4
    generator = torch.Generator().manual_seed(0)
    x = (1 + spread * torch.randn(count, dim, generator=generator)).double().requires_grad_()
    z = F.normalize(x)
    c_NN = z @ z.T
    log_NN, slope_NN = torch.full_like(c_NN, -math.inf), torch.zeros_like(c_NN)
    for i, j in combinations(range(count), 2):
        found = torch.tensor(exact.log_value_and_slope(c_NN[i, j].item()), dtype=torch.float64)
        log_NN[i, j], slope_NN[i, j] = log_NN[j, i], slope_NN[j, i] = found
    value = (log_NN.logsumexp(1).mean() - math.log(count - 1)) / float(exact.log_at_one) + 1
    by_x = (log_NN.softmax(1) * slope_NN * c_NN).sum() / count / float(exact.log_at_one)
    (expected,) = torch.autograd.grad(by_x, x)
    for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, 1e-5 if dim < 8192 else 6e-5)):
        views = [x.detach().to(dtype).requires_grad_() for _ in range(2)]
        ours = zonal_kl(views, weight=1.0, normaliser="uniform").value
        got = sum(torch.autograd.grad(ours, views))
        assert ours.item() == pytest.approx(value.item(), rel=1e-6 if dtype == torch.float32 else 1e-11)
        assert (got - expected).norm() < rtol * expected.norm()


def test_a_collapsed_batch_and_antipodes_have_their_value_at_every_dimension(exact):
    point = torch.randn(1, exact.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_range = float(exact.log_at_one)  # b_0 = 1
    for batch, log in ((point.repeat(5, 1), 0.0), (torch.cat([point, -point]), exact.log_value_and_slope(-1)[0])):
        for dtype in (torch.float64, torch.float32):
            views = [batch.to(dtype).requires_grad_() for _ in range(2)]
            value = zonal_kl(views, weight=1.0, normaliser="uniform").value
            assert value.item() == pytest.approx(1 + log / log_range, rel=1e-6 if dtype == torch.float32 else 1e-10)
            gradients = torch.autograd.grad(value, views)
            # Both are where the divergence is stationary.
            assert all(gradient.norm() < 100 * torch.finfo(dtype).eps for gradient in gradients)


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dim", [1024, 8192])
def test_the_divergence_under_autocast(autocast, dim):
    x = 1 + torch.randn(2, 64, dim, generator=torch.Generator().manual_seed(0))
    exact = [view.double().requires_grad_() for view in x]
    expected = torch.autograd.grad(zonal_kl(exact).value, exact)
    views = [view.clone().requires_grad_() for view in x]
    with torch.autocast("cpu", dtype=autocast):
        got = torch.autograd.grad(zonal_kl(views).value, views)
    for one, other in zip(got, expected, strict=True):
        assert (one - other).norm() < 1e-2 * other.norm()


def test_the_divergences_textbook_form_reaches_large_dimensions(make_views):
    """Where φ is nothing beside φ(1): e^-1109 for uniform points."""
    views, method = make_views(8, 8192), registry.get("zonal_kl")
    value = method.textbook(views, **method.resolve({}, 8192))
    torch.testing.assert_close(value, method(views).value, rtol=1e-12, atol=0)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("options", [{}, {"kernel": "induced"}], ids=str)
def test_the_divergence_over_several_tiles(options, make_views, assert_is_the_textbook):
    assert_is_the_textbook("zonal_kl", make_views(64 + 6, 6), normaliser="uniform", **options)


@pytest.mark.parametrize("make", [lambda d: heat(5 / d, d), lambda d: heat(0.5 / d, d), lambda d: rbf(2.5, d)])
@pytest.mark.parametrize("dim", [3, 24])
def test_the_logarithm_of_a_kernel_is_that_of_its_value(make, dim):
    t = torch.linspace(0, 1, 50, dtype=torch.float64)
    kernel = make(dim)
    value, derivative = kernel.value_and_derivative(t)
    log, slope = kernel.log_value_and_slope(t)
    assert kernel.logarithm is not None
    torch.testing.assert_close(log, (value / kernel.value_at_one).log(), rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(slope, derivative / value, rtol=1e-8, atol=1e-11)
    assert kernel.log_range == pytest.approx(math.log(kernel.value_at_one / kernel.constant), rel=1e-12)


def test_a_kernel_that_falls_too_far_is_refused():
    """Of a heat kernel's sum at a short time less is left, between points that are not close, than it rounds to."""
    for dim, t in ((256, 0.3), (8, 0.1), (40, 1e-3)):
        with pytest.raises(ValueError, match=r"^tau = .* is too small for the logarithm of a heat kernel in dimension"):
            zonal_kl([torch.randn(6, dim)] * 2, t=t, normaliser="uniform")
    with pytest.raises(ValueError, match="too small for the logarithm"):  # at once, though it has 10^8 degrees
        zonal_kl([torch.randn(6, 40)] * 2, kernel=heat(1e-14, 40))
    views = [torch.randn(6, 256)] * 2
    with pytest.raises(ValueError, match="falls by e"):
        zonal_kl(views, kernel=legendre((1.0,), 256, constant=1e-70))
    assert zonal_kl(views, t=0.5).value.isfinite()


@pytest.mark.parametrize("loss", [zonal_mmd, zonal_ksd, zonal_kl])
@pytest.mark.parametrize("options", [{"t": 60.0}, {"t": 1e9}, {"kernel": polynomial((1.0,), 40)}], ids=str)
def test_a_kernel_that_is_constant_but_for_rounding_is_refused(loss, options, make_views):
    with pytest.raises(ValueError, match="this kernel is a constant but for rounding: take a narrower one"):
        loss(make_views(6, 40), **options)


@pytest.mark.parametrize(("dim", "options"), [(40, {"t": 20.0}), (8192, {"kernel": "induced"})], ids=str)
def test_the_discrepancy_of_a_kernel_that_hardly_varies_is_right_in_single_precision(dim, options, make_views):
    views = make_views(20, dim, dtype=torch.float32)
    ours = zonal_mmd(views, weight=1.0, **options).value
    exact = zonal_mmd([view.double() for view in views], weight=1.0, **options).value
    assert ours.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: zonal_mmd(v, kernel="gauss"), "unknown kernel 'gauss': there is heat, bandlimited, induced, rbf"),
        (lambda v: zonal_kl(v, kernel="bandlimited"), "unknown kernel 'bandlimited': there is heat, induced, rbf"),
        (lambda v: zonal_mmd(v, weight=1.5), r"weight of a test must lie in \[0, 1\], not 1.5"),
        (lambda v: zonal_kl(v, weight=-0.1), r"weight of a test must lie in \[0, 1\], not -0.1"),
        (lambda v: zonal_kl(v, normaliser="area"), "unknown normaliser 'area': there is published, uniform"),
        (lambda v: zonal_ksd(v, t=0.0), "must be positive"),
        (lambda v: zonal_ksd(v, kernel=rbf(1.0, 7)), "kernel is of dimension 7, the embeddings of 40"),
        (lambda v: zonal_kl(v, kernel=rbf(1.0, 7)), "kernel is of dimension 7, the embeddings of 40"),
        (
            lambda v: registry.get("zonal_kl").resolve({"kernel": "bandlimited"}, 40),
            "kernel must be heat, induced, rbf",
        ),
        (
            lambda v: registry.get("zonal_mmd").resolve({"degree": 3}, 40),
            "no option 'degree': it takes kernel, t, weight",
        ),
    ],
)
def test_what_makes_no_test_is_refused_in_a_sentence(call, message, make_views):
    with pytest.raises(ValueError, match=message):
        call(make_views(6, 40))


def test_a_kernels_own_options_are_those_that_are_written_down():
    resolve = registry.get("zonal_mmd").resolve
    assert resolve({}, 40) == {"kernel": "heat", "t": 5.0, "weight": 0.05}
    assert resolve({"kernel": "bandlimited"}, 40) == {"kernel": "bandlimited", "degree": 2, "weight": 0.05}
    assert resolve({"kernel": "induced"}, 40) == {"kernel": "induced", "weight": 0.05}
    assert resolve({"kernel": "rbf", "s": 1.0}, 40) == {"kernel": "rbf", "s": 1.0, "weight": 0.05}
