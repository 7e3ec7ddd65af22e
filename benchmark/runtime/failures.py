"""The first of several processes to fail tells the others, beside every collective, and they end.

A process that waits in a collective of which another will never be part (NCCL's, say, while the other waits in gloo's)
is woken by nothing. So the first failure lies in a store of its own, a thread of each process looks there, and where
the processes have not agreed on it within ``GRACE_SECONDS`` the thread ends its process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch.distributed as dist

from benchmark.runtime.lifelines import Lifelines

# What processes that hear of a failure take to agree on it, or to end by themselves, is far less.
GRACE_SECONDS = 30.0
LOOK_SECONDS = 0.5
# The status of what is no failure of the work, and leaves no record.
NO_SPACE = "disk full"
LOST = "ended without a word: it was killed, or its node is gone"


@dataclass(frozen=True)
class Failure:
    """What a process failed of. ``status`` is the record's, or ``NO_SPACE``."""

    status: str
    message: str
    rank: int = 0
    world_size: int = 1

    def __str__(self) -> str:
        where = f"process {self.rank} of {self.world_size}: " if self.world_size > 1 else ""
        return f"{where}{self.message}"


@dataclass(eq=False)
class Failures:
    """What is told so far; every failure that all processes agree on begins a new round."""

    store: dist.Store = field(default_factory=dist.HashStore)
    round: int = 0

    def tell(self, failure: Failure) -> Failure:
        """The first failure of this round: ``failure``, or what another process told before it."""
        own = json.dumps(asdict(failure))
        try:
            return Failure(**json.loads(self.store.compare_set(self._key, "", own)))
        except dist.DistError:  # the process that keeps the store is gone
            return failure

    def first(self) -> Failure | None:
        """What was told in this round, if anything was. Raises ``DistError`` once its first process is gone."""
        return Failure(**json.loads(self.store.get(self._key))) if self.store.check([self._key]) else None

    def agreed(self) -> Failure:
        """The failure that all processes have heard of. What fails from here on is another one."""
        failure = self.first()
        assert failure is not None
        self.round += 1
        return failure

    @contextmanager
    def watched(self, lifelines: Lifelines) -> Iterator[None]:
        """Inside, the process ends, with the code 1, after a failure that the processes do not agree on.

        One that ended without a word, killed say, is told of by the first, and the first's end is seen by all.
        """
        left = threading.Event()
        watch = threading.Thread(target=self._watch, args=(self.store.clone(), lifelines, left), daemon=True)
        watch.start()
        try:
            yield
        finally:
            left.set()
            watch.join(timeout=5)  # a store on a node that is gone may not answer
            lifelines.untie()

    def _watch(self, store: dist.Store, lifelines: Lifelines, left: threading.Event) -> None:
        beside = Failures(store)  # a connection of its own: the main thread's may be in use
        while not left.wait(LOOK_SECONDS):
            beside.round = self.round
            why: Failure | str | None
            lost = lifelines.lost()
            try:
                why = beside.first()
                if lost is not None and why is None:
                    why = beside.tell(Failure("failed", LOST, lost, lifelines.world_size))
            except dist.DistError:
                why = "the first process has ended"
            until = time.monotonic() + GRACE_SECONDS
            while why and self.round == beside.round and not left.wait(LOOK_SECONDS):
                if time.monotonic() > until:
                    print(f"ended, since another process has: {why}", file=sys.stderr, flush=True)
                    os._exit(1)

    @property
    def _key(self) -> str:
        return f"failure/{self.round}"
