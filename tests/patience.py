"""How tests wait for other processes, and how those are found that outlive them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Only what hangs takes this long: a machine under load, ten times slower than another, does not.
PATIENCE = 900.0
# In the environment of every process that the tests start, and of what those start.
MARK = "SPHEREBENCH_TESTS"


def wait_for(condition: Callable[[], object], *, what: str = "", every: float = 0.1, seconds: float = PATIENCE) -> None:
    """Wait until ``condition`` holds. Raises ``TimeoutError``."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:g} s for {what or condition}")
        time.sleep(every)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return "State:\tZ" not in Path("/proc", str(pid), "status").read_text()
    except OSError:
        return False


def marked(value: str) -> dict[int, str]:
    """The command lines of the living processes that have ``MARK=value`` in their environment, by their number.

    Not Python's own tracker of resources, which ends with the process that it serves.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if f"{MARK}={value}".encode() in (folder / "environ").read_bytes().split(b"\0") and is_alive(
                int(folder.name)
            ):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return {pid: line for pid, line in found.items() if "resource_tracker" not in line}


def end_marked(value: str, seconds: float) -> dict[int, str]:
    """Kill what ``marked`` still finds after ``seconds``; returns it."""
    with suppress(TimeoutError):
        wait_for(lambda: not marked(value), seconds=seconds)
    left = marked(value)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left
