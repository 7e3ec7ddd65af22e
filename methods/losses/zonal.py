"""Zonal tests of uniformity [S]: a kernel φ of inner products on the sphere, and three statistics of it.

    loss = (1 − λ) · alignment + λ · mean_v R(Z^v),   z = x/‖x‖,   φ scaled to φ(1) = 1

    MMD   R = (E φ − b_0)/(1 − b_0)                                              over all pairs, diagonal included
    KSD   R = E ψ/ψ(1),   ψ(c) = ½((c² − 1) φ''(c) + (D − 1) c φ'(c))            likewise
    KL    R = (E_x log E_{y≠x} φ − u)/(0 − u)                                    rows against all other rows

Each is 1 for a collapsed batch. ψ is a kernel of the same family, so that KSD is the MMD of φ's Stein transform. KL is
InfoNCE's denominator within a view; u is what uniform points should give: log b_0, or the published log |S^(D−1)|.

The alignment is the mean over views of the squared distance to the mean of all views (`Pairing.centre`), unless a
pairing says otherwise; with `Pairing.all_pairs()` it is the mean over pairs, for V views 2V/(V − 1) times that.

[S] Expanding SPHERE-JEPA, arXiv 2606.17603.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.pairs import log_row_sums
from ..kernels.kernel import (
    CONSTANT,
    LEAST_SPREAD,
    Makers,
    RotationInvariantKernel,
    bandlimited,
    heat,
    induced,
    kernel_parameters,
    make_kernel,
    rbf,
)
from ..kernels.legendre import log_harmonic_dimensions, recurrence
from ..pairing import Pairing
from .base import How, Loss, Shared, alignment_textbook, check_views
from .regularisers import mmd
from .sphere import alignment, check_dimension, sphere_loss

NORMALISERS = ("published", "uniform")
PUBLISHED_FROM = 32  # the dimension from which log |S^(D−1)| is well below 0: −7.2 there, +2.8 at 12
# How far φ may fall from collapse to uniform, where its logarithm is that of a sum, which rounds to e^−36 of φ(1).
LARGEST_LOG_RANGE = 23.0


def heat_over_dim(t: float, dim: int) -> RotationInvariantKernel:
    """The heat kernel at time t/D, scaled to φ(1) = 1."""
    return heat(t / dim, dim).normalised()


ZONAL_KERNELS: Makers = {"heat": heat_over_dim, "bandlimited": bandlimited, "induced": induced, "rbf": rbf}
POSITIVE_KERNELS: Makers = {name: maker for name, maker in ZONAL_KERNELS.items() if name != "bandlimited"}


def zonal_mmd_textbook(
    views: Sequence[Tensor],
    *,
    kernel: str = "heat",
    t: float = 5.0,
    degree: int = 2,
    s: float = 2.5,
    weight: float = 0.05,
    pairing: Pairing | None = None,
) -> Tensor:
    """(1 − λ) alignment + λ mean_v (E φ − b_0)/(1 − b_0), as above."""
    phi, constant = _phi_textbook(kernel, views[0].shape[1], t, degree, s)

    def test(c_NN: Tensor) -> Tensor:
        return (phi(c_NN).mean() - constant) / (1 - constant)

    return _objective_textbook(views, test, weight, pairing)


def zonal_ksd_textbook(
    views: Sequence[Tensor],
    *,
    kernel: str = "heat",
    t: float = 5.0,
    degree: int = 2,
    s: float = 2.5,
    weight: float = 0.05,
    pairing: Pairing | None = None,
) -> Tensor:
    """(1 − λ) alignment + λ mean_v E ψ/ψ(1), ψ(c) = ½((c² − 1) φ'' + (D − 1) c φ'), derivatives by autograd."""
    dim = views[0].shape[1]
    phi, _ = _phi_textbook(kernel, dim, t, degree, s)

    def psi(c: Tensor) -> Tensor:
        with torch.enable_grad():
            c = c if c.requires_grad else c.detach().requires_grad_()
            (slope,) = torch.autograd.grad(phi(c).sum(), c, create_graph=True)
            (curvature,) = torch.autograd.grad(slope.sum(), c, create_graph=True)
        return ((c**2 - 1) * curvature + (dim - 1) * c * slope) / 2

    return _objective_textbook(
        views, lambda c_NN: psi(c_NN).mean() / psi(torch.ones_like(c_NN[0, 0])).detach(), weight, pairing
    )


def zonal_kl_textbook(
    views: Sequence[Tensor],
    *,
    kernel: str = "heat",
    t: float = 2.0,
    s: float = 2.5,
    weight: float = 0.5,
    normaliser: str | None = None,
    pairing: Pairing | None = None,
) -> Tensor:
    """(1 − λ) alignment + λ mean_v (E_x log E_{y≠x} φ − u)/(0 − u), u = log |S^(D−1)| or log b_0."""
    count, dim = views[0].shape
    log_phi, log_constant = _log_phi_textbook(kernel, dim, t, s)
    uniform = _uniform_level(normaliser, dim, log_constant)

    def test(c_NN: Tensor) -> Tensor:
        own = torch.eye(count, dtype=torch.bool, device=c_NN.device)
        logs_N = log_phi(c_NN).masked_fill(own, -math.inf).logsumexp(1) - math.log(count - 1)
        return (logs_N.mean() - uniform) / -uniform

    return _objective_textbook(views, test, weight, pairing)


def _objective_textbook(
    views: Sequence[Tensor], test: Callable[[Tensor], Tensor], weight: float, pairing: Pairing | None
) -> Tensor:
    pairing, z = Pairing.or_centre(pairing, len(views)), [F.normalize(view) for view in views]
    tests = torch.stack([test(z[view] @ z[view].T) for view in pairing.regularised])
    return (1 - weight) * alignment_textbook(z, pairing) + weight * tests.mean()


def _phi_textbook(name: str, dim: int, t: float, degree: int, s: float) -> tuple[Callable[[Tensor], Tensor], float]:
    """φ with φ(1) = 1, and b_0."""
    if name == "rbf":
        return lambda c: (-2 * s * (1 - c)).exp(), rbf(s, dim).constant
    if name == "induced":
        from scipy.special import roots_gegenbauer  # half a second, which a job without this form does without

        nodes, quadrature = roots_gegenbauer(64, (dim - 2) / 2)

        def mean_over_slices(c: Tensor) -> Tensor:
            parts = zip((nodes**2).tolist(), (quadrature / quadrature.sum()).tolist(), strict=True)
            return torch.stack([share * (-(1 - c) * square).exp() for square, share in parts]).sum(0)

        return mean_over_slices, induced(dim).constant
    if name == "bandlimited":
        weights = [math.exp(log) for log in log_harmonic_dimensions(degree, dim)]
    else:
        degrees = torch.arange(2000, dtype=torch.float64)
        logs = torch.from_numpy(log_harmonic_dimensions(1999, dim)) - t / dim * degrees * (degrees + dim - 2)
        weights = torch.softmax(logs, 0).tolist()
        weights = weights[: 1 + max(index for index, weight in enumerate(weights) if weight > 1e-18)]
    shares = [weight / math.fsum(weights) for weight in weights]

    def series(c: Tensor) -> Tensor:
        before, now = torch.ones_like(c), c
        total = shares[0] * before
        for index, share in enumerate(shares[1:], start=1):
            total = total + share * now
            alpha, beta = recurrence(index, dim)
            before, now = now, alpha * c * now - beta * before
        return total

    return series, shares[0]


def _log_phi_textbook(name: str, dim: int, t: float, s: float) -> tuple[Callable[[Tensor], Tensor], float]:
    """log φ with φ(1) = 1, and log b_0.

    As heat falls by e^1109 at D = 8192, where its own series is rounding, that of its logarithm takes its place.
    """
    kernel = _kernel(name, dim, POSITIVE_KERNELS, t=t, s=s)
    if kernel.logarithm is None:
        phi, _ = _phi_textbook(name, dim, t, 2, s)
        return lambda c: phi(c).log(), -kernel.log_range
    first, second, *others = kernel.logarithm.chebyshev

    def series(c: Tensor) -> Tensor:
        before, now = torch.ones_like(c), c
        total = first + second * c
        for factor in others:
            before, now = now, 2 * c * now - before
            total = total + factor * now
        return total

    return series, -kernel.log_range


def zonal_mmd(
    views: Sequence[Tensor],
    *,
    kernel: str | RotationInvariantKernel = "heat",
    t: float = 5.0,
    degree: int = 2,
    s: float = 2.5,
    weight: float = 0.05,
    **shared: Unpack[Shared],
) -> Loss:
    """Alignment and the MMD to the uniform distribution, 1 at collapse: the equation at the head of this file.

    kernel: "heat" at time t/D, "bandlimited" to `degree`, "induced" by slicing, "rbf" with scale `s`, or a kernel.
    weight: λ in [0, 1]; 1 leaves the test alone. pairing: None for the centre of all views.
    Terms: `alignment`, `regulariser`. Forms and errors as for `mmd`; ValueError on an unknown kernel or weight.
    """
    check_views(views)
    chosen = _kernel(kernel, views[0].shape[1], ZONAL_KERNELS, t=t, degree=degree, s=s)
    return _test(views, chosen, weight, **shared)


def zonal_ksd(
    views: Sequence[Tensor],
    *,
    kernel: str | RotationInvariantKernel = "heat",
    t: float = 5.0,
    degree: int = 2,
    s: float = 2.5,
    weight: float = 0.05,
    **shared: Unpack[Shared],
) -> Loss:
    """Alignment and the kernel Stein discrepancy, 1 at collapse: the MMD of the kernel's Stein transform.

    Arguments, terms and errors as for `zonal_mmd`.
    """
    check_views(views)
    chosen = _kernel(kernel, views[0].shape[1], ZONAL_KERNELS, t=t, degree=degree, s=s)
    return _test(views, chosen.stein(), weight, **shared)


def _test(
    views: Sequence[Tensor],
    kernel: RotationInvariantKernel,
    weight: float,
    pairing: Pairing | None = None,
    **how: Unpack[How],
) -> Loss:
    pairing, kernel = Pairing.or_centre(pairing, len(views)), kernel.unit_mmd()
    return mmd(views, kernel=kernel, align_weight=1 - _check_weight(weight), reg_weight=weight, pairing=pairing, **how)


def zonal_kl(
    views: Sequence[Tensor],
    *,
    kernel: str | RotationInvariantKernel = "heat",
    t: float = 2.0,
    s: float = 2.5,
    weight: float = 0.5,
    normaliser: str | None = None,
    pairing: Pairing | None = None,
    **how: Unpack[How],
) -> Loss:
    """Alignment and the estimated divergence from uniform, row by row, 1 at collapse: the equation at this file's head.

    kernel: "heat", "induced", "rbf" as for `zonal_mmd`, or a kernel that is positive everywhere.
    normaliser: "published", u = log |S^(D−1)|; "uniform", u = log b_0, which is 0 for uniform points at every D; None:
    the published one from D = 32 on. The published one is 2.8 at D = 12, 0.4 at 18, −0.1 at 19, −16 at 40 and −344 at
    256: for D ≤ 18 it rewards collapse, near 19 it has no scale, and its weight falls as it grows with D. `weight` λ
    stays as given: at D = 256 the balance of .5 with the published one is that of about .08 with the other.
    The heat kernel's logarithm is fitted at its first use, for 0.1 s at D = 1024 and half a second at 8192 (t = 2). In
    float32 the gradient is then as right as the inner products are: to 1e-5 up to D = 1024, 4e-5 at 8192.
    Terms: `alignment`, `regulariser`. Raises ValueError below D = 32 without a normaliser, where a kernel without such
    a fit falls by more than e^23 from collapse to uniform, and of heat at t < 1 without one (from t = 0.5 on there is,
    at D = 4096 from 1 and at 8192 from 2); otherwise as `zonal_mmd`.
    """
    check_views(views)
    dim, pairing = views[0].shape[1], Pairing.or_centre(pairing, len(views))
    chosen = _kernel(kernel, dim, POSITIVE_KERNELS, t=t, s=s)
    if chosen.logarithm is None and chosen.log_range > LARGEST_LOG_RANGE:
        raise ValueError(
            f"zonal_kl: at D = {dim} this kernel falls by e^{chosen.log_range:.0f} from collapse to uniform, and "
            f"beyond e^{LARGEST_LOG_RANGE:.0f} its sum is not exact: take a wider kernel"
        )
    if chosen.log_range < LEAST_SPREAD:
        raise ValueError(f"zonal_kl: {CONSTANT}")
    uniform = _uniform_level(normaliser, dim, -chosen.log_range)
    _check_weight(weight)
    measure = partial(log_row_sums, kernel=chosen, views=set(pairing.regularised))

    def outer(delta_VVN: Tensor, logs_VN: Tensor) -> dict[str, Tensor]:
        rows_N = torch.stack([logs_VN[view] for view in pairing.regularised])
        test = (rows_N.mean() - math.log(delta_VVN.shape[2] - 1) - uniform) / -uniform
        return {"alignment": (1 - weight) * alignment(delta_VVN, pairing), "regulariser": weight * test}

    return sphere_loss(views, outer, pairing.weights, {"rowwise": measure}, **how)


def _kernel(
    kernel: str | RotationInvariantKernel, dim: int, makers: Makers, **parameters: float
) -> RotationInvariantKernel:
    """The kernel, or the one of that name with its own among the parameters."""
    if isinstance(kernel, RotationInvariantKernel):
        check_dimension(kernel, dim)
        return kernel
    own = kernel_parameters(kernel, makers) if kernel in makers else ()
    return make_kernel(kernel, dim, makers, **{name: parameters[name] for name in own})


def _check_weight(weight: float) -> float:
    if not 0 <= weight <= 1:
        raise ValueError(f"the weight of a test must lie in [0, 1], not {weight!r}")
    return weight


def _uniform_level(normaliser: str | None, dim: int, log_constant: float) -> float:
    """u: log b_0, or log |S^(D−1)| = log(2 π^(D/2)/Γ(D/2))."""
    if normaliser not in (None, *NORMALISERS):
        raise ValueError(f"unknown normaliser {normaliser!r}: there is {', '.join(NORMALISERS)}")
    if normaliser == "uniform":
        return log_constant
    log_area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
    if dim < PUBLISHED_FROM:
        told = f"the published normaliser of zonal_kl, log |S^(D-1)|, is {log_area:.2f} at D = {dim}"
        if normaliser is None:
            raise ValueError(f"{told}, where it makes no test: name it to have it, or take normaliser='uniform'")
        warnings.warn(f"{told}: the objective rewards collapse or has no scale below D = 32", stacklevel=3)
    return log_area
