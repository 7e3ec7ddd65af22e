"""Settings of every test.

One thread a process and one run at a time, the same examples of every property in every run, a cache of their own,
which tests share a process, and that no process outlives them.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.patience import MARK, end_marked

# Begun first, with those of Slurm: few tests that take tens of seconds, and what begins last is what all wait for.
LONG = (
    *("test_contract", "test_disturbed_measurements", "test_pages", "test_plan", "test_published_suites"),
    *("test_ranks", "test_run_command", "test_tracking", "test_wheel"),
)

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["LOKY_MAX_CPU_COUNT"] = "1"  # what joblib goes by
# A hundred processes load torch, in half the time where its bytecode is kept: that of these tests' environment is.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.fsync = lambda file: None  # of the thousands that are written none is to outlive a power cut
gc.disable()  # until all is collected: libraries and thousands of tests, which stay


def pytest_configure(config: pytest.Config) -> None:
    # Behind a shell's ``&`` SIGINT is ignored, by every process that is started from here, too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        os.environ[MARK] = str(os.getpid())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that a test left behind is killed, and told as a failure."""
    if hasattr(session.config, "workerinput"):
        return
    for pid, line in end_marked(str(os.getpid()), seconds=20).items():
        print(f"\nleft behind, and killed: process {pid}: {line}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


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


def pytest_collection_finish() -> None:
    """No garbage collection looks through libraries and tests again; the product asks for one after every training."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or what is left at the end is told of, as leaks of triton
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process, which makes their fixtures once; so do all that need the one cluster."""
    items.sort(key=lambda item: not item.path.match("tests/slurm/*") and item.path.stem not in LONG)
    for item in items:
        on_cluster = {"slurm", "soak"} & {mark.name for mark in item.iter_markers()}
        item.add_marker(pytest.mark.xdist_group("cluster" if on_cluster else item.nodeid.partition("::")[0]))
