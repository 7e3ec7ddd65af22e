"""Intervals cover, p is uniform under the null, and Holm holds the family-wise level: on simulated figures."""

import math

import numpy as np
import pytest
from scipy import stats

from results.inference import crossed_mean, fewest_flipped, holm, paired_tests, sign_flip

SIMULATIONS = 4000


def _figures(seeds: int, draws: int, sds: tuple[float, float, float], key: int = 0) -> np.ndarray:
    """Figures (R, S, D) of the model with mean 0 and these deviations of seeds, of draws and of what is left."""
    noise = np.random.default_rng(key)
    shapes = (seeds, 1), (1, draws), (seeds, draws)
    parts = [sd * noise.normal(size=(SIMULATIONS, *shape)) for sd, shape in zip(sds, shapes, strict=True)]
    return np.asarray(sum(parts))


def _error(rate: float) -> float:
    """Three and a half binomial standard errors: one test in two thousand would fail of itself."""
    return 3.5 * math.sqrt(rate * (1 - rate) / SIMULATIONS)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("sds", [(1, 0, 0.5), (0, 1, 0.5), (1, 1, 0.5), (0.3, 1, 1), (1, 3, 1), (0, 0, 1)])
def test_the_crossed_interval_covers_at_least_as_often_as_it_says(seeds: int, sds: tuple[float, float, float]) -> None:
    found = crossed_mean(_figures(seeds, 10, sds))
    covered = float((np.abs(found.mean) <= found.half_width).mean())
    # With few seeds it errs on the side of caution: t of two seeds is added for a variance that may be small.
    assert 0.95 - _error(0.95) <= covered <= 0.995
    np.testing.assert_array_equal(found.p > 0.05, np.abs(found.mean) < found.half_width)


@pytest.mark.parametrize("sds", [(1, 0, 0.1), (0, 1, 0.1)])
def test_the_crossed_interval_covers_exactly_where_one_effect_is_all(sds: tuple[float, float, float]) -> None:
    found = crossed_mean(_figures(10, 10, sds))
    assert float((np.abs(found.mean) <= found.half_width).mean()) == pytest.approx(0.95, abs=_error(0.95))


def test_an_interval_that_takes_draws_as_fixed_does_not_cover() -> None:
    found = crossed_mean(_figures(5, 10, (0.3, 1, 1)).mean(axis=2, keepdims=True))
    assert float((np.abs(found.mean) <= found.half_width).mean()) < 0.85


def test_without_draws_it_is_students_t() -> None:
    values = _figures(5, 1, (1, 0, 0))
    found, expected = crossed_mean(values), stats.ttest_1samp(values[..., 0], 0, axis=1)
    np.testing.assert_allclose(found.p, expected.pvalue)
    np.testing.assert_allclose(found.mean + found.half_width, expected.confidence_interval().high)
    for level in (0.01, 0.05, 0.2, 0.5):
        assert float((found.p <= level).mean()) == pytest.approx(level, abs=_error(level))
    covered = float((np.abs(found.mean) <= found.half_width).mean())
    assert covered == pytest.approx(0.95, abs=_error(0.95))


def test_the_sign_flip_test_is_exact_whatever_the_distribution() -> None:
    values = np.random.default_rng(0).standard_t(1.5, size=(SIMULATIONS, 8)) ** 3
    p = sign_flip(values)
    # p is a multiple of 2^(1 - S), and each of the multiples is as likely.
    for level in (4 / 128, 16 / 128, 64 / 128):
        assert float((p <= level).mean()) == pytest.approx(level, abs=_error(level))
    expected = [stats.permutation_test((row,), np.sum, permutation_type="samples").pvalue for row in values[:3]]
    np.testing.assert_allclose(p[:3], expected)


def test_the_sign_flip_test_counts_ties() -> None:
    assert sign_flip(np.array([1.0, 1.0, 1.0])) == 0.25
    assert sign_flip(np.array([0.1, 0.2, -0.3])) == 1.0
    assert sign_flip(np.zeros(4)) == 1.0


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, math.nan, 0.04, 0.03])), [0.03, math.nan, 0.06, 0.06])


@pytest.mark.parametrize("effects", [np.zeros(6), np.array([0, 0, 0, 2, 3, 9])])
def test_holm_holds_the_family_wise_level(effects: np.ndarray) -> None:
    # Differences to one method depend on each other: its figures are in all of them.
    noise = np.random.default_rng(0)
    base, own = noise.normal(size=(SIMULATIONS, 1, 5)), noise.normal(size=(SIMULATIONS, 6, 5))
    p = holm(crossed_mean((own + effects[:, None] - base)[..., None]).p)
    wrong = (p[:, effects == 0] <= 0.05).any(axis=1).mean()
    assert wrong <= 0.05 + _error(0.05)


@pytest.mark.parametrize("behind", [0, 2, 4])
def test_the_best_method_keeps_its_mark(behind: int) -> None:
    # The first of six is best, with others as good as it and some far behind; all are compared with what looks best.
    noise = np.random.default_rng(1)
    values = noise.normal(size=(SIMULATIONS, 6, 5)) - np.where(np.arange(6) < 6 - behind, 0, 20)[:, None]
    top = values.mean(axis=2).argmax(axis=1)
    differences = values - np.take_along_axis(values, top[:, None, None], axis=1)
    p = crossed_mean(differences[..., None]).p
    p[np.arange(SIMULATIONS), top] = math.nan
    assert float((holm(p)[:, 0] <= 0.05).mean()) <= 0.05 + _error(0.05)


def test_which_test_depends_on_how_many_seeds_and_tests_there_are() -> None:
    noise = np.random.default_rng(0)
    assert (fewest_flipped(1), fewest_flipped(15)) == (6, 10)
    for seeds, count, test in ((5, 1, "paired t"), (6, 1, "sign-flip"), (9, 15, "paired t"), (10, 15, "sign-flip")):
        found = paired_tests([noise.normal(size=(seeds, 1)) for _ in range(count)])
        assert {pair.test for pair in found} == {test}
    (crossed,) = paired_tests([noise.normal(size=(10, 4))])
    assert crossed.test == "crossed t"


def test_one_seed_tells_nothing_and_equal_differences_no_more_than_their_signs() -> None:
    one, same = paired_tests([np.array([[0.2]]), np.full((2, 1), 0.2)])
    assert np.isnan([one.p, one.p_holm, one.low, one.high]).all()
    assert one.test == ""
    assert (same.p, same.p_holm, same.low, same.high, same.test) == (0.5, 0.5, 0.2, 0.2, "sign-flip")
    (draws,) = paired_tests([np.full((2, 10), 0.2)])
    assert (draws.p, draws.test) == (0.5, "sign-flip")
