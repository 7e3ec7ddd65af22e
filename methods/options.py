"""What values a method's options may take."""

import math
from collections.abc import Callable, Collection
from numbers import Real
from typing import Any

from .losses.contrastive import SMALLEST_TEMPERATURE
from .losses.regularisers import AUH_LARGEST_SCALE, STATISTICS
from .losses.slices import LARGEST_KNOT
from .losses.zonal import NORMALISERS

Check = tuple[Callable[[Any], bool], str]  # whether a value will do, and what will


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_number, value))


def _one_of(names: Collection[str]) -> Check:
    return (lambda value: isinstance(value, str) and value in names, ", ".join(names))


def _whole_from(least: int) -> Check:
    return (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least,
        f"a whole number of at least {least}",
    )


def _positive_to(most: float) -> Check:
    return lambda value: _number(value) and 0 < value <= most, f"a number above 0 and at most {most:g}"


_WEIGHT: Check = (lambda value: _number(value) and value >= 0, "a finite number, not negative")
_POSITIVE: Check = (lambda value: _number(value) and value > 0, "a finite number above 0")
# Of an option that only one loss has, and checks itself.
_PLAIN: Check = (
    lambda value: isinstance(value, bool | str) or _number(value),
    "a finite number, a text, true or false",
)
_CHECKS: dict[str, Check] = {
    **dict.fromkeys(("align_weight", "published_sim_coeff", "reg_weight", "constant"), _WEIGHT),
    **dict.fromkeys(("variance_weight", "covariance_weight", "off_diagonal_weight"), _WEIGHT),
    **dict.fromkeys(("centre_weight", "scale_weight", "shape_weight", "entropy_weight"), _WEIGHT),
    "weight": (lambda value: _number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "slices": _whole_from(1),
    "knots": _whole_from(2),
    "t_max": _positive_to(LARGEST_KNOT),
    "weights": (
        lambda value: _numbers(value) and min(value) >= 0,
        "a list b_1, b_2, … of finite numbers, none negative",
    ),
    "scale": _positive_to(AUH_LARGEST_SCALE),
    "temperature": (
        lambda value: _number(value) and value >= SMALLEST_TEMPERATURE,
        f"a number of at least {SMALLEST_TEMPERATURE}",
    ),
    "statistic": _one_of(STATISTICS),
    "log": (lambda value: isinstance(value, bool), "true or false"),
    "normaliser": (
        lambda value: value is None or (isinstance(value, str) and value in NORMALISERS),
        f"{', '.join(NORMALISERS)}, or null for the published one from D = 32 on",
    ),
    "t": _POSITIVE,
    "degree": _whole_from(1),
    "s": _POSITIVE,
    "tau": _POSITIVE,
    "p": (lambda value: _number(value) and 0 < value < 2, "a number strictly between 0 and 2"),
    "ceiling": (lambda value: value is None or _number(value), "a finite number, or null for the smallest"),
    "coefficients": (_numbers, "a list a_0, a_1, … of finite numbers"),
}


def check_option(method: str, name: str, value: Any) -> None:
    """Raise ValueError, saying what is allowed, where a value will not do."""
    holds, allowed = _CHECKS.get(name, _PLAIN)
    if not holds(value):
        raise ValueError(f"method {method!r}: {name} must be {allowed}, not {value!r}")
