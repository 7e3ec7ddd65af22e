"""One way to print a table: plain columns, Markdown, CSV, JSON or LaTeX. Needs no pandas."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

from tabulate import tabulate

FORMATS = ("plain", "md", "csv", "json", "latex")
NOT_RUN = "–"
MIB = 2**20
_WIDEST = 72  # characters of a cell on a terminal

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
        "†": r"\dag{}",
    }
)


class Table(NamedTuple):
    """A table for reading: its rows' keys and cells are text."""

    title: str
    rows: Sequence[Mapping[Any, Any]]
    notes: Sequence[str] = ()


def join(tables: Sequence[Table], format: str) -> str:
    """Tables for reading, one after the other, as ``plain``, ``md`` or ``latex``."""
    return "\n".join(format_table(table.rows, format, title=table.title, notes=table.notes) for table in tables)


def format_table(rows: Sequence[Mapping[Any, Any]], format: str, *, title: str = "", notes: Sequence[str] = ()) -> str:
    """A table of ``rows`` (one mapping a row; all keys in order of appearance are the columns) as text.

    ``plain``, ``md`` and ``latex`` are for reading and carry ``title`` and ``notes``; ``csv`` and ``json`` are for
    programs: values only, floats in full precision, a missing value empty or ``null``.
    Raises ``ValueError`` for an unknown format.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_plain(row.get(name)) for name in columns] for row in rows]
    if for_programs(format):
        if format == "json":
            objects = [dict(zip(columns, row, strict=True)) for row in cells]
            return json.dumps(objects, indent=1, ensure_ascii=False) + "\n"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *cells])
        return text.getvalue()
    texts = [
        ["" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        for row in cells
    ]
    # Right where a column reads as numbers: most cells that are not empty start with a digit, a sign or a dash.
    filled = [[cell for cell in column if cell] for column in zip(*texts, strict=True)]
    numbers = [sum(cell[0] in "0123456789-–+<" for cell in column) for column in filled]
    alignment = ["right" if 2 * n > len(column) else "left" for n, column in zip(numbers, filled, strict=True)]
    if format == "latex":
        return _latex(columns, texts, alignment, title, notes)
    markdown = format == "md"
    if markdown:
        texts = [[cell.replace("|", r"\|") for cell in row] for row in texts]
    else:  # a message, say, of a run that failed
        texts = [[fill(cell, _WIDEST) for cell in row] for row in texts]
    style = "pipe" if markdown else "simple"
    table = tabulate(texts, columns, tablefmt=style, disable_numparse=True, colalign=alignment)
    heading = f"**{title}**" if markdown and title else title
    below = ("\n\n" if markdown else "\n").join(notes)
    return "\n\n".join(part for part in (heading, table, below) if part) + "\n"


def for_programs(format: str) -> bool:
    """Whether a format is for programs and not for reading. Raises ``ValueError`` for an unknown one."""
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: there are {', '.join(FORMATS)}")
    return format in ("csv", "json")


def _plain(value: Any) -> Any:
    """A value of Python's own, ``None`` where it is missing or not finite (JSON has no NaN)."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _latex(columns: list[str], cells: list[list[str]], alignment: list[str], title: str, notes: Sequence[str]) -> str:
    header, *body = [" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in (columns, *cells)]
    caption = " ".join(part for part in (f"{title}." if title else "", *notes) if part).translate(_LATEX)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        *([rf"\caption{{{caption}}}"] if caption else []),
        rf"\begin{{tabular}}{{{''.join(side[0] for side in alignment)}}}",
        r"\toprule",
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
