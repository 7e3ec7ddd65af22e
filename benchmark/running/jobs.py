"""Runs side by side on one machine: jobs, processes that each do one run after the other.

The first process hands runs out, passes on what it is asked to stop, and alone tells what has become of each. A job
that dies loses its run, and another takes its place; none outlives the first process, however that ends.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import torch
from joblib import cpu_count

from benchmark.cost.plan import plan
from benchmark.networks.kinds import Pixels, RandomInit
from benchmark.networks.trained import Trained
from benchmark.runtime.errors import UserError
from benchmark.runtime.output import outlive_readers, spell_out
from benchmark.runtime.process import Process, process
from benchmark.runtime.signals import STOP_SIGNALS, Interrupted, Requests, stop_requests
from benchmark.suite.expand import Suite

# A step that holds no more gains little by a second thread.
SMALL_BYTES = 256e6
# Of memory: a job's libraries, data, and a small step.
JOB_BYTES = 1e9
LOOK_SECONDS, PATIENCE_SECONDS = 0.2, 30.0
_THREADS = "OMP_NUM_THREADS"  # NumPy's libraries go by it, too
# Of a fork neither CUDA is any good, nor the threads of libraries, nor macOS's own.
_SPAWN = get_context("spawn")

T = TypeVar("T")
R = TypeVar("R")
Begin = Callable[[Process, Requests], Callable[[T], R]]


class Lost(str):
    """In words, why an item has no result."""


def how_many(suite: Suite, process: Process) -> int:
    """The jobs that carry a suite out: where none were asked for, the same whatever of it is done already.

    A job's threads are its share of the cores, and with them its roundings. Raises :class:`UserError` where several
    are asked of processes that do each run together.
    """
    asked, workers = suite.execution.jobs, suite.execution.workers
    if process.world_size > 1 and asked not in (None, 1):
        raise UserError(f"jobs: is {asked}, must be 1 where {process.world_size} processes do each run together")
    if asked is not None or process.world_size > 1 or process.device.type != "cpu":
        return asked or 1
    threads = torch.get_num_threads() if _THREADS in os.environ else 1
    cores = cpu_count() // (threads * (1 + workers))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = min(cores, len(suite.cells), int(memory / JOB_BYTES))
    return most if most > 1 and _are_small(suite) else 1


def _are_small(suite: Suite) -> bool:
    """Whether all networks are: trained in small steps on a named data set, or not trained at all."""
    largest: dict[str, Trained] = {}  # by what decides a step's memory beside the method
    for network in (cell.run.network for cell in suite.cells):
        if isinstance(network, Trained):
            alike = network.model_dump_json(include={"data", "augmentation", "batch_size", "backbone", "projector"})
            largest[alike] = max(network, largest.get(alike, network), key=lambda one: one.embedding_dim)
        elif not isinstance(network, Pixels | RandomInit):
            return False
    with suppress(UserError):  # of data of one's own, whose shape only a look can tell
        return all(plan(network, 1).peak_bytes <= SMALL_BYTES for network in largest.values())
    return False


def side_by_side(
    items: Sequence[T], begin: Begin[T, R], device: str, jobs: int, requests: Requests
) -> Generator[tuple[T, R | Lost]]:
    """Each item with what ``begin(process, requests)(item)`` returns in a job, in the order in which they end.

    A request to stop ends the items at work, and one that ends the suite leaves the others. Raises the first
    :class:`UserError` of a job once the others have stopped.
    """
    waiting, failure = deque(items), None
    crew = _Crew(begin, device, jobs)
    try:
        while waiting or crew.at_work:
            if failure or requests.suite_must_end:
                waiting.clear()
                crew.pass_on(signal.SIGTERM)
            elif requests.run_must_end:
                requests.next_run()
                crew.pass_on(signal.SIGINT)
            crew.fill(len(waiting))
            for job in crew.idle[: len(waiting)]:
                job.give(waiting.popleft())
            for item, answer in crew.answers():
                if isinstance(answer, UserError):
                    failure = failure or answer
                else:
                    yield item, answer
        crew.dismiss()
    finally:
        crew.kill()
    if failure:
        raise failure


class _Crew(Generic[T, R]):
    """The jobs that there are."""

    def __init__(self, begin: Begin[T, R], device: str, size: int) -> None:
        self.begin, self.device, self.size = begin, device, size
        self.jobs: list[_Job[T]] = []

    @property
    def at_work(self) -> list[_Job[T]]:
        return [job for job in self.jobs if job.item is not None]

    @property
    def idle(self) -> list[_Job[T]]:
        return [job for job in self.jobs if job.is_ready and job.item is None]

    def fill(self, waiting: int) -> None:
        """Start the jobs that lack, with so many items to be handed out."""
        while len(self.jobs) < min(self.size, waiting + len(self.at_work)):
            number = min(set(range(self.size)) - {job.number for job in self.jobs})
            self.jobs.append(_Job(number, self.size, self.begin, _device(self.device, number)))

    def pass_on(self, number: int) -> None:
        for job in self.at_work:
            job.signal(number)

    def answers(self) -> Iterator[tuple[T, R | Lost | UserError]]:
        """What came within ``LOOK_SECONDS``. Raises :class:`UserError` where a job cannot begin."""
        jobs = {job.end: job for job in self.jobs}
        for job in [jobs[end] for end in wait(list(jobs), LOOK_SECONDS)]:  # type: ignore[index]
            answer = job.hear()
            if job.is_over:
                self.jobs.remove(job)
            if isinstance(answer, Warning):
                warnings.warn(answer, stacklevel=2)
            elif job.item is not None:
                item, job.item = job.item, None
                yield item, answer
            elif isinstance(answer, UserError):
                raise answer
            elif job.is_over and not job.is_ready:
                raise UserError(f"jobs: {answer} before its first run; --set jobs=1 does without")
            job.is_ready = True

    def dismiss(self) -> None:
        """Let all end by themselves."""
        for job in self.jobs:
            job.dismiss()
        for job in self.jobs:
            job.process.join(PATIENCE_SECONDS if job.is_ready else 0)

    def kill(self) -> None:
        for job in self.jobs:
            job.kill()


class _Job(Generic[T]):
    """A process, and the item that it is at."""

    def __init__(self, number: int, jobs: int, *work: Any) -> None:
        self.number, self.is_ready, self.is_ending, self.is_over = number, False, False, False
        self.item: T | None = None
        self.end, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_work, args=(theirs, jobs, *work))
        with _surroundings(jobs):
            self.process.start()
        theirs.close()  # the process has the only one, whose closing tells of its end

    def give(self, item: T) -> None:
        self.item = item
        with suppress(OSError):  # it has just died, as an answer will say
            self.end.send(item)

    def signal(self, number: int) -> None:
        """Pass a request on; of an end one is enough."""
        if not self.is_ending:
            self.is_ending = number == signal.SIGTERM
            os.kill(self.pid, number)  # not yet waited for, the number is nobody else's

    def hear(self) -> Any:
        """What it says, or that it is :class:`Lost`."""
        try:
            return self.end.recv()
        except (EOFError, OSError):
            wait([self.process.sentinel], PATIENCE_SECONDS)  # it may be telling why
            self.kill()
        self.is_over, code = True, self.process.exitcode or 0
        return Lost(f"its job ended {f'by {signal.Signals(-code).name}' if code < 0 else f'with code {code}'}")

    def dismiss(self) -> None:
        """Let it end by itself."""
        with suppress(OSError):
            self.end.send(None)

    def kill(self) -> None:
        """End it, and what it started, at once."""
        with suppress(ProcessLookupError, PermissionError):  # it has no group yet, or has ended
            os.killpg(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.end.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid


@contextmanager
def _surroundings(jobs: int) -> Iterator[None]:
    """What a job begins with: its share of the cores, and deaf to what a terminal sends before it can answer."""
    from submitit.core.utils import environment_variables

    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        with environment_variables(**{_THREADS: os.environ.get(_THREADS, max(1, cpu_count() // jobs))}):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(end: Connection, jobs: int, begin: Begin[T, R], device: str) -> None:
    """A job, from its first instruction to its last."""
    os.setpgid(0, 0)  # what a terminal sends, the first process passes on
    threading.Thread(target=_end_with_first, daemon=True).start()
    spell_out()
    outlive_readers()
    saying = threading.RLock()  # warnings come from any thread

    def say(answer: object) -> None:
        with saying:
            end.send(answer)

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(UserWarning(str(message)))
        try:
            with suppress(EOFError, BrokenPipeError), process(device) as this, stop_requests(quiet=True) as requests:
                do = begin(replace(this, jobs=jobs), requests)
                say(None)
                while (item := end.recv()) is not None:
                    try:
                        answer: object = do(item)
                    except Interrupted as error:
                        answer = Lost(str(error))
                    requests.next_run()  # what came too late for this one does not end the next
                    say(answer)
        except UserError as error:
            say(error)


def _end_with_first() -> None:
    first = parent_process()
    assert first is not None
    first.join()
    os.killpg(0, signal.SIGKILL)


def _device(name: str, number: int) -> str:
    """A job's: GPUs are taken in turn unless one is named."""
    count = torch.cuda.device_count()
    return f"cuda:{number % count}" if count > 1 and name in ("auto", "cuda") else name
