"""On a real cluster: time limits.

Looked at last, for Slurm counts them in minutes: the other tests go on meanwhile.
"""

from __future__ import annotations

from functools import partial

import pytest

from benchmark.running import attempts
from slurm.manifest import submissions
from tests.patience import PATIENCE, wait_for
from tests.slurm.stage import Watched
from tests.slurm.theatre import Theatre, check_kept, check_whole

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def test_the_time_limit_again_and_again(theatre: Theatre, undisturbed: Watched) -> None:
    run, records = theatre.runs["limited"], theatre.ended["limited"].result(PATIENCE)
    check_whole(run, records, undisturbed)
    assert run.ends()[:3] == ["asked to stop"] * 3
    assert attempts.count(run.folder) >= 4


def test_a_time_limit_shorter_than_a_measurement_costs_the_time(theatre: Theatre, measured: Watched) -> None:
    run, records = theatre.runs["measured-limited"], theatre.ended["measured-limited"].result(PATIENCE)
    check_whole(run, records, measured)
    check_kept(run)
    assert run.ends()[:2] == ["asked to stop"] * 2
    train, measure = submissions(run.runs)
    assert (train.stage, measure.stage, measure.after) == ("train", "measure", train.name)
    assert (train.resources.gpus_per_node, measure.resources.gpus_per_node) == (0, 1)
    starts = [event["job"] for event in attempts.read(run.folder) if event["event"] == "start"]
    assert starts[0] == f"{train.jobs[0]}_0"
    assert set(starts[1:]) == {f"{measure.jobs[0]}_0"}
    assert len(starts) >= 4


def test_nothing_is_left_in_the_queue(theatre: Theatre) -> None:
    for future in theatre.ended.values():
        future.result(PATIENCE)
    queue = partial(theatre.stage.cluster.run, "squeue", "-h", "-o", "%j")
    wait_for(lambda: not any(name in queue() for name in _names(theatre)), what="an empty queue", every=0.5)


def _names(theatre: Theatre) -> list[str]:
    return [submission.name for run in theatre.runs.values() for submission in submissions(run.runs)]
