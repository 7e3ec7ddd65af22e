import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from results.intervals import half_width, mean_interval

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)


@given(VALUES)
def test_interval_is_the_t_interval(values: list[float]) -> None:
    interval = mean_interval(values)
    sd = np.std(values, ddof=1)
    half = stats.t.ppf(0.975, len(values) - 1) * sd / math.sqrt(len(values))
    assert interval.n == len(values)
    assert interval.high - interval.mean == pytest.approx(half, rel=1e-9, abs=1e-9)
    assert interval.mean - interval.low == pytest.approx(half, rel=1e-9, abs=1e-9)


@given(VALUES, st.floats(0.1, 10), st.floats(-100, 100))
def test_interval_follows_shift_and_scale(values: list[float], scale: float, shift: float) -> None:
    plain, moved = mean_interval(values), mean_interval([scale * value + shift for value in values])
    assert moved.low == pytest.approx(scale * plain.low + shift, abs=1e-6)
    assert moved.high == pytest.approx(scale * plain.high + shift, abs=1e-6)


def test_interval_of_two_by_hand() -> None:
    # t_{1, 0.975} = tan(0.475 π) = 12.7062; the sample deviation of 1 and 3 is √2, so the half-width is 12.7062.
    assert mean_interval([1.0, 3.0]).high == pytest.approx(2 + math.tan(0.475 * math.pi), rel=1e-9)


def test_one_value_has_no_interval() -> None:
    interval = mean_interval([0.5])
    assert (interval.mean, interval.n) == (0.5, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_half_width_of_arrays_leaves_single_values_without() -> None:
    width = half_width(np.array([math.nan, 1.0]), np.array([1, 4]))
    assert math.isnan(width[0])
    assert width[1] == pytest.approx(stats.t.ppf(0.975, 3) / 2)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
