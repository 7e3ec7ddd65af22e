"""Layers of settings, YAML as people write it, and faults told in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import SettingError, Spec
from benchmark.suite.config import holds, lookup, merge, nest, parse_yaml, read_yaml, validated

KEYS = st.sampled_from("abc")
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8)
MAPPINGS = st.dictionaries(KEYS, TREES, max_size=3)


def test_numbers_with_an_exponent_are_numbers() -> None:
    assert parse_yaml("{a: 1e-3, b: 2E4, c: 1.5e+2, d: x1e3}", "text") == {"a": 1e-3, "b": 2e4, "c": 150.0, "d": "x1e3"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, text) for text in ("no", "Yes", "on", "OFF", "y")),
        *((text, text) for text in ("0123", "1:30:00", "12:00", "0x1F", "0b11", "1_000", "010.5", "2026-01-01", "=")),
        *((text, text) for text in ("1.2.3", "1e", "e5", ".", "0o17", "<<")),
        *((text, value) for text, value in (("0", 0), ("-12", -12), ("+5", 5), ("10", 10))),
        *((text, value) for text, value in (("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("-1.5E+2", -150.0), ("0e1", 0.0))),
        *((text, value) for text, value in (("true", True), ("False", False), ("null", None), ("~", None))),
    ],
)
def test_words_are_text_and_numbers_are_decimal(text: str, value: object) -> None:
    found = parse_yaml(text, "text")
    assert (type(found), found) == (type(value), value)
    assert parse_yaml(f"{{a: [{text}, '{text}'], b: }}", "text") == {"a": [value, text], "b": None}


def test_numbers_are_what_the_schema_asks_for() -> None:
    class Inner(Spec):
        sizes: tuple[int, ...] = ()
        names: dict[str, str] = {}

    class Outer(Spec):
        count: int
        name: str | None = None
        inner: Inner = Inner()

    inner = {"sizes": (1e1, 5), "names": {"a": 123}}
    made = validated(Outer, {"count": 1e3, "name": 7, "inner": inner})
    assert made == Outer(count=1000, name="7", inner=Inner(sizes=(10, 5), names={"a": "123"}))
    for settings, said in (
        ({"count": 1.5}, "is 1.5, should be a valid integer"),
        ({"count": True}, "is True, should be a valid integer"),
        ({"count": 1, "name": 1.10}, "is 1.1, should be text, in quotes"),
        ({"count": 1, "name": True}, "is True, should be text, in quotes"),
    ):
        with pytest.raises(SettingError, match=said):
            validated(Outer, settings)


def test_a_key_given_twice_is_refused_with_its_line() -> None:
    with pytest.raises(UserError, match=r"text, line 1: .*'a' is given twice"):
        parse_yaml("a: 1\na: 2", "text")


def test_broken_yaml_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1,\nb: }")
    with pytest.raises(UserError, match=r"broken\.yaml, line 2: not valid YAML"):
        read_yaml(path)


@pytest.mark.parametrize(("content", "said"), [(b"- 1\n", "must hold a mapping"), (b"\xff\xfe\x00", "as text")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_yaml(path)


def test_dotted_keys_nest_and_lookup_finds_them() -> None:
    nested = nest({"data.source": "x", "data": {"limit": 3}, "a.b.c": 1})
    assert nested == {"data": {"source": "x", "limit": 3}, "a": {"b": {"c": 1}}}
    assert lookup(nested, "a.b.c") == 1
    assert lookup(nested, "a.b.d", "absent") == "absent"
    assert holds({"a": {"b": None}}, "a.b")
    assert not holds({"a": {"b": None}}, "a.b.c")


@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_merge_is_associative_and_the_later_layer_wins(a: dict, b: dict, c: dict) -> None:
    # Where a value replaces a mapping that a later layer extends, order of grouping matters: leave those out.
    if _kinds_agree(a, b) and _kinds_agree(b, c) and _kinds_agree(a, c):
        assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, {}) == a
    assert merge(a, a) == a


def _kinds_agree(a: object, b: object) -> bool:
    if isinstance(a, dict) != isinstance(b, dict):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return all(_kinds_agree(a[key], b[key]) for key in a.keys() & b.keys())
    return True
