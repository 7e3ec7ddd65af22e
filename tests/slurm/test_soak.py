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
from results.record import RECORD_NAME, Record
from slurm.manifest import submissions
from slurm.survey import LIVE, survey
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
    for pid in _one_of(processes(str(submissions(run.runs)[-1].folder), "submitit.core._submit"), draw):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _one_of(found: list[T], draw: random.Random) -> list[T]:
    return draw.sample(found, k=min(1, len(found)))


def _suite(stage: Stage, name: str, runs: int) -> Path:
    seeds = ", ".join(map(str, range(runs)))
    return write_suite(stage.folder, name, ("seed: [0]", f"seed: [{seeds}]"), ("epochs: 40", "epochs: 20"))


def _wait_for_all(run: Watched) -> list[Record]:
    until = time.monotonic() + _SECONDS_TO_FINISH
    while any(standing.state in LIVE for standing in survey(run.runs).values()):
        assert time.monotonic() < until
        time.sleep(5)
    return [Record.read(path) for path in run.runs.glob(f"*/{RECORD_NAME}")]


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
    records = _wait_for_all(run)
    assert len(records) == _RUNS
    given_up = [record for record in records if record.status != "done"]
    # A run that was struck three times before its first checkpoint is given up: it says so, and can be brought back.
    assert all("without getting further" in record.message for record in given_up)
    if given_up:
        stage.command("retry", run.runs)
        records = _wait_for_all(run)
    assert [record.status for record in records] == ["done"] * _RUNS
    assert all(attempts.count(run.runs / record.id) == record.provenance.attempts for record in records)
    struck = sum(record.provenance.attempts > 1 for record in records)
    print(f"{struck} of {_RUNS} runs took more than one attempt; {len(given_up)} were given up and brought back")
    assert struck > _RUNS // 10, "hardly a fault hit anything"
    here = replace(stage, suite=_suite(stage, "soak-here", _COMPARED)).undisturbed("soak-here")
    expected = [Record.read(path) for path in here.glob(f"*/{RECORD_NAME}")]
    assert len(expected) == _COMPARED
    by_id = {record.id: record for record in records}
    assert all(figures(by_id[record.id]) == figures(record) for record in expected)
