"""What tells the tests of one family apart: how their kernels weigh degrees, and what random slices add to their limit.

Both are computed, not measured in training: the first to rounding, the second from draws by key, but for its times.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmark.cost.losses import LossCall, draw_views, in_turns
from benchmark.runtime.seeds import key
from methods import susreg, zonal_mmd
from methods.kernels import kernel as kernels
from methods.losses.regularisers import SFRIK_WEIGHTS
from methods.losses.slices import knots_and_weights, uniform_target
from methods.losses.zonal import heat_over_dim

DEGREES = {"1": (1, 1), "2": (2, 2), "3": (3, 3), "4": (4, 4), "5 to 8": (5, 8), "9 to 64": (9, 64)}
DIMENSIONS = (256, 8192)  # the published ones of the zonal tests and of SFRIK
SLICES, DRAWS = (16, 64, 256, 1024, 4096), 16
COUNT = DIM = 256  # of the embeddings that are sliced: as published


def degree_weights() -> Iterator[dict[str, Any]]:
    """b_l/(φ(1) − b_0) of every kernel of the family, summed over some degrees: a row a kernel and D."""
    for dim in DIMENSIONS:
        heat, bandlimited = heat_over_dim(5.0, dim), kernels.bandlimited(2, dim)
        family = {
            "SFRIK, L = 2": kernels.legendre(SFRIK_WEIGHTS[:2], dim),
            "SFRIK, L = 3": kernels.legendre(SFRIK_WEIGHTS, dim),
            "bandlimited, L = 2": bandlimited,
            "bandlimited, L = 2, Stein": bandlimited.stein(),
            "heat, t = 5/D": heat,
            "heat, t = 5/D, Stein": heat.stein(),
            "heat, t = 2/D": heat_over_dim(2.0, dim),
            "induced by slices": kernels.induced(dim),
            "RBF, s = 2.5 (uniformity)": kernels.rbf(2.5, dim),
            "RBF, s = 5 (InfoNCE, τ = 0.1)": kernels.rbf(5.0, dim),
            "quadratic (spectral)": kernels.quadratic(dim),
        }
        for name, kernel in family.items():
            shares = kernel.coefficients(64) / (kernel.value_at_one - kernel.constant)
            parts = {label: float(shares[first : last + 1].sum()) for label, (first, last) in DEGREES.items()}
            beyond = max(0.0, 1 - sum(parts.values()))
            yield {"kernel": name, "embedding_dim": dim, **parts, "above 64": beyond}


def slices_beside_their_limit() -> list[dict[str, Any]]:
    """SUSReg's test by its number of directions: errors, and milliseconds of loss and gradient.

    The last row has the time of the exact test, the MMD of the induced kernel, whose sum over pairs is no estimate.
    """
    device = torch.device("cpu")
    views = draw_views(COUNT, DIM, torch.float32, device)
    sliced = [LossCall(partial(susreg, slices=count), views) for count in SLICES]
    *taken, of_exact = in_turns([*sliced, LossCall(partial(zonal_mmd, kernel="induced"), views)], device)
    times = {count: 1e3 * seconds.median for count, seconds in zip(SLICES, taken, strict=True)}
    rows = [{"slices": count, **errors, "milliseconds": times[count]} for count, errors in errors_of(*SLICES).items()]
    return [*rows, {"slices": None, "milliseconds": 1e3 * of_exact.median}]


def errors_of(*counts: int) -> dict[int, dict[str, float]]:
    """Relative errors of value and gradient against their mean over directions, root mean squares over draws."""
    view = draw_views(COUNT, DIM, torch.float64, torch.device("cpu"))[0].detach().requires_grad_()
    exact = expectation(view)
    (slope,) = torch.autograd.grad(exact, view)
    found = {}
    for count in counts:
        squares = torch.zeros(2, dtype=torch.float64)
        for draw in range(DRAWS):
            value = susreg((view, view), slices=count, weight=1.0, seed=key("slices", count, draw)).value
            (gradient,) = torch.autograd.grad(value, view)
            squares[0] += (value.detach() / exact.detach() - 1).square() / DRAWS
            squares[1] += (gradient - slope).square().sum() / slope.square().sum() / DRAWS
        value_error, gradient_error = squares.sqrt().tolist()
        found[count] = {"value_error": value_error, "gradient_error": gradient_error}
    return found


def expectation(x_ND: Tensor) -> Tensor:
    """SUSReg's test in the mean over directions: N Σ_k w_k [mean_ij φ(t_k ‖z_i − z_j‖) − φ(t_k)²], z = x/‖x‖.

    φ(t) = ₀F₁(; D/2; −t²/4) is the characteristic function of a coordinate of the sphere's uniform distribution.
    """
    z_ND, (count, dim) = torch.nn.functional.normalize(x_ND), x_ND.shape
    square_NN = (2 - 2 * z_ND @ z_ND.T).clamp_min(0)
    t_K, w_K = knots_and_weights(17, 3.0, x_ND)
    by_knot = zip(t_K, w_K, uniform_target(t_K, dim), strict=True)
    return count * torch.stack([w * (_of_square(t**2 * square_NN, dim).mean() - phi**2) for t, w, phi in by_knot]).sum()


def _of_square(square: Tensor, dim: int) -> Tensor:
    """₀F₁(; D/2; −t²/4) of t²: `uniform_target`, which takes t, has no slope at 0; 30 terms do where t² ≤ 36."""
    value = torch.ones_like(square)
    for j in range(30, 0, -1):
        value = 1 - square / 4 * value / (j * (dim / 2 + j - 1))
    return value
