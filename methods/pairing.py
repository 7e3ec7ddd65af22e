"""Which views of an image are aligned with which, and which are regularised: one value that every loss takes.

An alignment is a sum of *stars*, each the distances of some views (spokes) to the mean of some (the hub):

    alignment = Σ_stars weight · Σ_{v in spokes} ‖z_v − mean_{c in hub} z_c‖²  =  Σ_{a<b} w_ab ‖z_a − z_b‖²

as ‖z_v − mean_c z_c‖² = mean_c ‖z_v − z_c‖² − (1/H²) Σ_{c<c'} ‖z_c − z_c'‖² for a hub of H views. Losses that have
positives and no distances (InfoNCE, Barlow Twins) take the pairs of a hub's view with a spoke.

| | hub | spokes | weight | regularised |
|---|---|---|---|---|
| `all_pairs` | all V; of two the first | all V; the second | 2/(V − 1); 1 | all |
| `obow` [1] | the original | the crops | 1/crops | all, or the original |
| `swav` [1] | each large view in turn | all others | 1/(large (V − 1)) | the large ones, or all |
| `centre` [2] | the large ones | all V | 1/V | all |

[1] Zheng et al. 2023 (arXiv 2208.00789), published code: SFRIK on the crops of OBoW and of SwAV.
[2] LeJEPA (arXiv 2511.08544) and SPHERE-JEPA (arXiv 2605.26900).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import combinations
from typing import TypeVar

Pair = tuple[int, int]  # of views, the smaller index first
Key = TypeVar("Key")


@dataclass(frozen=True)
class Star:
    """weight · Σ_{v in spokes} ‖z_v − mean_{c in hub} z_c‖²; a view may be both."""

    hub: tuple[int, ...]
    spokes: tuple[int, ...]
    weight: Fraction  # exact, so that equal weights are equal and what cancels is nothing


@dataclass(frozen=True)
class Pairing:
    """Views 0..V − 1 of an image: the stars of their alignment, and the views that are regularised.

    Make one with `all_pairs` (what `pairing=None` means), `obow`, `swav` or `centre`, or of stars of one's own.
    Raises ValueError on a set that is empty, repeats a view or names one that there is not, or a weight not above 0.
    """

    views: int | None  # V; None: any, as `all_pairs` takes them
    stars: tuple[Star, ...]
    regularised: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.views is None:
            return
        _check(self.views >= 2, f"a pairing needs at least 2 views, not {self.views}")
        _check(bool(self.stars), "a pairing needs at least one star to align views by")
        for star in self.stars:
            self._check_set("the hub of a star", star.hub)
            self._check_set("the spokes of a star", star.spokes)
            _check(star.weight > 0, f"the weight of a star must be above 0, not {star.weight}")
            alone = len(star.hub) == 1 and star.hub == star.spokes
            _check(not alone, f"a star must align different views, not view {star.hub[0]} with itself")
        self._check_set("the set of regularised views", self.regularised)

    def _check_set(self, what: str, indices: Collection[int]) -> None:
        valid = 0 < len(indices) == len(set(indices)) and all(0 <= index < (self.views or 0) for index in indices)
        _check(valid, f"{what} must hold one or more different views of 0..{(self.views or 0) - 1}, not {indices}")

    @staticmethod
    def all_pairs() -> Pairing:
        """For any V ≥ 2: the mean of ‖z_a − z_b‖² over pairs of views, every view regularised."""
        return Pairing(None, (), ())

    @staticmethod
    def obow(crops: int = 7, regularise: str = "all") -> Pairing:
        """View 0 is the original: the mean over crops of the squared distance to it.

        regularise: "all" views, as published, or the "original".
        """
        _check_count("crops", crops, least=1)
        views = tuple(range(crops + 1))
        star = Star((0,), views[1:], Fraction(1, crops))
        return Pairing(len(views), (star,), _choose(regularise, {"all": views, "original": (0,)}))

    @staticmethod
    def swav(large: int = 2, small: int = 6, regularise: str = "large") -> Pairing:
        """The large views come first: for each the mean squared distance to all other views, and the mean of those.

        regularise: the "large" views, as published, or "all".
        """
        _check_sizes(large, small)
        views = tuple(range(large + small))
        weight = Fraction(1, large * (len(views) - 1))
        stars = tuple(Star((g,), tuple(v for v in views if v != g), weight) for g in range(large))
        return Pairing(len(views), stars, _choose(regularise, {"large": views[:large], "all": views}))

    @staticmethod
    def centre(large: int = 2, small: int = 6) -> Pairing:
        """The large views come first: the mean over all views of the squared distance to the mean of the large ones.

        For two large views alone that is a quarter of their squared distance.
        """
        _check_sizes(large, small)
        views = tuple(range(large + small))
        return Pairing(len(views), (Star(views[:large], views, Fraction(1, len(views))),), views)

    @staticmethod
    def of(pairing: Pairing | None, views: int) -> Pairing:
        """The pairing of so many views; None stands for all pairs. Raises ValueError where it is of another number."""
        if pairing is not None and not isinstance(pairing, Pairing):
            raise ValueError(f"a pairing is a Pairing, as of Pairing.centre(), not {pairing!r}")
        if pairing is None or pairing.views is None:
            return _all_pairs(views)
        _check(pairing.views == views, f"the pairing is of {pairing.views} views, but there are {views}")
        return pairing

    @staticmethod
    def or_centre(pairing: Pairing | None, views: int) -> Pairing:
        """As `of`, but None stands for the centre of all views: the published invariance of tests of a distribution."""
        return Pairing.centre(views, 0) if pairing is None else Pairing.of(pairing, views)

    @cached_property
    def weights(self) -> Mapping[Pair, float]:
        """w_ab ≠ 0 of every pair a < b: alignment = Σ w_ab ‖z_a − z_b‖². Some may be negative."""
        total: defaultdict[Pair, Fraction] = defaultdict(Fraction)
        for star in self.stars:
            share = star.weight / len(star.hub)
            for pair in _spoke_pairs(star):
                total[pair] += share
            for pair in combinations(sorted(star.hub), 2):
                total[pair] -= share * len(star.spokes) / len(star.hub)
        return {pair: float(total[pair]) for pair in sorted(total) if total[pair]}

    @cached_property
    def aligned(self) -> Mapping[Pair, float]:
        """The pairs a < b of a hub's view with a spoke, each with its weight above 0; they sum to 1."""
        total: defaultdict[Pair, Fraction] = defaultdict(Fraction)
        for star in self.stars:
            for pair in _spoke_pairs(star):
                total[pair] += star.weight / len(star.hub)
        whole = sum(total.values())
        return {pair: float(total[pair] / whole) for pair in sorted(total)}

    @cached_property
    def taking_part(self) -> tuple[int, ...]:
        """The views that are aligned or regularised."""
        return tuple(sorted({*self.regularised, *(view for bundle in self.bundles for view in bundle)}))

    @cached_property
    def bundles(self) -> Mapping[tuple[int, ...], float]:
        """The sets of views that a star brings together, hub and spokes, by weight; the weights sum to 1."""
        total: defaultdict[tuple[int, ...], Fraction] = defaultdict(Fraction)
        for star in self.stars:
            total[tuple(sorted({*star.hub, *star.spokes}))] += star.weight
        whole = sum(total.values())
        return {views: float(total[views] / whole) for views in sorted(total)}

    @cached_property
    def contrasted(self) -> tuple[Pair, ...]:
        """The pairs a < b of which one view at least is regularised."""
        assert self.views is not None
        pairs = combinations(range(self.views), 2)
        return tuple(pair for pair in pairs if not set(pair).isdisjoint(self.regularised))


