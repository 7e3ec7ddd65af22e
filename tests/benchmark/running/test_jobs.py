"""Runs side by side: with the figures of one after the other, and with nothing left behind, whatever ends them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmark.running import jobs
from benchmark.running.jobs import how_many, side_by_side
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests, stop_requests
from benchmark.suite.expand import load_suite
from results.record import NetworkRecord, write_atomically
from tests.patience import PATIENCE, is_alive, wait_for

CPU = torch.device("cpu")
# In place of jobs that begin afresh, and load torch for seconds, as two do that carry runs out, and one whose first
# process is killed.
FORK = multiprocessing.get_context("fork")


def _figures(folder: Path) -> dict[str, object]:
    """All that does not depend on time: losses and metrics, by their files."""
    logs = {path: path.read_text().splitlines() for path in folder.glob("*/metrics.jsonl")}
    curves = {path: [json.loads(line)["loss"] for line in lines] for path, lines in logs.items()}
    measured = {path: json.loads(path.read_text())["metrics"] for path in folder.glob("*/measurements/*.json")}
    return {str(path.relative_to(folder)): found for path, found in (curves | measured).items()}


@pytest.mark.usefixtures("no_figures")
def test_two_jobs_find_what_one_process_does(undisturbed: Path, tiny: Path, tmp_path: Path, spherebench) -> None:
    result = spherebench("run", tiny, "--out", tmp_path / "runs", "--set", "jobs=2")
    assert result.exit_code == 0, result.output
    first, *told = result.output.splitlines()
    assert first == f"tiny: 2 runs, 0 recorded in {tmp_path / 'runs'}, 2 at a time"
    assert [line.partition(" ")[0] for line in told[:2]] == ["[1/2]", "[2/2]"]
    assert _figures(tmp_path / "runs") == _figures(undisturbed)
    assert "threads=1, processes=1, jobs=2**" in (tmp_path / "runs" / "tables" / "cost.md").read_text()
    records = [NetworkRecord.read(path) for path in (tmp_path / "runs").glob("*/network.json")]
    assert [(record.provenance.jobs, record.provenance.threads) for record in records] == [(2, 1), (2, 1)]


ONE = "method=sfrik_l2", "embedding_dim=1024", "seed=0"


@pytest.mark.parametrize(
    ("name", "assignments", "threads", "expected"),
    [
        ("digits", (), None, 4),
        ("digits", (), 2, 2),
        ("digits", ("workers=1",), None, 2),
        ("digits", ("jobs=9",), 2, 9),
        ("digits", (*ONE, "backbone.width=512"), None, 1),  # no small one
        ("digits", ONE, None, 3),  # of it and two baselines
        ("regime_spirals", (), None, 1),  # fits, of which nobody knows
    ],
)
def test_jobs_are_as_many_as_the_cores_where_all_networks_are_small(
    monkeypatch: pytest.MonkeyPatch, name: str, assignments: tuple[str, ...], threads: int | None, expected: int
) -> None:
    monkeypatch.setattr(jobs, "cpu_count", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))  # read as torch is loaded
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert how_many(load_suite(name, assignments), Process(CPU)) == expected


def test_on_a_gpu_and_where_processes_do_a_run_together_there_is_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "cpu_count", lambda: 4)
    suite, asked = load_suite("digits"), load_suite("digits", ["jobs=8"])
    assert [how_many(one, Process(torch.device("cuda"))) for one in (suite, asked)] == [1, 8]
    assert how_many(suite, Process(CPU, world_size=2)) == 1
    with pytest.raises(UserError, match="jobs: is 8, must be 1 where 2 processes do each run together"):
        how_many(asked, Process(CPU, world_size=2))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [jobs._device("auto", number) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [jobs._device(name, 1) for name in ("cpu", "cuda:0")] == ["cpu", "cuda:0"]


# ---- jobs by themselves: items are files, whose names say what is done


def _begin(process: Process, requests: Requests) -> Callable[[Path], str]:
    return partial(_do, requests)


def _do(requests: Requests, item: Path) -> str:
    if item.name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if item.name == "refuses":
        wait_for((item.parent / "waits").exists)
        raise UserError("its record is of a newer version")
    if item.name.startswith("waits"):
        write_atomically(item, str(os.getpid()).encode())
        wait_for(lambda: requests.run_must_end, every=0.01)
        return "ended with its suite" if requests.suite_must_end else "ended"
    return "done"


def test_a_job_that_dies_is_told_and_bad_input_once_the_others_have_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_SPAWN", FORK)
    items = [tmp_path / name for name in ("dies", "a", "refuses", "waits", "never")]
    found: dict[str, str] = {}
    with pytest.raises(UserError, match="its record is of a newer version"):
        found.update((item.name, told) for item, told in side_by_side(items, _begin, "cpu", 2, Requests()))
    assert found == {"dies": "its job ended by SIGKILL", "a": "done", "waits": "ended with its suite"}


def _first(folder: Path, size: int) -> None:
    """An item more than there are jobs, in a session of its own, as of a terminal; it leaves what becomes of each."""
    os.setsid()
    items = [folder / f"waits-{number}" for number in range(size + 1)]
    with stop_requests() as requests:
        for item, told in side_by_side(items, _begin, "cpu", size, requests):
            item.with_suffix(".told").write_text(told)


@pytest.mark.parametrize(
    ("numbers", "size", "told", "code"),
    [
        ((signal.SIGINT, signal.SIGINT), 1, {"waits-0": "ended"}, 1),  # what runs; then the command, whatever runs
        ((signal.SIGTERM,), 2, {"waits-0": "ended with its suite", "waits-1": "ended with its suite"}, 0),
        ((signal.SIGKILL,), 1, {}, -signal.SIGKILL),
    ],
)
def test_no_job_outlives_the_first_process(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    numbers: tuple[int, ...],
    size: int,
    told: dict[str, str],
    code: int,
) -> None:
    if code != -signal.SIGKILL:
        monkeypatch.setattr(jobs, "_SPAWN", FORK)
    first = FORK.Process(target=_first, args=(tmp_path, size))
    first.start()
    assert first.pid is not None
    for begun, number in enumerate(numbers, size):
        wait_for(lambda begun=begun: len(list(tmp_path.glob("waits-?"))) == begun)
        pids = {int(path.read_text()) for path in tmp_path.glob("waits-?")}
        os.killpg(first.pid, number)
    first.join(PATIENCE)
    wait_for(lambda: not any(map(is_alive, pids)))
    assert {path.stem: path.read_text() for path in tmp_path.glob("*.told")} == told
    assert first.exitcode == code
