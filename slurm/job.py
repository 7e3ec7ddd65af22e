"""What runs in a job, on Slurm or in the background of this machine: ``python -m slurm.job MANIFEST INDEX...``.

Signals are heard before torch is loaded. They only ask: the work saves at the end of its step, batch or part, and the
job ends with :data:`slurm.requeue.ASKED`; the batch script's last act sends it back to the queue.
"""

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from benchmark.runtime.output import spell_out
from benchmark.runtime.signals import STOP_SIGNALS, stop_requests
from slurm.manifest import Submission
from slurm.requeue import ASKED


def main(manifest: Path, indices: tuple[int, ...]) -> int:
    """Do some of the runs of one manifest, one after the other; returns a code that says what became of them."""
    # stop_requests brings this back. Where one of several tasks ends, srun terminates the others; they are ending too,
    # and would be said to be killed.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with stop_requests() as requests:
        spell_out()
        submission = Submission.read(manifest)
        signal_seconds = submission.profile.signal_seconds
        # By then it must be gone by itself, so that its last act is in time.
        _leave_in_time(max(signal_seconds / 2, signal_seconds - 30))
        if submission.cancelled.exists():
            return ASKED
        from slurm.work import work

        return work(manifest, indices, requests)


def _leave_in_time(seconds: float) -> None:
    """End the process so long after it was asked to, whatever it does: code that hears nothing must not be killed.

    It goes on from what was saved. The signal itself tells a thread: Python's handlers wait for a solver to return.
    """
    heard, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # loaders are terminated by signals, too

    def leave() -> None:
        while os.read(heard, 1)[0] not in STOP_SIGNALS:
            pass
        time.sleep(seconds)
        os._exit(ASKED)

    threading.Thread(target=leave, daemon=True).start()


if __name__ == "__main__":
    code = 1
    try:
        code = main(Path(sys.argv[1]), tuple(int(index) for index in sys.argv[2:]))
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: what a library still waits for at a program's end would hear no signal.
    os._exit(code)
