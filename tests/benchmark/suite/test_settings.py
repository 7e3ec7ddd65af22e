"""Layers of settings, YAML as people write it, and faults told in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.runtime.errors import UserError
from benchmark.suite.config import holds, lookup, merge, nest, parse_yaml, read_yaml

KEYS = st.sampled_from("abc")
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8)
MAPPINGS = st.dictionaries(KEYS, TREES, max_size=3)


def test_numbers_with_an_exponent_are_numbers() -> None:
    assert parse_yaml("{a: 1e-3, b: 2E4, c: 1.5e+2, d: x1e3}", "text") == {"a": 1e-3, "b": 2e4, "c": 150.0, "d": "x1e3"}


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
