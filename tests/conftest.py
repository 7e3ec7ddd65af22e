"""Settings of every test.

One thread a process, the same examples of every property in every run, a cache of their own, and which tests share a
process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the user's cache knows of data is neither read nor written."""
    with pytest.MonkeyPatch.context() as patch:
        if "MPLCONFIGDIR" not in os.environ:  # matplotlib would look through all fonts again
            home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
            patch.setenv("MPLCONFIGDIR", str(Path(home) / "matplotlib"))
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process, which makes their fixtures once; so do all that need the one cluster."""
    for item in items:
        on_cluster = {"slurm", "soak"} & {mark.name for mark in item.iter_markers()}
        item.add_marker(pytest.mark.xdist_group("cluster" if on_cluster else item.nodeid.partition("::")[0]))
