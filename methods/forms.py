"""Which form a loss is computed in, and the cost model that chooses: flop of value and gradient, two views of N x D.

| form | sphere kernels | VICReg | Barlow Twins |
|---|---|---|---|
| dual, one process | 2 · 3 N² D | 2 · 3.25 N² D | 6.5 N² D |
| dual, a rank of W | 2 · 4 N² D / W | 2 · 4 N² D / W | 8 N² D / W |
| primal, a rank of W | 2 · 4 N D² / W | 2 · 4 N D² / W | 6 N D² / W |

Both forms run at the machine's matrix-product rate, so flop is time; only ratios matter.
"""

from __future__ import annotations

from collections.abc import Mapping


def choose_form(form: str, costs: Mapping[str, float]) -> str:
    """The form to use: the one asked for, or for "auto" the cheapest. `costs` holds what the loss has, with its flop.

    Raises ValueError where the loss has no such form.
    """
    if form == "auto":
        return min(costs, key=lambda name: costs[name])
    if form not in costs:
        raise ValueError(f"this loss has no form {form!r}: it takes {', '.join(('auto', *costs))}")
    return form


def kernel_costs(count: int, dim: int, world: int, primal: bool) -> dict[str, float]:
    """Flop a view and rank of a kernel's pair sums, N = `count` rows in all; primal where the kernel has that form."""
    costs = {"dual": (3.0 if world == 1 else 4.0) * count**2 * dim / world}
    return {**costs, "primal": 4.0 * count * dim**2 / world} if primal else costs


def covariance_costs(count: int, dim: int, world: int) -> dict[str, float]:
    """Flop a view and rank of VICReg's covariance term."""
    dual = (3.25 if world == 1 else 4.0) * count**2 * dim / world
    return {"dual": dual, "primal": 4.0 * count * dim**2 / world}


def correlation_costs(count: int, dim: int, world: int) -> dict[str, float]:
    """Flop a pair of views and rank of Barlow Twins' cross-correlation."""
    dual = (6.5 if world == 1 else 8.0) * count**2 * dim / world
    return {"dual": dual, "primal": 6.0 * count * dim**2 / world}
