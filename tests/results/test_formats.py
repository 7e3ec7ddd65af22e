import csv
import io
import json

import numpy as np
import pytest

from results.formats import FORMATS, format_table

ROWS = [
    {"method": "sfrik_l2", "value": 0.1 + 0.2, "n": 3},
    {"method": "a|b & c_d 5 %", "value": float("nan"), "note": "93.1 ± 0.4"},
]


def test_csv_carries_full_precision_and_empty_cells() -> None:
    first, second = csv.DictReader(io.StringIO(format_table(ROWS, "csv")))
    assert float(first["value"]) == 0.1 + 0.2
    assert first["note"] == ""
    assert (second["value"], second["n"]) == ("", "")


def test_json_is_one_object_a_row_with_null_for_what_is_missing() -> None:
    first, second = json.loads(format_table(ROWS, "json"))
    assert first == {"method": "sfrik_l2", "value": 0.1 + 0.2, "n": 3, "note": None}
    assert second["value"] is None


def test_json_and_csv_take_numpy_values() -> None:
    rows = [{"n": np.int64(3), "value": np.float32(0.5)}]
    assert json.loads(format_table(rows, "json")) == [{"n": 3, "value": 0.5}]
    assert format_table(rows, "csv") == "n,value\n3,0.5\n"


def test_markdown_escapes_bars_and_aligns_numbers() -> None:
    text = format_table(ROWS, "md", title="T", notes=["below"])
    assert text.startswith("**T**\n\n")
    assert r"a\|b" in text
    assert text.splitlines()[3].split("|")[2].endswith("-:")
    assert text.endswith("below\n")


def test_latex_escapes_what_latex_reads() -> None:
    text = format_table(ROWS, "latex", title="Cost & gain", notes=["5 %"])
    assert r"a|b \& c\_d 5 \%" in text
    assert r"93.1 $\pm$ 0.4" in text
    assert r"\caption{Cost \& gain. 5 \%}" in text
    assert text.count(r"\\") == len(ROWS) + 1


def test_plain_has_no_markup() -> None:
    text = format_table(ROWS, "plain", title="T")
    assert text.startswith("T\n\nmethod")
    assert "|" not in text.replace("a|b", "")


@pytest.mark.parametrize("format", FORMATS)
def test_no_rows_are_no_error(format: str) -> None:
    assert format_table([], format).endswith("\n")


def test_unknown_format_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="unknown format 'html': there are plain, md, csv, json, latex"):
        format_table(ROWS, "html")
