"""A hundred short runs under random faults for ten minutes: a hundred records, none of them twice at work."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from benchmark import attempts
from results.record import RECORD_NAME, Record
from slurm.manifest import submissions
from slurm.survey import LIVE, survey
from tests.slurm.stage import Stage, Watched, processes, write_suite

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

_SECONDS_OF_FAULTS = 600
_SECONDS_TO_FINISH = 2400


def _victims(run: Watched) -> list[str]:
    return run.cluster.run("squeue", "-h", "-r", "-t", "running", "-o", "%i").split()


def _requeue(run: Watched, draw: random.Random) -> None:
    for job in draw.sample(_victims(run), k=min(1, len(_victims(run)))):
        run.cluster.run("scontrol", "requeue", job, check=False)


def _signal(run: Watched, draw: random.Random) -> None:
    for job in _victims(run)[:1]:
        run.cluster.run("scancel", "--signal=USR2", job, check=False)


def _kill(run: Watched, draw: random.Random) -> None:
    pids = processes(str(submissions(run.runs)[-1].folder), "submitit.core._submit")
    for pid in draw.sample(pids, k=min(1, len(pids))):
        os.kill(pid, signal.SIGKILL)


def test_a_hundred_runs_under_random_faults(stage: Stage) -> None:
    suite = write_suite(stage.folder, "soak", ("seed: [0]", f"seed: [{', '.join(map(str, range(100)))}]"))
    soaking = Stage(stage.cluster, stage.folder, suite)
    run = soaking.watch("soak", settings=["epochs=20"])
    draw = random.Random(0)
    until = time.monotonic() + _SECONDS_OF_FAULTS
    while time.monotonic() < until:
        time.sleep(draw.uniform(2, 8))
        draw.choice([_requeue, _signal, _kill])(run, draw)
    until = time.monotonic() + _SECONDS_TO_FINISH
    while any(standing.state in LIVE for standing in survey(run.runs).values()):
        assert time.monotonic() < until
        time.sleep(5)
    records = [Record.read(path) for path in run.runs.glob(f"*/{RECORD_NAME}")]
    assert len(records) == 100
    # A run that was struck three times before its first step is given up, which is no loss: it says so.
    assert all(record.status == "done" or "without getting further" in record.message for record in records)
    assert all(attempts.count(run.runs / record.id) == record.provenance.attempts for record in records)