def common_weight(weights: Mapping[Key, float]) -> tuple[float, dict[Key, float]]:
    """The commonest of some weights, and by how much each of the others differs from it.

    Σ_p w_p x_p = common · Σ_p x_p + Σ_others (w_p − common) x_p: a sum over all, and a few terms, with no weights to be
    brought to a device.
    """
    common = _commonest(tuple(weights.values()))
    return common, {key: weight - common for key, weight in weights.items() if weight != common}


@lru_cache(maxsize=64)
def _commonest(weights: tuple[float, ...]) -> float:
    return Counter(weights).most_common(1)[0][0]


@lru_cache(maxsize=16)
def _all_pairs(views: int) -> Pairing:
    _check(views >= 2, f"a pairing needs at least 2 views, not {views}")
    every = tuple(range(views))
    if views == 2:  # the same alignment, in fewer steps
        return Pairing(views, (Star((0,), (1,), Fraction(1)),), every)
    return Pairing(views, (Star(every, every, Fraction(2, views - 1)),), every)


def _spoke_pairs(star: Star) -> list[Pair]:
    """A hub's view with a spoke, twice where both are both."""
    return [(min(c, v), max(c, v)) for c in star.hub for v in star.spokes if c != v]


def _choose(regularise: str, sets: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    _check(regularise in sets, f"regularise must be {' or '.join(sets)}, not {regularise!r}")
    return sets[regularise]


def _check_sizes(large: int, small: int) -> None:
    _check_count("large", large, least=1)
    _check_count("small", small, least=0)
    _check(large + small >= 2, f"a pairing needs at least 2 views, not {large + small}")


def _check_count(name: str, value: int, least: int) -> None:
    valid = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _check(valid, f"{name} must be a whole number of at least {least}, not {value!r}")


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
