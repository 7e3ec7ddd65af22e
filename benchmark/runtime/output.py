"""What standard output cannot encode is spelled in what it can."""

import codecs
import io
import sys
import unicodedata

_SPELLED = {"–": "-", "−": "-", "±": "+-", "×": "x", "…": "...", "↑": "^", "↓": "v", "≤": "<=", "≥": ">="}


def spell_out() -> None:
    """From here on ``±`` is ``+-`` where the terminal, or the file that output goes to, is of another encoding."""
    codecs.register_error("spelled", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(map(_letters, characters)), error.end


def _letters(character: str) -> str:
    """An accent is dropped; what is known by no letters, such as a byte of a file's name that is no text, is ``?``."""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _SPELLED.get(character) or plain or "?"
