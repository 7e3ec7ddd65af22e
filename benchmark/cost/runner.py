"""One function in a process of its own, whose end says whether its memory sufficed.

So nothing an earlier cell left in caches or in memory is measured, and an end by the kernel for want of memory is the
end of one cell. Imports nothing heavy: what a fit's process holds shall be the fit's.
"""

import importlib
import json
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.runtime.errors import says_out_of_memory
from results.record import Status


class Ended(NamedTuple):
    """How a process ended, and what its function gave where it is done."""

    status: Status
    message: str = ""
    result: dict[str, Any] = {}


def alone(function: Callable[..., dict[str, Any]], **asked: Any) -> Ended:
    """What ``function(**asked)`` gives in a new process; both are plain JSON, the function is one of a module."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        named = (function.__module__, function.__name__)
        command = [sys.executable, "-m", "benchmark.cost.runner", *named, json.dumps(asked), str(out)]
        ended = subprocess.run(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True, check=False)
        if ended.returncode == 0:
            return Ended("done", result=json.loads(out.read_text(encoding="utf-8")))
    # A process that the kernel killed for its memory says nothing; one that could not allocate says MemoryError.
    said = ended.stderr.strip().splitlines() or [f"ended with code {ended.returncode}"]
    lost = ended.returncode == -signal.SIGKILL or says_out_of_memory(said[-1])
    return Ended("out-of-memory" if lost else "failed", said[-1])


def main(module: str, name: str, asked: str, out: str) -> None:
    """The new process: call the function, leave what it gives in ``out``.

    It is refused memory that the machine does not have, rather than be killed, or have others killed, for it.
    """
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    available = int(memory["MemAvailable"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (available, available))
    result = getattr(importlib.import_module(module), name)(**json.loads(asked))
    Path(out).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
