"""What values a method's options may take."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from .contrastive import SMALLEST_TEMPERATURE
from .kernels import MAKERS
from .regularisers import AUH_LARGEST_SCALE, STATISTICS

Check = tuple[Callable[[Any], bool], str]  # whether a value will do, and what will


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _weights(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(_number(b) and b >= 0 for b in value)


_WEIGHT: Check = (lambda value: _number(value) and value >= 0, "a finite number, not negative")
_CHECKS: dict[str, Check] = {
    "align_weight": _WEIGHT,
    "published_sim_coeff": _WEIGHT,
    "reg_weight": _WEIGHT,
    "variance_weight": _WEIGHT,
    "covariance_weight": _WEIGHT,
    "off_diagonal_weight": _WEIGHT,
    "weights": (_weights, "a list b_1, b_2, … of finite numbers, none negative"),
    "scale": (
        lambda value: _number(value) and 0 < value <= AUH_LARGEST_SCALE,
        f"a number above 0 and at most {AUH_LARGEST_SCALE:g}",
    ),
    "temperature": (
        lambda value: _number(value) and value >= SMALLEST_TEMPERATURE,
        f"a number of at least {SMALLEST_TEMPERATURE}",
    ),
    "statistic": (lambda value: value in STATISTICS, " or ".join(STATISTICS)),
    "log": (lambda value: isinstance(value, bool), "true or false"),
    "kernel": (lambda value: value in MAKERS, ", ".join(MAKERS)),
}


def check_option(method: str, name: str, value: Any) -> None:
    """Raise ValueError, saying what is allowed, where a value will not do; kernels check their own parameters."""
    holds, allowed = _CHECKS.get(name, (lambda _: True, ""))
    if not holds(value):
        raise ValueError(f"method {method!r}: {name} must be {allowed}, not {value!r}")
