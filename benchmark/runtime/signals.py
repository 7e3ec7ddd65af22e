"""What people and clusters ask of a running program: Ctrl-C, SIGTERM and Slurm's USR2 only ask; the work stops itself.

Loops look at :class:`Requests` after each step, batch or part. A library's solver looks at nothing: inside
``requests.at_once()`` the signal itself raises, where the solver calls back into Python, or as soon as it returns.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType


class Interrupted(BaseException):
    """Somebody asked the work to end; what can be gone on from is saved.

    No ``Exception``: a reader that turns every failure into advice must let it pass.
    """


@dataclass
class Requests:
    """What was asked so far. Ctrl-C ends the current run, SIGTERM and USR2 the suite; a second Ctrl-C the command."""

    run_must_end: bool = False
    suite_must_end: bool = False
    _raises: bool = field(default=False, repr=False)

    def next_run(self) -> None:
        """Another run begins: what ended the last one does not end it."""
        self.run_must_end = self.suite_must_end

    def check(self) -> None:
        """Raise :class:`Interrupted` where the run must end."""
        if self.run_must_end:
            raise Interrupted("stopped; what it had is saved")

    def ask(self, *, suite: bool) -> None:
        """A signal came: the run must end, or the whole suite."""
        self.suite_must_end |= suite
        self.run_must_end = True
        if self._raises:
            self._raises = False  # once: the work that it ends may still have something to save
            self.check()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a request raises :class:`Interrupted` wherever Python is; one that came before raises here."""
        self.check()
        before, self._raises = self._raises, True
        try:
            yield
        finally:
            self._raises = before


# USR2 is what Slurm sends before a time limit, and where it takes a node.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@contextmanager
def stop_requests(*, quiet: bool = False) -> Iterator[Requests]:
    """Turn ``STOP_SIGNALS`` into :class:`Requests` while the body runs; the second SIGINT is KeyboardInterrupt.

    ``quiet``: the process that passes a signal on has said what it does.
    """
    requests, own = Requests(), os.getpid()
    # The first one may be answered, and another run begun, before a finger is up again: it counts all the same.
    interrupted = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if os.getpid() != own:  # a loading process, forked from this one, which ends it
            return
        if number == signal.SIGINT and (interrupted or requests.run_must_end):
            requests.suite_must_end = True
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            interrupted = True
            with suppress(RuntimeError):  # the signal came while something was being printed
                if not quiet:
                    print("\ninterrupted: what runs now ends and is kept; Ctrl-C again ends the command", flush=True)
        requests.ask(suite=number != signal.SIGINT)

    before = {number: signal.signal(number, ask) for number in STOP_SIGNALS}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
