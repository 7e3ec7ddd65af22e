"""A hundred short runs under random faults for ten minutes: a hundred records, each as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from benchmark.running import attempts
from results.record import NETWORK_NAME
from slurm.manifest import submissions
from slurm.survey import LIVE, Standing, survey
from tests.slurm.stage import Stage, Watched, figures, processes, write_suite

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

T = TypeVar("T")

_RUNS, _COMPARED = 100, 10
# Two cores start four of them in a quarter of a minute, which is how long a run is in reach of a fault.
_AT_ONCE = 4
_SECONDS_OF_FAULTS = 600
_SECONDS_TO_FINISH = 2400


def _jobs(run: Watched) -> list[str]:
    return run.cluster.run("squeue", "-h", "-r", "-t", "running", "-o", "%i").split()


def _tell(run: Watched, *command: str) -> None:
    """Ask Slurm for something that it may refuse, or keep to itself for long, of a job that just starts or ends."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.cluster.run(*command, check=False)


def _requeue(run: Watched, draw: random.Random) -> None:
    for job in _one_of(_jobs(run), draw):
        _tell(run, "scontrol", "requeue", job)


def _signal(run: Watched, draw: random.Random) -> None:
    for job in _one_of(_jobs(run), draw):
        _tell(run, "scancel", "--signal=USR2", job)


def _kill(run: Watched, draw: random.Random) -> None:
    for pid in _one_of(processes(str(submissions(run.runs)[-1].folder), "slurm.job"), draw):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _one_of(found: list[T], draw: random.Random) -> list[T]:
    return draw.sample(found, k=min(1, len(found)))


def _suite(stage: Stage, name: str, runs: int) -> Path:
    seeds = ", ".join(map(str, range(runs)))
    return write_suite(stage.folder, name, ("seed: [0]", f"seed: [{seeds}]"), ("epochs: 40", "epochs: 20"))


def _wait_for_all(run: Watched) -> list[Standing]:
    """Wait until none waits or runs; returns where they stand."""
    until = time.monotonic() + _SECONDS_TO_FINISH
    found = list(survey(run.runs).values())
    while any(standing.state in LIVE for standing in found):
        assert time.monotonic() < until
        time.sleep(5)
        found = list(survey(run.runs).values())
    return found


def test_a_hundred_runs_under_random_faults(stage: Stage) -> None:
    suite = _suite(stage, "soak", _RUNS)
    profile = stage.folder / "few.yaml"
    profile.write_text(f"description: few at once\njobs_at_once: {_AT_ONCE}\n")
    run = replace(stage, suite=suite).watch("soak", cluster=str(profile))
    draw = random.Random(0)
    until = time.monotonic() + _SECONDS_OF_FAULTS
    while time.monotonic() < until:
        time.sleep(draw.uniform(2, 8))
        draw.choice([_requeue, _signal, _kill])(run, draw)
    found = _wait_for_all(run)
    assert len(found) == _RUNS
    given_up = [standing for standing in found if standing.state != "done"]
    # What was struck three times before it saved anything is given up, or left to the next submit where it was asked.
    told = [(standing.state, standing.detail) for standing in given_up]
    assert not [t for t in told if "without getting further" not in t[1] and t != ("interrupted", "asked to stop")]
    if given_up:
        stage.command("retry", run.runs)
        found = _wait_for_all(run)
    assert [standing.state for standing in found] == ["done"] * _RUNS
    struck = sum(attempts.count(run.runs / standing.run) > 1 for standing in found)
    measuring = sum("step 80" in event.get("kept", "") for s in found for event in attempts.read(run.runs / s.run))
    print(f"{struck} of {_RUNS} runs took more than one attempt, {measuring} ends were in a measurement; ", end="")
    print(f"{len(given_up)} were given up and brought back")
    assert struck > _RUNS // 10, "hardly a fault hit anything"
    here = replace(stage, suite=_suite(stage, "soak-here", _COMPARED)).undisturbed("soak-here")
    expected = sorted(here.glob(f"*/{NETWORK_NAME}"))
    assert len(expected) == _COMPARED
    assert all(figures(run.runs / path.parent.name) == figures(path.parent) for path in expected)
