"""What Slurm says of jobs: one call of squeue for all of them, and one of sacct for those it has forgotten.

A command that fails once may be answered a second later: what only asks is asked again, after growing pauses.
"""

import os
import pwd
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from benchmark.runtime.errors import UserError

T = TypeVar("T")

# States a job does not leave by itself. Any other state is that of a job which waits, runs or is about to end.
_FAILED = frozenset(["BOOT_FAIL", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"])
FINISHED = _FAILED | {"CANCELLED", "COMPLETED", "PREEMPTED", "REVOKED"}
RUNNING = frozenset(["RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"])
_PATIENCE_SECONDS = 60
# How long somebody who looks at a terminal waits for an answer at the second try.
ASKING_SECONDS = 10.0
_LONGEST_PAUSE = 60.0
# Answers that the next try would only repeat, and those after which a command that changes something may be repeated.
_FINAL = re.compile(r"invalid|denied|disabled|not permitted|configuration source", re.IGNORECASE)
_TEMPORARY = re.compile(
    r"tim(ed|e) ?out|did not answer|unable to contact|connect|temporar|try again|zero bytes|transport|communication"
    r"|socket|send/recv|backup controller|not responding",
    re.IGNORECASE,
)


class NoAnswer(UserError):
    """One of Slurm's commands failed, or did not answer."""

    @property
    def is_temporary(self) -> bool:
        """Whether it is about the way to the controller, not about what was asked."""
        return bool(_TEMPORARY.search(str(self))) and not self.is_final

    @property
    def is_final(self) -> bool:
        """Whether the next try would only repeat it."""
        return bool(_FINAL.search(str(self)))


def call(*command: str) -> str:
    """Run one of Slurm's commands, once.

    Raises :class:`NoAnswer` in Slurm's own words, or where it does not answer; :class:`UserError` without Slurm.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    except FileNotFoundError:
        what = "there is no Slurm on this machine; use --cluster local, or a login node"
        raise UserError(f"{command[0]}: {what}") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{command[0]}: Slurm did not answer for {_PATIENCE_SECONDS} seconds") from None
    if done.returncode:
        # What it complained of, in one line, without its prefixes.
        lines = [line.split("error: ", 1)[-1].strip() for line in done.stderr.splitlines() if line.strip()]
        raise NoAnswer(f"{command[0]}: {'; '.join(dict.fromkeys(lines)) or f'exit code {done.returncode}'}")
    return done.stdout


def ask(seconds: float, *command: str) -> str:
    """What a command says that may be given any number of times, tried again for so long while it fails."""
    return patiently(seconds, lambda: call(*command), lambda error: not error.is_final)


def patiently(seconds: float, act: Callable[[], T], again: Callable[[NoAnswer], bool]) -> T:
    """``act``, tried again for ``seconds`` after pauses of one second, two, four, ... while ``again`` allows it."""
    until, pause = time.monotonic() + seconds, 1.0
    while True:
        try:
            return act()
        except NoAnswer as error:
            if not again(error) or time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def jobs() -> list[list[str]]:
    """Id, name, state and reason of every job of this user that the controller remembers, finished ones too."""
    return _queued("--me")


def others_jobs(cluster: str, names: Iterable[str]) -> list[list[str]]:
    """The same of the jobs of these names, whosesoever they are, on another cluster, or on this one: ``''``."""
    return _queued(*on(cluster), f"--name={','.join(names)}")


def _queued(*which: str) -> list[list[str]]:
    # The name comes last: it may hold anything, which a split before it does not touch.
    lines = ask(ASKING_SECONDS, "squeue", *which, "-h", "-r", "-t", "all", "-o", "%i|%T|%r|%j").splitlines()
    found = [line.split("|", 3) for line in lines if line.count("|") >= 3]
    return [[job, name, state, reason] for job, state, reason, name in found]


def on(cluster: str) -> tuple[str, ...]:
    """The option that has a command of Slurm ask another cluster."""
    return (f"--clusters={cluster}",) if cluster else ()


def configuration(cluster: str = "") -> dict[str, str]:
    """The settings of a cluster's controller. Raises :class:`UserError` where it cannot be asked."""
    lines = ask(ASKING_SECONDS, "scontrol", *on(cluster), "show", "config").splitlines()
    pairs = (line.partition("=") for line in lines)
    return {key.strip(): value.strip() for key, sign, value in pairs if sign}


def user() -> str:
    """Who submits, as Slurm names him; a number where the machine has no name for it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def accounted(ids: Iterable[str], cluster: str = "") -> dict[str, str]:
    """The states of jobs from Slurm's accounting, by job id; nothing where there is no accounting."""
    wanted = ",".join(sorted({job.partition("_")[0] for job in ids}))
    if not wanted:
        return {}
    command = ("sacct", *on(cluster), "-a", "-X", "-n", "-P", "-o", "JobID,State", "-j", wanted)
    try:
        lines = ask(ASKING_SECONDS, *command).splitlines()
    except UserError:
        return {}
    pairs = (line.split("|", 1) for line in lines if "|" in line)
    return {job: state.split()[0] for name, state in pairs for job in _elements(name)}


def _elements(name: str) -> list[str]:
    """The jobs that sacct names together, as ``7_[0,2-3%2]``: elements of an array that never began."""
    array, _, listed = name.removesuffix("]").partition("_[")
    ranges = [part.partition("-") for part in listed.partition("%")[0].split(",") if part]
    places = [place for first, _, last in ranges for place in range(int(first), int(last or first) + 1)]
    return [f"{array}_{place}" for place in places] or [name]
