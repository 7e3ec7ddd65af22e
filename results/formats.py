"""One way to print a table: plain columns, Markdown, CSV, JSON or LaTeX. Needs no pandas."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from tabulate import tabulate

Format = Literal["plain", "md", "csv", "json", "latex"]
FORMATS: tuple[str, ...] = get_args(Format)
Row = Mapping[str, Any]

_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
}


def format_table(rows: Sequence[Row], format: str, *, title: str = "", notes: Sequence[str] = ()) -> str:
    """A table of ``rows`` (one mapping a row; all keys in order of appearance are the columns) as text.

    ``plain``, ``md`` and ``latex`` are for reading and carry ``title`` and ``notes``; ``csv`` and ``json`` are for
    programs: values only, floats in full precision, a missing value empty or ``null``.
    Raises ``ValueError`` for an unknown format.
    """
    check_format(format)
    if format == "csv":
        return _csv(rows)
    if format == "json":
        return _json(rows)
    if format == "latex":
        return _latex(rows, title, notes)
    return _text(rows, title, notes, markdown=format == "md")


def check_format(format: str) -> None:
    """Raise ``ValueError`` in one sentence where ``format`` is none of ``FORMATS``."""
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: there are {', '.join(FORMATS)}")


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _cells(rows: Sequence[Row]) -> list[list[Any]]:
    columns = _columns(rows)
    return [[_plain(row.get(name)) for name in columns] for row in rows]


def _plain(value: Any) -> Any:
    """A value of Python's own, ``None`` where it is missing or not finite (JSON has no NaN)."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(rows))
    writer.writerows(_cells(rows))
    return text.getvalue()


def _json(rows: Sequence[Row]) -> str:
    columns = _columns(rows)
    objects = [dict(zip(columns, cells, strict=True)) for cells in _cells(rows)]
    return json.dumps(objects, indent=1, ensure_ascii=False) + "\n"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(rows: Sequence[Row], title: str, notes: Sequence[str], *, markdown: bool) -> str:
    cells = [[_shown(value) for value in row] for row in _cells(rows)]
    if markdown:
        cells = [[cell.replace("|", r"\|") for cell in row] for row in cells]
    style = "pipe" if markdown else "simple"
    table = tabulate(cells, _columns(rows), tablefmt=style, disable_numparse=True, colalign=_alignment(rows))
    heading = f"**{title}**" if markdown and title else title
    below = "\n\n".join(notes) if markdown else "\n".join(notes)
    return "\n\n".join(part for part in (heading, table, below) if part) + "\n"


def _alignment(rows: Sequence[Row]) -> list[str]:
    return ["right" if _numeric(rows, name) else "left" for name in _columns(rows)]


def _numeric(rows: Sequence[Row], name: str) -> bool:
    """Whether a column reads as numbers: most cells that are not empty start with a digit, a sign or a dash."""
    filled = [text for row in rows if (text := _shown(_plain(row.get(name))))]
    return 2 * sum(text[0] in "0123456789-–" for text in filled) > len(filled)


def _latex(rows: Sequence[Row], title: str, notes: Sequence[str]) -> str:
    header, *body = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in ([*_columns(rows)], *_cells(rows))]
    alignment = "".join(side[0] for side in _alignment(rows))
    caption = _escaped(" ".join(part for part in (f"{title}." if title else "", *notes) if part))
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        *([rf"\caption{{{caption}}}"] if caption else []),
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(value: Any) -> str:
    return "".join(_LATEX.get(character, character) for character in _shown(value))
