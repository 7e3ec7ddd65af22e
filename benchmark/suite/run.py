"""A Run: one network, and the measurements that a suite asks of it; composed of a suite's flat settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, Field, create_model, field_validator

from benchmark.data import DataSpec
from benchmark.data.datasets import check_source
from benchmark.networks.base import Network
from benchmark.networks.kernel import ALL_KEYS, FittedOnRows, KernelSpec
from benchmark.networks.kinds import KINDS, Weights, kind_of
from benchmark.probes.base import Measurement, Split, probes
from benchmark.runtime.spec import Precision, SettingError, Spec
from benchmark.suite.config import Settings, holds, repeated, unknown, validated


@dataclass(frozen=True)
class Run:
    """A network with a digest of its own, and measurements with theirs."""

    network: Network
    measurements: tuple[Measurement, ...]

    @property
    def id(self) -> str:
        """The network's: what is measured on it changes nothing of it."""
        return self.network.id

    @property
    def data(self) -> tuple[DataSpec, ...]:
        """What it reads: the network's data first, where it has some of its own, then what is measured on."""
        own = getattr(self.network, "data", None)
        measured = [data for measurement in self.measurements for data in measurement.reads]
        return tuple(dict.fromkeys([own, *measured] if own is not None else measured))


class _EveryProbe(Spec):
    """The keys of ``evaluation`` that concern every probe."""

    probes: tuple[str, ...] = Field(("knn", "logistic", "fewshot"), min_length=1)
    split: Split = "test"
    precision: Precision = Field("fp32", description="of the frozen network's forward passes, by autocast")
    tested_on: str | None = Field(None, description="a source of the same classes, whose images are measured instead")

    @field_validator("tested_on")
    @classmethod
    def _known_source(cls, source: str | None) -> str | None:
        if source is not None:
            check_source(source, "tested_on")
        return source


@cache
def evaluation_schema() -> type[_EveryProbe]:
    """What ``evaluation`` may hold: the options of every probe on one level.

    Several probes may share an option (``draws``); it then means the same for all of them.
    """
    fields: Any = {
        name: (field.annotation, field) for probe in probes().values() for name, field in probe.model_fields.items()
    }
    return create_model("Evaluation", __base__=_EveryProbe, **fields)


def _asked(evaluation: Mapping[str, Any]) -> _EveryProbe:
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in evaluation.items()}
    asked = validated(evaluation_schema(), tuples, "evaluation")
    for name in asked.probes:
        if name not in probes():
            raise SettingError("evaluation.probes", f"probe {name!r} is not known; there are {', '.join(probes())}")
    for option, values in asked:
        if isinstance(values, tuple) and (again := repeated(values)):
            raise SettingError(f"evaluation.{option}", f"lists {again[0]!r} twice")
    return asked


def measurements(evaluation: Mapping[str, Any], network: Network, data: DataSpec) -> tuple[Measurement, ...]:
    """What ``evaluation`` asks of a network: the probes that are for its kind, in the order in which they are listed.

    Raises :class:`SettingError` naming the key of an option that is not known or not allowed.
    """
    asked = _asked(evaluation)
    found = []
    for name in asked.probes:
        kind = probes()[name]
        given = asked.model_fields_set & set(kind.model_fields)
        probe = kind().changed({option: getattr(asked, option) for option in given})
        if probe.needs <= network.offers and kind.several_labels == data.several_labels:
            other = _other(asked.tested_on, data)
            found.append(
                Measurement(probe=probe, data=data, split=asked.split, precision=asked.precision, tested_on=other)
            )
    return tuple(found)


def _other(source: str | None, data: DataSpec) -> DataSpec | None:
    """The data set that is tested on, split as ``data`` are; None where it is that itself."""
    if source is None:
        return None
    other = DataSpec(source=source, tune_fraction=data.tune_fraction).identified()
    return None if (other.content or other.source) == (data.content or data.source) else other


