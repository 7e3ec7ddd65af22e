"""Settings of every test.

One thread a process, the same examples of every property in every run, and which tests share a process.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process, which makes their fixtures once; so do all that need the one cluster."""
    for item in items:
        on_cluster = {"slurm", "soak"} & {mark.name for mark in item.iter_markers()}
        item.add_marker(pytest.mark.xdist_group("cluster" if on_cluster else item.nodeid.partition("::")[0]))
