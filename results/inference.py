"""Means, intervals and tests over seeds and, where a probe drew label sets, over draws.

The model of a figure y of seed s on draw d, of one method or of the difference of two, is crossed, since every network
is measured on the same draws:

    y_sd = μ + a_s + b_d + e_sd,   a, b, e independent, normal, with mean 0.

It is that of readers and cases in Dorfman, Berbaum & Metz, Investigative Radiology 27, 1992. With one draw, or where
the draws were not kept, b and e are part of a: the mean over seeds with Student's t.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # scipy.stats says the same and takes a second longer to import

Floats = NDArray[np.float64]
Test = Literal["sign-flip", "paired t", "crossed t", ""]

LEVEL = 0.05
# 2^15 sums a test; with more pairs Student's t and the exact test hardly differ.
_MOST_FLIPPED = 16
_BISECTIONS = 50


class Mean(NamedTuple):
    """Means with half the widths of their 95 % intervals, and two-sided p of being 0; ``nan`` with one seed."""

    mean: Floats
    half_width: Floats
    p: Floats


class Paired(NamedTuple):
    """A mean paired difference with its 95 % interval, its p, alone and by Holm, and ``n``, the number of seeds."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    test: Test


def crossed_mean(y_SD: Floats) -> Mean:
    """The mean of μ over the last two axes, S seeds and D draws, both of them random samples.

    With the mean squares of a two-way layout, MS_a = D Σ_s (ȳ_s − ȳ)² / (S − 1), MS_b = S Σ_d (ȳ_d − ȳ)² / (D − 1) and
    MS_e of what is left, the variance of ȳ is estimated in two parts, and half-widths are added as they are,

        v_a = MS_a / (S D),   v_b = max(MS_b − MS_e, 0) / (S D),   h² = t²_{S − 1, 0.975} v_a + t²_{D − 1, 0.975} v_b

    (Howe, Journal of the American Statistical Association 69, 1974). Satterthwaite's degrees of freedom for v_a + v_b
    give shorter intervals that with two seeds miss μ up to twice as often as they say. p is the level at which
    the interval ends at 0. For D = 1 that is Student's t: ȳ ± t_{S − 1, 0.975} · sd / √S.
    """
    seeds, draws = y_SD.shape[-2:]
    mean = y_SD.mean(axis=(-2, -1))
    if seeds < 2:
        unknown = np.full_like(mean, np.nan)
        return Mean(mean, unknown, unknown)
    of_seeds, of_draws = y_SD.mean(axis=-1), y_SD.mean(axis=-2)
    v_a, v_b = of_seeds.var(axis=-1, ddof=1) / seeds, np.zeros_like(mean)
    if draws > 1:
        left = y_SD - of_seeds[..., :, None] - of_draws[..., None, :] + mean[..., None, None]
        ms_e = (left**2).sum(axis=(-2, -1)) / ((seeds - 1) * (draws - 1))
        v_b = np.maximum(of_draws.var(axis=-1, ddof=1) / draws - ms_e / (seeds * draws), 0)
    # What rounding leaves of equal values is no deviation.
    rounding = (1e-12 * np.abs(y_SD).max(axis=(-2, -1))) ** 2
    v_a, v_b = np.where(v_a > rounding, v_a, 0.0), np.where(v_b > rounding, v_b, 0.0)

    def half_width(level: Floats | float) -> Floats:
        t_a, t_b = stdtrit(seeds - 1, level / 2), stdtrit(max(draws - 1, 1), level / 2)  # below 0, and squared
        return np.asarray(np.sqrt(t_a**2 * v_a + t_b**2 * v_b))

    if draws == 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            return Mean(mean, half_width(LEVEL), 2 * stdtr(seeds - 1, -np.abs(mean) / np.sqrt(v_a)))
    low, high = np.zeros_like(mean), np.ones_like(mean)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        outside = half_width(middle) < np.abs(mean)  # the interval at this level leaves 0 out: p is below
        low, high = np.where(outside, low, middle), np.where(outside, middle, high)
    return Mean(mean, half_width(LEVEL), high)


