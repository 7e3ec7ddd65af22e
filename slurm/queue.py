"""What Slurm says of jobs: one call of squeue for all of them, and one of sacct for those it has forgotten."""

import subprocess
from collections.abc import Iterable

from benchmark.runtime.errors import UserError

# States a job does not leave by itself. Any other state is that of a job which waits, runs or is about to end.
_FAILED = frozenset(["BOOT_FAIL", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"])
FINISHED = _FAILED | {"CANCELLED", "COMPLETED", "PREEMPTED", "REVOKED"}
RUNNING = frozenset(["RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"])
_PATIENCE_SECONDS = 60


def call(*command: str) -> str:
    """Run one of Slurm's commands. Raises :class:`UserError` in Slurm's own words, or where it does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    except FileNotFoundError:
        what = "there is no Slurm on this machine; use --cluster local, or a login node"
        raise UserError(f"{command[0]}: {what}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: Slurm did not answer for {_PATIENCE_SECONDS} seconds") from None
    if done.returncode:
        # What it complained of, in one line, without its prefixes.
        lines = [line.split("error: ", 1)[-1].strip() for line in done.stderr.splitlines() if line.strip()]
        raise UserError(f"{command[0]}: {'; '.join(dict.fromkeys(lines)) or f'exit code {done.returncode}'}")
    return done.stdout


def jobs() -> list[list[str]]:
    """Id, name, state and reason of every job of this user that the controller remembers, finished ones too."""
    lines = call("squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%j|%T|%r").splitlines()
    return [line.split("|", 3) for line in lines]


def accounted(ids: Iterable[str]) -> dict[str, str]:
    """The states of jobs from Slurm's accounting, by job id; nothing where there is no accounting."""
    wanted = ",".join(sorted({job.partition("_")[0] for job in ids}))
    if not wanted:
        return {}
    try:
        lines = call("sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", wanted).splitlines()
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
