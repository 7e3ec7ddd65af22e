"""What a tracker is: a store of its own that takes the lines of a network's ``metrics.jsonl``, each step once.

Each tracker is one module of this folder, found by its being there, and named as the package that it needs, which is
imported where it is used. None waits for a network: stores lie in the folder of the runs, and what uploads or shows
them is the service's own command.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from benchmark.runtime.errors import UserError
from benchmark.runtime.members import import_all


class Line(NamedTuple):
    """A line of the log: every other number of it by its path, ``terms/alignment``."""

    step: int
    numbers: dict[str, float]

    @classmethod
    def of(cls, logged: Mapping[str, Any]) -> "Line":
        values = flattened(logged, "/")
        numbers = {path: one for path, one in values if isinstance(one, int | float) and not isinstance(one, bool)}
        return cls(int(numbers.pop("step")), numbers)


def flattened(settings: Mapping[str, Any], separator: str, section: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by their paths."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flattened(value, separator, f"{section}{key}{separator}")
        else:
            yield f"{section}{key}", value


@dataclass(frozen=True)
class Curve:
    """Whose curve it is: the network's id, its settings, resolved, and its folder within that of the runs."""

    id: str
    settings: Mapping[str, Any]
    folder: Path

    @property
    def project(self) -> str:
        """What trackers call the runs of one folder."""
        return self.folder.resolve().parent.name


class Tracker(ABC):
    """A store that is told one network's curve. All that it raises is a warning to the training."""

    name: ClassVar[str]

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    @abstractmethod
    def open(self) -> int:
        """Go on with what the store holds of the curve: its last step, 0 where it holds none.

        What an earlier process was told and had not written when it was killed is not held. The settings are told
        where nothing is.
        """

    @abstractmethod
    def tell(self, lines: Sequence[Line]) -> None:
        """Add lines, whose steps ascend and are beyond all that it holds."""

    @abstractmethod
    def close(self) -> None:
        """Write what is not written yet: no more will come."""


T = TypeVar("T", bound=type[Tracker])
_TRACKERS: dict[str, type[Tracker]] = {}


def register(tracker: T) -> T:
    _TRACKERS[tracker.name] = tracker
    return tracker


@cache
def trackers() -> Mapping[str, type[Tracker]]:
    """Every tracker by its name: of every module in this folder."""
    import_all("benchmark.runtime.tracking")
    return _TRACKERS


def check(names: Iterable[str]) -> None:
    """Raise :class:`UserError` where a tracker's package is not installed."""
    for name in names:
        found = find_spec(name)
        if found is None or found.origin is None:  # a folder of that name, of runs that wandb left, is no package
            raise UserError(f"tracking: {name} is not installed, and comes with pip install 'spherebench[{name}]'")