def sign_flip(difference_S: Floats) -> Floats:
    """Two-sided p of the exact sign-flip test over the last axis, S independent differences symmetric about 0.

    p is the share of the 2^S ways to give the |differences| signs whose |sum| is at least that found (Fisher, The
    Design of Experiments, 1935, section 21); the smallest that there can be is 2^(1 − S).
    """
    count = difference_S.shape[-1]
    # A sum and its mirror image are equally far away: the last sign stays.
    signs = 1.0 - 2.0 * ((np.arange(2 ** (count - 1))[:, None] >> np.arange(count)) & 1)
    sums = np.abs(difference_S @ signs.T)
    # Sums that are equal but for the order of their terms are equal.
    rounding = 1e-9 * np.abs(difference_S).sum(axis=-1, keepdims=True)
    found = np.abs(difference_S.sum(axis=-1, keepdims=True))
    return np.asarray((sums >= found - rounding).mean(axis=-1))


def fewest_flipped(tests: int) -> int:
    """The fewest seeds with which the sign-flip test can reach the level after Holm's correction over ``tests``.

    The smallest corrected p that it may have to leave is 2^(1 − S) times the number of tests.
    """
    return 1 + math.ceil(math.log2(max(tests, 1) / LEVEL))


def holm(p: Floats) -> Floats:
    """p corrected over the last axis so that the family-wise error holds its level, ``nan`` being no test.

    The i-th smallest of m becomes max_{j ≤ i} min(1, (m − j + 1) p_j) (Holm, Scandinavian Journal of Statistics 6,
    1979).
    """
    order = np.argsort(p, axis=-1)  # nan last
    left = np.isfinite(p).sum(axis=-1, keepdims=True) - np.arange(p.shape[-1])
    steps = np.maximum.accumulate(np.take_along_axis(p, order, axis=-1) * left, axis=-1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(steps, 1.0), axis=-1)
    return corrected


def paired_tests(family: Sequence[Floats]) -> list[Paired]:
    """The tests of one family, each of paired differences (S, D), a row a seed and a column a draw.

    With draws, p is of the crossed model's t: flips over seeds would leave the draws fixed and test less than the
    interval says. Without, p is of the exact sign-flip test, or of the paired t where the seeds are too few for the
    other to reach the level after correction (:func:`fewest_flipped`), or too many to try all signs. Where all pairs
    differ by the same, t has no deviation to go by, and p is the sign-flip test's.
    """
    count = sum(len(y_SD) > 1 for y_SD in family)
    found: list[tuple[Mean, float, int, Test]] = []
    for y_SD, estimate in zip(family, _means(family), strict=True):
        seeds, draws = y_SD.shape
        p = float(estimate.p)
        test: Test = "" if seeds < 2 else "crossed t" if draws > 1 else "paired t"
        able = draws == 1 and seeds >= fewest_flipped(count)
        if 1 < seeds <= _MOST_FLIPPED and (able or estimate.half_width == 0):
            p, test = float(sign_flip(y_SD.mean(axis=1))), "sign-flip"
        found.append((estimate, p, seeds, test))
    corrected = holm(np.array([p for _, p, *_ in found]))
    return [
        Paired(float(m.mean), float(m.mean - m.half_width), float(m.mean + m.half_width), p, float(p_holm), n, test)
        for (m, p, n, test), p_holm in zip(found, corrected, strict=True)
    ]


def _means(family: Sequence[Floats]) -> list[Mean]:
    """:func:`crossed_mean` of each, in one call for all of one shape: a page of results has thousands."""
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, y_SD in enumerate(family):
        by_shape[y_SD.shape].append(place)
    found: dict[int, Mean] = {}
    for places in by_shape.values():
        means = crossed_mean(np.stack([family[place] for place in places]))
        found |= {place: Mean(*own) for place, own in zip(places, zip(*means, strict=True), strict=True)}
    return [found[place] for place in range(len(family))]
