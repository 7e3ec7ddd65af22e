"""The constants of the cost model (:mod:`methods.engine.forms`) on a device, from both forms of losses, in a minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

from benchmark.cost.losses import LossCall, draw_views, in_turns
from methods import registry
from methods.engine.forms import (
    Constants,
    calibrated,
    choose_form,
    correlation_costs,
    covariance_costs,
    kernel_costs,
)

# Losses of both forms, one of each row of the model's table; N and D where neither form is the cheaper one by far.
_COSTS = {
    "sfrik_l2": partial(kernel_costs, world=1, primal=True),
    "vicreg": partial(covariance_costs, world=1),
    "barlow_twins": partial(correlation_costs, world=1),
}
SHAPES = {"cpu": ((256, 256), (512, 512), (1024, 768)), "cuda": ((2048, 2048), (4096, 4096), (8192, 4096))}
_EIGEN_SIDES = {"cpu": (256, 512), "cuda": (1024, 2048)}
_PRODUCT_SIDE = {"cpu": 1024, "cuda": 8192}
_BUDGET = 2.0  # seconds of repeats for each; in a minute all are measured


@dataclass(frozen=True)
class Choice:
    """Seconds that a loss and its gradient took in either form, and ``entry`` by which the model says the same."""

    method: str
    batch_size: int
    embedding_dim: int
    dual: float
    primal: float
    chosen: str  # by the constants in force
    entry: float

    @property
    def slower_than_best(self) -> float:
        """The time of the form that the model chose over that of the faster one."""
        return float(getattr(self, self.chosen)) / min(self.dual, self.primal)


def measure(device: torch.device, shapes: Sequence[tuple[int, int]] = ()) -> tuple[list[Choice], Constants]:
    """Both forms of the losses, and what they say the constants are."""
    found = choices(device, shapes)
    return found, Constants(entry(found), eigen(device))


def choices(device: torch.device, shapes: Sequence[tuple[int, int]] = ()) -> list[Choice]:
    """Both forms of every loss of ``_COSTS`` in turns, float32, at each (N, D)."""
    found = []
    for method, costs in _COSTS.items():
        for count, dim in shapes or SHAPES[device.type]:
            views = draw_views(count, dim, torch.float32, device)
            options = registry.get(method).resolve({}, dim)
            calls = [
                LossCall(partial(registry.get(method).loss, form=form, **options), views) for form in ("dual", "primal")
            ]
            dual, primal = (seconds.median for seconds in in_turns(calls, device, _BUDGET))
            chosen = choose_form("auto", costs(count, dim))
            with calibrated(Constants(entry=0.0)):
                flop = costs(count, dim)
            # dual / primal = flop_dual (D + entry)/D / flop_primal
            entry = dim * (dual / primal * flop["primal"] / flop["dual"] - 1)
            found.append(Choice(method, count, dim, dual, primal, chosen, entry))
    return found


def entry(found: Sequence[Choice]) -> float:
    """By how much D counts as larger for what is done elementwise on N x N tiles: the median of what was found."""
    return max(0.0, median(choice.entry for choice in found))


def eigen(device: torch.device) -> float:
    """Flop, over the third power of the side, at the rate of a large product, for which `eigh`'s time stands."""
    side = _PRODUCT_SIDE[device.type]
    factor = torch.randn(side, side).to(device)
    product = partial(torch.mm, factor, factor, out=torch.empty_like(factor))
    sides = _EIGEN_SIDES[device.type]
    grams = [factor[:n] @ factor[:n].T / side for n in sides]
    *taken, of_product = in_turns([*(partial(torch.linalg.eigh, gram) for gram in grams), product], device, _BUDGET)
    rate = 2 * side**3 / of_product.median
    return median(seconds.median * rate / n**3 for seconds, n in zip(taken, sides, strict=True))
