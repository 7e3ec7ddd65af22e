"""One cluster for every test that needs one; skipped with its reason where Slurm is not installed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.stage import Stage, Watched, write_suite
from tests.slurm.theatre import MEASURED, Theatre, opened


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real cluster of seven nodes, and this process a user of it."""
    reason = Cluster.missing()
    if reason:
        pytest.skip(reason)
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    before = dict(os.environ)
    os.environ.update(SLURM_CONF=str(started.configuration), GLOO_SOCKET_IFNAME="lo")
    try:
        started.start()
        yield started
    finally:
        started.stop()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The cluster, a folder for runs, and a suite of one run that lasts long enough to be disturbed."""
    folder = tmp_path_factory.mktemp("stage")
    return Stage(cluster, folder, write_suite(folder, "steady"))


@pytest.fixture(scope="session")
def theatre(stage: Stage) -> Iterator[Theatre]:
    """Every disturbed run, under way."""
    with opened(stage) as theatre:
        yield theatre


@pytest.fixture(scope="session")
def undisturbed(stage: Stage) -> Watched:
    """The run that is not disturbed, done in this process."""
    return stage.only(stage.undisturbed("undisturbed"))


@pytest.fixture(scope="session")
def measured(stage: Stage) -> Watched:
    """The run that is not disturbed as it is measured, done in this process."""
    return stage.only(stage.undisturbed("undisturbed-measured", MEASURED))
