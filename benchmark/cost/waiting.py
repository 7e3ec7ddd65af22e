"""What batches that loading processes make take: CPU time of these, and of the wait for each batch.

CPU time, since a wall clock also tells what else the machine does. While a step waits, the loading processes work on
what it waits for: their time, with this process's own, is how long the wait is where each has a core of its own.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


def children() -> set[int]:
    """The processes that this one has started with Python, and that live."""
    return {child.pid for child in multiprocessing.active_children() if child.pid}


def cpu_seconds(pids: set[int]) -> float:
    """What the threads of these processes that live have taken so far."""
    threads = [thread for pid in pids for thread in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(thread.read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9


@dataclass
class Waited(Generic[T]):
    """Batches, and how long each was waited for."""

    batches: Iterator[T]
    workers: set[int]
    seconds: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[T]:
        while True:
            began = time.process_time() + cpu_seconds(self.workers)
            batch = next(self.batches, None)
            if batch is None:
                return
            self.seconds.append(time.process_time() + cpu_seconds(self.workers) - began)
            yield batch
