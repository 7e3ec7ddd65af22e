"""Real processes of which one fails alone: whatever the others wait in, all end, and the record has the first cause."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from benchmark.running import runner
from benchmark.running.runner import execute_suite
from benchmark.runtime import failures
from benchmark.runtime.errors import UserError
from benchmark.runtime.failures import Failure, Failures
from benchmark.runtime.process import Process, is_lost_peer
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import Suite, load_suite
from results.record import MeasurementRecord, NetworkRecord
from tests.benchmark import ranks

BREAKS = "of this process alone"


def _on_a_group_of_their_own(this: Process) -> None:
    """Sums over processes go another way than what processes tell each other, as NCCL's do on GPUs."""
    apart, whole = dist.new_group(), dist.all_reduce

    def all_reduce(tensor: torch.Tensor, *args: Any, **options: Any) -> Any:
        own = options.pop("group", None)
        told = tensor.numel() == 1 and tensor.dtype == torch.int64
        return whole(tensor, *args, group=own if told else apart, **options)

    dist.all_reduce = all_reduce  # type: ignore[assignment]


def _sums_break(this: Process) -> None:
    """The second process fails where the first is in a sum already, and would wait there for ever."""
    _on_a_group_of_their_own(this)
    apart = dist.all_reduce

    def all_reduce(tensor: torch.Tensor, *args: Any, **options: Any) -> Any:
        if this.rank == 1 and tensor.dtype == torch.float32:
            raise ValueError(BREAKS)
        return apart(tensor, *args, **options)

    dist.all_reduce = all_reduce  # type: ignore[assignment]


def _data_are_not_here(this: Process) -> None:
    """The second process, on another node say, does not see the data."""

    def load(*_: Any, **__: Any) -> Any:
        raise UserError(BREAKS)

    if this.rank == 1:
        runner.load = load


def _work(this: Process, suite: Suite, folder: Path, disturb: Callable[[Process], None]) -> None:
    failures.GRACE_SECONDS = 5.0  # in which the one that fails must have written its record
    disturb(this)
    execute_suite(suite, folder, this, Requests(), retry=False, report=lambda text: None)


@pytest.fixture
def suite(tiny: Path) -> Suite:
    return load_suite(str(tiny), ["method=sfrik_l2"])


def test_one_that_fails_in_training_ends_another_that_waits_for_its_sum(suite: Suite, tmp_path: Path) -> None:
    work = partial(_work, suite=suite, folder=tmp_path / "runs", disturb=_sums_break)
    assert ranks.together(2, work) == [1, 1]
    (path,) = (tmp_path / "runs").glob("*/network.json")
    record = NetworkRecord.read(path)
    assert (record.status, record.message) == ("failed", f"ValueError: {BREAKS}")
    assert BREAKS in (path.parent / "error.txt").read_text()


def test_one_that_fails_in_a_measurement_ends_another_that_waits_for_its_sum(suite: Suite, tmp_path: Path) -> None:
    alone = Process(torch.device("cpu"))
    assert execute_suite(suite, tmp_path / "runs", alone, Requests(), retry=False, report=lambda text: None)
    for path in (tmp_path / "runs").glob("*/measurements/*"):
        path.unlink()
    work = partial(_work, suite=suite, folder=tmp_path / "runs", disturb=_sums_break)
    assert ranks.together(2, work) == [1, 1]
    (path,) = (tmp_path / "runs").glob("*/measurements/*.json")
    record = MeasurementRecord.read(path)
    assert (record.status, record.message) == ("failed", f"process 1 of 2: ValueError: {BREAKS}")
    assert BREAKS in path.with_suffix(".txt").read_text()


def test_one_that_lacks_its_data_is_told_of_by_the_other(
    suite: Suite, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = partial(_work, suite=suite, folder=tmp_path / "runs", disturb=_data_are_not_here)
    assert ranks.together(2, work) == [1, 1]
    assert f"process 0 of 2: ended by process 1 of 2: {BREAKS}\n" in capfd.readouterr().err
    assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (dist.DistNetworkError("Connection reset by peer"), True),
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:525] Connection closed by peer"), True),
        (
            dist.DistBackendError("NCCL error: ...\nncclRemoteError: possibly a network error"),
            True,
        ),
        (dist.DistBackendError("NCCL error: ...\nncclInvalidUsage: Duplicate GPU detected"), False),
        (dist.DistBackendError("NCCL error: ...\nLast error:\nCuda failure 2 'out of memory'"), False),
        (RuntimeError("anything else"), False),
    ],
)
def test_what_nccl_has_against_this_process_is_no_lost_one(error: Exception, lost: bool) -> None:
    assert is_lost_peer(error) is lost


def test_the_first_to_tell_is_told_of_until_all_agree() -> None:
    store = dist.HashStore()
    first, second = Failures(store), Failures(store)
    assert second.first() is None
    assert second.tell(Failure("failed", "b", 1, 2)) == Failure("failed", "b", 1, 2)
    assert first.tell(Failure("failed", "a", 0, 2)) == Failure("failed", "b", 1, 2)
    assert str(first.agreed()) == str(second.agreed()) == "process 1 of 2: b"
    assert first.first() is None
