"""On a real cluster: whatever disturbs a run, it runs once at a time and its figures are the undisturbed run's."""

from __future__ import annotations

import pytest

from benchmark.running import attempts
from tests.benchmark import ranks
from tests.slurm.stage import LOG_EVERY, PATIENCE, Stage, Watched, figures, losses
from tests.slurm.theatre import LONG_EPOCHS, Theatre, check_whole

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

# In its first step, which comes again after a requeue, DistributedDataParallel adds the ranks' gradients in another
# order than later. Seen after 27 more steps: 2e-7 in the loss, 3e-5 in a figure, no image in an accuracy.
FLOAT_ERROR = 2e-5
TWO_IMAGES = 2 / 500
DISTURBED = ("preempted", "requeued", "killed", "node", "damaged", "disk", "cancelled")


@pytest.mark.parametrize("name", DISTURBED)
def test_a_disturbed_run_ends_like_the_undisturbed_one(theatre: Theatre, undisturbed: Watched, name: str) -> None:
    run, record = theatre.runs[name], theatre.ended[name].result(PATIENCE)
    check_whole(run, record, undisturbed)
    assert record.provenance.attempts == 2
    assert record.provenance.slurm_job is not None


def test_the_ends_are_told_apart(theatre: Theatre) -> None:
    for name in ("preempted", "killed", "disk"):
        theatre.ended[name].result(PATIENCE)
    assert theatre.runs["preempted"].ends() == ["asked to stop"]
    assert theatre.runs["killed"].ends() == ["killed by SIGKILL"]
    assert theatre.runs["disk"].ends() == ["no space left on the disk"]


def test_the_damaged_checkpoint_was_set_aside(theatre: Theatre) -> None:
    theatre.ended["damaged"].result(PATIENCE)
    assert len(list(theatre.runs["damaged"].folder.glob("checkpoints/*.damaged"))) == 1


def test_two_nodes_preempted_in_mid_epoch(theatre: Theatre, stage: Stage) -> None:
    settings = [part for assignment in LONG_EPOCHS for part in ("--set", assignment)]
    done = ranks.run(stage.suite, stage.folder / "undisturbed-several", "4", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    undisturbed = stage.only(stage.folder / "undisturbed-several" / "4")
    run, record = theatre.runs["several"], theatre.ended["several"].result(PATIENCE)
    expected = undisturbed.record()
    assert expected is not None
    assert record.status == "done", record.message
    assert (record.provenance.world_size, record.provenance.attempts) == (4, 2)
    (end,) = [event for event in attempts.read(run.folder) if event["event"] == "end"]
    assert end["why"] == "asked to stop"
    assert end["step"] % 16 != 0, "not in mid-epoch"
    ours, theirs = losses(run.folder), losses(undisturbed.folder)
    assert ours[: end["step"]] == theirs[: end["step"]]
    assert [step for step, _ in ours] == [step for step, _ in theirs]
    assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in theirs], rel=FLOAT_ERROR)
    for metric, (value, _) in figures(expected).items():
        assert figures(record)[metric][0] == pytest.approx(value, rel=1e-3, abs=TWO_IMAGES)


def test_no_line_is_logged_twice(theatre: Theatre, undisturbed: Watched) -> None:
    for name in DISTURBED:
        theatre.ended[name].result(PATIENCE)
        steps = [line["step"] for line in theatre.runs[name].lines()]
        assert steps == list(range(LOG_EVERY, steps[-1] + 1, LOG_EVERY))
