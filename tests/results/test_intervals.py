import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from results.intervals import half_width

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)


def _half(values: list[float]) -> float:
    return float(half_width(np.std(values, ddof=1), len(values)))


@given(VALUES)
def test_it_is_half_the_t_interval(values: list[float]) -> None:
    expected = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    assert _half(values) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(VALUES, st.floats(0.1, 10), st.floats(-100, 100))
def test_it_follows_the_scale_and_not_the_place(values: list[float], scale: float, shift: float) -> None:
    assert _half([scale * value + shift for value in values]) == pytest.approx(scale * _half(values), abs=1e-6)


def test_two_values_by_hand() -> None:
    # t_{1, 0.975} = tan(0.475 π) = 12.7062; the sample deviation of 1 and 3 is √2, so the half-width is 12.7062.
    assert _half([1.0, 3.0]) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-9)


def test_single_values_have_none() -> None:
    width = half_width(np.array([math.nan, 1.0]), np.array([1, 4]))
    assert math.isnan(width[0])
    assert width[1] == pytest.approx(stats.t.ppf(0.975, 3) / 2)
