"""What was found out by reading many files, kept in the user's cache under their names, sizes and times.

Any change of one of them reads them all again.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from results.record import write_atomically

SETTLED_NS = 2_000_000_000


def remembered(what: str, place: Path, files: Sequence[str], read: Callable[[], str]) -> str:
    """What ``read`` finds out of these files, or found out when they were last as they are.

    Not remembered where one of them changed a moment ago: a change in the same tick of its clock would not be seen.
    """
    signature, changed_ns = hashlib.sha256(os.fsencode(place.resolve())), 0
    for path in files:
        signature.update(b"\0" + os.fsencode(path))
        with suppress(OSError):
            found = Path(path).stat()
            # The time of the last change of any kind, too: programs that copy set the other one back.
            signature.update(f"\0{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode())
            changed_ns = max(changed_ns, found.st_ctime_ns)
    settled = time.time_ns() - changed_ns > SETTLED_NS
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no HOME, and no entry in passwd: nothing is remembered
        return read()
    note = cache / "spherebench" / what / signature.hexdigest()
    with suppress(OSError, ValueError):
        return note.read_text(encoding="ascii")
    content = read()
    if settled:
        with suppress(OSError):  # a home that cannot be written: it is read again next time
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(note, content.encode())
    return content
