"""With slurmdbd and MariaDB the real sacct answers, for jobs that the controller has forgotten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.manifest import submissions
from slurm.queue import accounted
from slurm.survey import survey
from tests.slurm.cluster import Cluster, wait_for
from tests.slurm.stage import PATIENCE, Stage, write_suite

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


@pytest.fixture
def accounting(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose controller forgets a finished job after two seconds, with accounting."""
    reason = Cluster.missing(accounting=True)
    if reason:
        pytest.skip(reason)
    cluster = Cluster(tmp_path / "cluster", accounting=True, forget_seconds=2)
    before = dict(os.environ)
    os.environ["SLURM_CONF"] = str(cluster.configuration)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        os.environ.clear()
        os.environ.update(before)


def test_sacct_tells_of_a_job_that_the_controller_has_forgotten(accounting: Cluster, tmp_path: Path) -> None:
    stage = Stage(accounting, tmp_path, write_suite(tmp_path, "steady"))
    # Held until it is cancelled: nothing of the run is ever written, so only Slurm can tell.
    profile = tmp_path / "held.yaml"
    profile.write_text("description: never begins\nsbatch: {hold: true}\n")
    run = stage.watch("held", cluster=str(profile))
    (job,) = submissions(run.runs)[0].jobs
    assert survey(run.runs)[run.folder.name].state == "pending"
    accounting.run("scancel", job)
    wait_for(PATIENCE, lambda: not accounting.run("squeue", "-h", "-t", "all", check=False).strip(), every=0.5)
    wait_for(30, lambda: accounted([job]) == {f"{job}_0": "CANCELLED"}, what="sacct", every=0.5)
    assert survey(run.runs)[run.folder.name].state == "cancelled"
