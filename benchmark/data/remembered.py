"""What was found out by reading many files, kept in the user's cache under their names, sizes and times.

Any change of one of them reads them all again.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from results.record import write_atomically

SETTLED_NS = 2_000_000_000


def signature(paths: Iterable[str], place: bytes = b"") -> tuple[str, int]:
    """What tells whether files or folders are as they were, and when one last changed (ns); 0: nothing says when."""
    found, changed_ns = hashlib.sha256(place), 0
    for path in paths:
        found.update(b"\0" + os.fsencode(path))
        with suppress(OSError):
            stat = Path(path).stat()
            # The time of the last change of any kind, too: programs that copy set the other one back.
            found.update(f"\0{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}".encode())
            changed_ns = max(changed_ns, stat.st_ctime_ns)
    return found.hexdigest(), changed_ns


def remembered(what: str, place: Path, files: Sequence[str], read: Callable[[], str]) -> str:
    """What ``read`` finds out of these files, or found out when they were last as they are.

    Not remembered where one of them changed a moment ago: a change in the same tick of its clock would not be seen.
    """
    name, changed_ns = signature(files, os.fsencode(place.resolve()))
    settled = time.time_ns() - changed_ns > SETTLED_NS
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no HOME, and no entry in passwd: nothing is remembered
        return read()
    note = cache / "spherebench" / what / name
    with suppress(OSError, ValueError):
        return note.read_text(encoding="ascii")
    content = read()
    if settled:
        with suppress(OSError):  # a home that cannot be written: it is read again next time
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(note, content.encode())
    return content
