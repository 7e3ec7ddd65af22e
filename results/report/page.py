"""The page: one HTML file that holds its style, its script and what it shows, and asks nothing of any network.

Figures are drawn in the browser, as SVG, by a script of our own: plotly.js alone is 4.8 MB and bokeh's 1.3 MB
and a canvas, which a screen reader does not see; SVGs of matplotlib cost its import and a second a figure, follow no
filter and no dark mode. What the page shows is JSON, which gzip packs to an eighth. Its policy (CSP) lets this script
run and no other, whatever a record says.
"""

import re
import warnings
from base64 import b64encode
from collections.abc import Sequence
from gzip import compress
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from results import palette
from results.record import write_atomically
from results.report.content import content, encode
from results.runs import LeftOut

NAME = "report.html"
_LINE = 1.7  # pixels: the width of a line, as page.css has it
_PARTS = Path(__file__).parent / "page"


def write(places: Sequence[Path], out: Path) -> Path:
    """Write the page of what lies in ``places`` to ``out``, atomically; warns and raises as reading records does."""
    tree = content(places)
    for sentence in tree["left_out"]:
        warnings.warn(sentence, LeftOut, stacklevel=2)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, render(tree).encode())
    return out


def render(tree: dict[str, Any], *, live: str = "") -> str:
    """The page of a content; ``live``, its tag: the page asks where it came from for what is newer, and nobody else."""
    style = _colours() + (_PARTS / "page.css").read_text(encoding="utf-8")
    # Functions and constants, then what draws with them.
    scripts = sorted(_PARTS.glob("*.js"), key=lambda path: (path.stem == "main", path.stem))
    script = _looks() + "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    asked = "'self'" if live else "'none'"
    allowed = {"default-src": "'none'", "script-src": _hash(script), "style-src": _hash(style), "connect-src": asked}
    names = ", ".join(chapter["name"] for chapter in tree["chapters"][:3])
    parts = {
        "policy": "; ".join(f"{what} {where}" for what, where in {**allowed, "base-uri": "'none'"}.items()),
        "title": escape(f"{names} – spherebench report" if names else "spherebench report"),
        "live": f'class="live" data-tag="{escape(live)}"' if live else "",
        "style": style,
        "content": b64encode(compress(encode(tree).encode(errors="replace"), 6, mtime=0)).decode(),
        "script": script,
    }
    skeleton = (_PARTS / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], skeleton)


def _colours() -> str:
    """The colours of the palette as variables and classes, of a light and of a dark page."""
    names = [*(f"c{place}" for place in range(len(palette.COLOURS))), "reference"]
    pairs = zip(names, [*palette.COLOURS, palette.REFERENCE], strict=True)
    light, dark = zip(*((f"--{name}: {light};", f"--{name}: {dark};") for name, (light, dark) in pairs), strict=True)
    classes = "\n".join(f".{name} {{ color: var(--{name}); }}" for name in names)
    return f""":root {{ {" ".join(light)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {" ".join(dark)} }} }}
.m {{ color: var(--reference); }}
{classes}
"""


def _looks() -> str:
    """The start of the script: the marks and dashes of the palette, dashes in pixels."""
    dashes = [" ".join(f"{_LINE * part:.3g}" for part in dash) for dash in palette.DASHES]
    looks = {
        "SYMBOLS": [path for _, path in palette.MARKS],
        "DASHES": dashes,
        "COLOURS": len(palette.COLOURS),
        "ORDER": palette.ORDER,
    }
    return '"use strict";\n' + "".join(f"const {name} = {encode(value)};\n" for name, value in looks.items())


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
