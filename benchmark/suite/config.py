"""Nested settings: merge layers, look up dotted paths, and say what is wrong with a value in one sentence."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import SettingError

M = TypeVar("M", bound=BaseModel)
Settings = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML 1.2 as people read it, not 1.1: numbers are decimal, and true and false are the only words for them.

    ``no``, ``0123``, ``1:30:00`` and ``2026-01-01`` are text; a key given twice is an error.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}  # in place of those of 1.1
for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9]\d*)",
    "float": r"[-+]?((0|[1-9]\d*)\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(0|[1-9]\d*)[eE][-+]?\d+",
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"({_pattern})$", re.ASCII), None)


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document. Raises :class:`UserError` naming ``where`` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from error


def parse_typed(text: str, annotation: Any, where: str) -> Any:
    """A value from the command line: as it stands where the setting is text, be it quoted or not, as YAML elsewhere."""
    is_text = annotation in (str, str | None) and not (annotation == str | None and text == "null")
    return parse_yaml(text, where) if not is_text or text.startswith(("'", '"')) else text


def read_yaml(path: Path) -> Settings:
    """Read a YAML file that holds one mapping."""
    try:
        settings = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: holds {type(settings).__name__}, must hold a mapping of keys to values")
    return settings


def nest(settings: Mapping[str, Any]) -> Settings:
    """Turn dotted keys into nested mappings: ``{"data.source": x}`` into ``{"data": {"source": x}}``."""
    nested: Settings = {}
    for path, value in settings.items():
        *parents, leaf = str(path).split(".")
        inner: Settings = {leaf: nest(value) if isinstance(value, Mapping) else value}
        for parent in reversed(parents):
            inner = {parent: inner}
        nested = merge(nested, inner)
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """Deep merge: mappings are joined, anything else in ``over`` replaces what is in ``base``."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


_ABSENT = object()


def lookup(settings: Any, path: str, default: Any = None) -> Any:
    """The value at a dotted path, or ``default``."""
    for part in path.split("."):
        if not isinstance(settings, Mapping) or part not in settings:
            return default
        settings = settings[part]
    return settings


def holds(settings: Any, path: str) -> bool:
    """Whether a dotted path is set."""
    return lookup(settings, path, _ABSENT) is not _ABSENT


def repeated(values: Sequence[Any]) -> list[Any]:
    """The values that stand there a second time."""
    return [value for place, value in enumerate(values) if value in values[:place]]


def validated(model: type[M], settings: Mapping[str, Any], section: str = "") -> M:
    """A model of ``settings``. Raises :class:`SettingError` naming the key, below ``section``, and what is allowed."""
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        settings = _as_meant(dict(settings), error)
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        key, reason = fault(error, model)
        raise SettingError(".".join(filter(None, [section, key])), reason) from error


def _as_meant(settings: Any, error: ValidationError) -> Any:
    """With 1000 for 1e3 where a whole number is asked for, and "123" for 123 where text is."""
    for found in error.errors():
        value, asked = found["input"], found["type"]
        if asked == "int_type" and isinstance(value, float) and value.is_integer():
            settings = _replaced(settings, found["loc"], int(value))
        elif asked == "string_type" and isinstance(value, int) and not isinstance(value, bool):
            settings = _replaced(settings, found["loc"], str(value))
    return settings


def _replaced(settings: Any, path: tuple[int | str, ...], value: Any) -> Any:
    if not path:
        return value
    first, *rest = path
    if isinstance(settings, Mapping) and first in settings:
        return {**settings, first: _replaced(settings[first], tuple(rest), value)}
    if isinstance(settings, list | tuple):
        changed = [_replaced(old, tuple(rest), value) if place == first else old for place, old in enumerate(settings)]
        return type(settings)(changed)
    return settings  # below here the path names one of several types, which are asked each for itself


@contextmanager
def given_in(place: str) -> Iterator[None]:
    """A setting at fault inside is the user's, who gave it in ``place``."""
    try:
        yield
    except SettingError as error:
        raise UserError(f"{place}{error.key}: {error}") from error


_IN_WORDS = {
    "bool_type": "should be true or false",
    "string_type": "should be text, in quotes",
    "too_short": "should hold at least one",
    "tuple_type": "should be a list, in brackets",
}


def fault(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """The first fault of a validation: its dotted key, and what is wrong and allowed, in words."""
    # A key that is not known often leaves one that must be given: the misspelt one is what to tell.
    first = min(error.errors(), key=lambda found: found["type"] == "missing")
    path = [str(part) for part in first["loc"]]
    if path and isinstance(first["loc"][-1], int):  # of a list, whose value is told
        path.pop()
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return key, unknown(path[-1], _allowed(model, path[:-1]))
    if first["type"] == "missing":
        return key, "must be given"
    if first["type"] == "value_error":
        return key, str(first["ctx"]["error"]).removeprefix(f"{key}: ")
    allowed = _IN_WORDS.get(first["type"]) or first["msg"].replace("Input should", "should", 1)
    return key, f"is {first['input']!r}, {allowed}"


def unknown(key: str, allowed: list[str]) -> str:
    """What to say of a key that is not known."""
    meant = "".join(f"; perhaps {name} is meant" for name in get_close_matches(key, allowed, 1))
    return f"unknown key; allowed are {', '.join(allowed)}{meant}"


def _allowed(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        inner = next(_models(field.annotation), None) if field else None
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
