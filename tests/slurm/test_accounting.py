"""With slurmdbd and MariaDB: the real sacct, for jobs that the controller has forgotten, and a cluster by its name.

Tasks are bound to their CPUs there, as on most clusters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.manifest import submissions
from slurm.queue import accounted
from slurm.survey import survey
from tests.patience import wait_for
from tests.slurm.cluster import Cluster
from tests.slurm.stage import Stage, write_suite

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def accounting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose controller forgets a finished job after two seconds, with accounting."""
    reason = Cluster.missing(accounting=True)
    if reason:
        pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("accounting"), accounting=True, bound=True, forget_seconds=2)
    before = dict(os.environ)
    os.environ.update(SLURM_CONF=str(cluster.configuration), GLOO_SOCKET_IFNAME="lo")
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
    wait_for(lambda: not accounting.run("squeue", "-h", "-t", "all", check=False).strip(), every=0.5)
    wait_for(lambda: accounted([job]) == {f"{job}_0": "CANCELLED"}, what="sacct", every=0.5)
    assert survey(run.runs)[run.folder.name].state == "cancelled"


def test_a_task_has_the_cores_that_it_asked_for(accounting: Cluster, tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU")
    stage = Stage(accounting, tmp_path, write_suite(tmp_path, "long", ("epochs: 40", "epochs: 4000")))
    run = stage.watch("bound", "cpus_per_task=2")
    (pid,) = run.freeze(4)
    assert len(os.sched_getaffinity(pid)) == 2
    assert stage.command("cancel", "bound").stdout.startswith("cancelled 1 runs")
    run.thaw([pid])
    run.wait_for_state("CANCELLED", "")


def test_a_cluster_by_its_name(accounting: Cluster, tmp_path: Path) -> None:
    stage = Stage(accounting, tmp_path, write_suite(tmp_path, "steady"))
    profile = tmp_path / "there.yaml"
    profile.write_text("description: never begins\nsbatch: {hold: true, clusters: test}\n")
    run = stage.watch("there", cluster=str(profile))
    (submission,) = submissions(run.runs)
    assert (submission.cluster, submission.jobs[0].isdigit()) == ("test", True)
    assert survey(run.runs)[run.folder.name].state == "pending"
    submission.model_copy(update={"cluster": "nowhere"}).write()
    standing = survey(run.runs)[run.folder.name]
    assert standing.state == "unknown"
    assert standing.detail.startswith("cluster nowhere cannot be asked: squeue: No cluster 'nowhere' known by database")
    again = stage.command("submit", stage.suite, "--cluster", profile, "--out", "there").stdout
    assert "left out 1: unknown" in again
    submission.write()
    assert "cancelled 1 runs" in stage.command("cancel", "there").stdout
