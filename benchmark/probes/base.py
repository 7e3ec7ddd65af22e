"""What a probe is: options with a digest, and a way to measure a frozen network.

Each probe is one module of this folder, found by its being there: its options (keys of a suite's ``evaluation``), what
it needs of a network, its protocol, and its code. Nothing in it looks at a network's seed: every draw (few labels, the
order of images, augmented views) is keyed by what it is for, so that all networks are measured on the same draws, and
the same features give the same figures.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmark.data import DataSet, DataSpec
from benchmark.runtime.errors import UserError
from benchmark.runtime.members import import_all
from benchmark.runtime.spec import Precision, Spec, digest_of
from results.record import Metric, ProtocolValue

if TYPE_CHECKING:
    from benchmark.probes.subject import Subject

Split = Literal["test", "tune"]
Count = Annotated[int, Field(ge=1)]
NO_MORE = "the labelled images give no more"


# Names of metrics, each with what is known of its protocol before it is measured.
Figures = Sequence[tuple[str, Mapping[str, ProtocolValue]]]


@dataclass
class Found:
    """What a probe found: its figures, and what figures are drawn of (JSON)."""

    metrics: list[Metric] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


class Shape(NamedTuple):
    """Of the float32 features before a probe: images to learn from, to choose by and to measure, features, classes."""

    labelled: int
    tune: int
    measured: int
    features: int
    classes: int

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return 4 * (self.labelled + self.tune + self.measured) * self.features


class Probe(Spec):
    """One way to measure a frozen network. Its fields are its options, in every digest and record.

    ``version`` is raised whenever a change of the code changes the figures of unchanged options. ``needs`` is what a
    network must offer (:attr:`benchmark.networks.base.Network.offers`): a suite's networks that do not are left out.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    several_labels: ClassVar[bool] = False  # whether it is for images of several classes each, or of one
    # Options that records are older than: no part of a digest where they are as by default.
    later: ClassVar[frozenset[str]] = frozenset()

    def changed(self, options: Mapping[str, Any]) -> Self:
        """With these options, and others that follow from them."""
        return self.model_copy(update=dict(options))

    def canonical(self) -> dict[str, Any]:
        """What a digest covers."""
        options = self.model_dump(mode="json")
        return {name: options[name] for name in options if name not in self.later or self.is_asked(name)}

    def check(self, data: DataSet, split: Split) -> None:
        """Raise :class:`UserError` where the data cannot give it: cheap, so that it can be asked before training."""

    def most(self, labels_N: NDArray[np.int64]) -> dict[str, int]:
        """By option, the largest value that so many labelled images, or the smallest class of them, suffice for."""
        return {}

    def measurable(self, option: str, labels_N: NDArray[np.int64]) -> list[int]:
        """The values of an option that these labelled images suffice for, ascending.

        Warns of others that were asked for: the default is measured as far as it goes. Raises :class:`UserError` where
        none is left.
        """
        most, asked = self.most(labels_N)[option], getattr(self, option)
        left_out = [value for value in asked if value > most]
        if len(left_out) == len(asked):
            raise UserError(f"evaluation.{option}: is {list(asked)}, must be at most {most}: {NO_MORE}")
        if left_out and self.is_asked(option):
            warnings.warn(f"evaluation.{option}: {left_out} left out above {most}: {NO_MORE}", stacklevel=2)
        return sorted(set(asked) - set(left_out))

    def is_asked(self, option: str) -> bool:
        """Whether an option is not as it is where nobody says anything."""
        return bool(getattr(self, option) != type(self).model_fields[option].default)

    def figures(self) -> Figures:
        """Its metrics, each with what tells it from others of its name: known before anything is trained to be tuned.

        Where data decide which of them there are, all that there may be.
        """
        return []

    def planned_bytes(self, shape: Shape) -> int | None:
        """The most that it holds, features included, as `plan` tells; None where that is little more than these."""
        return None

    @abstractmethod
    def measure(self, subject: Subject) -> Found:
        """Measure, on all processes; what the main process returns counts.

        Raises :class:`UserError` where the data cannot give it, :class:`Interrupted` once somebody asked.
        """


P = TypeVar("P", bound=type[Probe])
_PROBES: dict[str, type[Probe]] = {}


def register(probe: P) -> P:
    """Add a probe under its name. Raises ``ValueError`` where the name is taken."""
    if probe.name in _PROBES:
        raise ValueError(f"a probe named {probe.name!r} is registered already")
    _PROBES[probe.name] = probe
    return probe


@cache
def probes() -> Mapping[str, type[Probe]]:
    """Every probe by its name: of every module in this folder."""
    import_all("benchmark.probes")
    return dict(sorted(_PROBES.items()))


class Measurement(Spec):
    """A probe, and what it reads: which data, which split, through a network in which precision.

    ``tested_on``: out of domain, another data set of the same classes, whose split is measured instead of that of
    ``data``, on which the probe learns.
    """

    probe: Probe
    data: DataSpec
    split: Split = "test"
    precision: Precision = "fp32"
    tested_on: DataSpec | None = None

    @property
    def reads(self) -> tuple[DataSpec, ...]:
        """The data sets that it reads."""
        return (self.data,) if self.tested_on is None else (self.data, self.tested_on)

    def settings(self) -> dict[str, Any]:
        """As a record holds them, on one level."""
        options = self.probe.model_dump(mode="json")
        place = {"split": self.split, "precision": self.precision, "data": self.data.model_dump(mode="json")}
        other = {} if self.tested_on is None else {"tested_on": self.tested_on.model_dump(mode="json")}
        return {"probe": self.probe.name, **options, **place, **other}

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> Measurement:
        """A measurement from a record's settings. Raises ``ValueError`` where this code knows no such probe."""
        options = dict(settings)
        name, data = options.pop("probe"), DataSpec.of_record(options.pop("data"))
        place = {key: options.pop(key) for key in ("split", "precision")}
        if other := options.pop("tested_on", None):
            place["tested_on"] = DataSpec.of_record(other)
        if name not in probes():
            raise ValueError(f"probe {name!r} is not known; there are {', '.join(probes())}")
        return cls(probe=probes()[name].of_record(options), data=data, **place)

    @property
    def digest(self) -> str:
        """Hex digest of the settings, with files of one's own by their content, and of the probe's version."""
        own = {**self.probe.canonical(), "version": self.probe.version, "data": self.data.canonical()}
        covered = {"probe": self.probe.name, "split": self.split, "precision": self.precision, **own}
        if self.tested_on is not None:
            covered["tested_on"] = self.tested_on.canonical()
        return digest_of(covered)

    @property
    def id(self) -> str:
        """The name of its record; the same on every network."""
        return f"{self.probe.name}-{self.digest[:10]}"
