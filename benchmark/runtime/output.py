"""What standard output cannot encode is spelled in what it can; and work goes on when nobody reads it any more."""

import codecs
import errno
import io
import sys
import unicodedata
from typing import Any

_SPELLED = {"–": "-", "−": "-", "±": "+-", "×": "x", "…": "...", "↑": "^", "↓": "v", "≤": "<=", "≥": ">="}


def spell_out() -> None:
    """From here on ``±`` is ``+-`` where the terminal, or the file that output goes to, is of another encoding."""
    codecs.register_error("spelled", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")


def outlive_readers() -> None:
    """From here on a reader that leaves ends no work: ``| head``, a pager, a terminal that is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
            stream.flush()
            binary: Any = _Unread(stream.fileno(), "w", closefd=False)
            if not isinstance(stream.buffer, io.FileIO):  # as it is of python -u
                binary = io.BufferedWriter(binary)
            buffering = stream.line_buffering, stream.write_through
            setattr(sys, name, io.TextIOWrapper(binary, stream.encoding, stream.errors, None, *buffering))


class _Unread(io.FileIO):
    """Takes what nobody reads."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # the second of a terminal
                raise
            return memoryview(content).nbytes


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(map(_letters, characters)), error.end


def _letters(character: str) -> str:
    """An accent is dropped; what is known by no letters, such as a byte of a file's name that is no text, is ``?``."""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _SPELLED.get(character) or plain or "?"