def changed(
    evaluation: Mapping[str, Any], listed: Sequence[Measurement], network: Network, data: DataSpec | None
) -> tuple[Measurement, ...]:
    """What ``evaluation`` asks of a network beside what is ``listed``: the same probes with other options or data.

    Where it names probes, those, with the options they were listed with or else their defaults; otherwise every listed
    one that an option of it concerns. Raises :class:`SettingError` naming a key that is not known or not allowed.
    """
    asked = _asked(evaluation)
    given = set(asked.model_fields_set)
    place = {key: getattr(asked, key) for key in given & {"split", "precision"}} | ({"data": data} if data else {})
    if "probes" in given:
        on = data or (listed[0].data if listed else getattr(network, "data", None))
        fresh = measurements(evaluation, network, on) if on is not None else ()
        before = {measurement.probe.name: measurement for measurement in reversed(listed)}
        bases = [before.get(measurement.probe.name, measurement) for measurement in fresh]
    else:
        always = place or "tested_on" in given
        bases = [base for base in listed if always or given & set(type(base.probe).model_fields)]
    found = []
    for base in bases:
        own = {option: getattr(asked, option) for option in given & set(type(base.probe).model_fields)}
        other = {"tested_on": _other(asked.tested_on, data or base.data)} if "tested_on" in given else {}
        found.append(base.model_copy(update={**place, **other, "probe": base.probe.changed(own)}))
    return tuple(found)


def compose(settings: Settings, identify: Callable[[DataSpec], DataSpec]) -> Run:
    """A suite's settings, merged, to a Run: each kind of network and each probe takes the keys that concern it.

    Raises :class:`SettingError` naming the key that is not known, or whose value is not allowed.
    """
    check_keys(settings)
    check_not_filled_in(settings)
    kind = kind_of(str(settings.get("method")))
    own = {name: value for name, value in settings.items() if name in kind.model_fields}
    if issubclass(kind, FittedOnRows):
        own |= {"regime": _regime(kind, own)}
    try:
        network = validated(kind, own).resolved()
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError("loss", str(error)) from error
    data = identify(network.data)  # type: ignore[attr-defined]  # of every kind that a suite's method names
    network = network.model_copy(update={"data": data})
    return Run(network, measurements(settings.get("evaluation", {}), network, data))


def of_weights(weights: Weights, evaluation: Mapping[str, Any], data: DataSpec) -> Run:
    """The Run of a file of weights. Raises :class:`SettingError` as :func:`measurements`, and where nothing is left."""
    asked = measurements(evaluation, weights, data)
    if not asked:
        raise SettingError(
            "evaluation.probes", "name none that is for a backbone alone, such as knn, linear or logistic"
        )
    return Run(weights, asked)


def check_not_filled_in(settings: Settings) -> None:
    """Raise :class:`SettingError` for a key that the program fills in: what people gave would be overwritten."""
    if holds(settings, "data.content"):
        raise SettingError("data.content", "is filled in from the data themselves, and cannot be given; leave it out")


def _regime(kind: type[FittedOnRows], own: Settings) -> Spec:
    if "regime" not in own:
        raise SettingError("regime", f"must be given for {own['method']}")
    given: Settings = own["regime"]
    relation = given.get("relation", "views")
    if str(relation) not in kind.regimes:
        raise SettingError("regime.relation", f"is {relation!r}, must be one of {', '.join(kind.regimes)}")
    schema = kind.regimes[relation]
    if "n_neighbors" in schema.model_fields and given.get("n_neighbors") is None:
        raise SettingError("regime.n_neighbors", "must be given for a graph of neighbours")
    return validated(schema, {name: value for name, value in given.items() if name in schema.model_fields}, "regime")


def check_keys(settings: Settings, section: str = "", *, beside: Sequence[str] = ()) -> None:
    """Raise :class:`SettingError` for a key that no kind of network knows, in ``section`` or in one within it."""
    allowed = (*_sections()[section], *beside) if section in _sections() else None
    for name, value in settings.items():
        path = f"{section}.{name}" if section else str(name)
        if allowed is not None and name not in allowed:
            raise SettingError(path, unknown(str(name), list(allowed)))
        if isinstance(value, Mapping):
            check_keys(dict(value), path)


@cache
def _sections() -> dict[str, tuple[str, ...]]:
    """What a section of a suite's settings may hold, and "" for its first level; a loss's options are its own."""
    fields = {name: field.annotation for kind in KINDS for name, field in kind.model_fields.items() if name != "kind"}
    named = {
        name: tuple(schema.model_fields)
        for name, schema in (*fields.items(), ("regime.kernel", KernelSpec), ("evaluation", evaluation_schema()))
        if isinstance(schema, type) and issubclass(schema, BaseModel)
    }
    return {**named, "regime": tuple(sorted(ALL_KEYS)), "": (*fields, "evaluation")}
