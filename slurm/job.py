"""What runs in a job: ``python -m slurm.job MANIFEST INDEX``, or the same called by submitit.

Signals are heard before torch is loaded. They only ask: the training loop saves at the end of its step and the job
ends with :data:`slurm.requeue.ASKED`; the batch script's last act sends it back to the queue.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmark.runtime.signals import Requests
from slurm.requeue import ASKED

SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Task:
    """What one job does: some of the runs of one manifest, one after the other."""

    manifest: str
    indices: tuple[int, ...]
    margin_seconds: float

    def __call__(self) -> None:
        """Do it. Ends the process with a code that says what became of the runs, unless all are done."""
        requests = Requests()
        for number in SIGNALS:
            signal.signal(number, self._asking(requests))
        try:
            from slurm.work import work

            code = work(Path(self.manifest), self.indices, requests)
        finally:
            # Where one of several tasks ends, srun terminates the others. They are ending too, and Python takes its
            # handlers back before it has ended: the run would be said to be killed.
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
        if code:
            sys.exit(code)

    def _asking(self, requests: Requests) -> Any:
        def ask(number: int, frame: FrameType | None) -> None:
            if not requests.suite_must_end:
                self._leave_in_time()
            requests.run_must_end = requests.suite_must_end = True

        return ask

    def _leave_in_time(self) -> None:
        # A long evaluation reaches no end of a step: leave before the time is up, and go on from the checkpoint.
        timer = threading.Timer(self.margin_seconds, os._exit, [ASKED])
        timer.daemon = True
        timer.start()


def margin_seconds(signal_seconds: int) -> float:
    """How long after the signal a job must be gone by itself, so that its last act is in time."""
    return max(signal_seconds / 2, signal_seconds - 30)


if __name__ == "__main__":
    from slurm.manifest import Submission

    path = Path(sys.argv[1])
    wanted = tuple(int(index) for index in sys.argv[2:])
    Task(str(path), wanted, margin_seconds(Submission.read(path).profile.signal_seconds))()
