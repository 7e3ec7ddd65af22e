"""Runs side by side: with the figures of one after the other, and with nothing left behind, whatever ends them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmark.running import jobs
from benchmark.running.jobs import Lost, how_many, side_by_side
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests, stop_requests
from benchmark.suite.expand import load_suite
from results.record import NetworkRecord
from tests.patience import PATIENCE, is_alive, wait_for

CPU = torch.device("cpu")


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
        ("digits", (), "2", 2),
        ("digits", ("workers=1",), None, 2),
        ("digits", ("jobs=9",), "2", 9),
        ("digits", (*ONE, "backbone.width=512"), None, 1),  # no small one
        ("digits", ONE, None, 3),  # of it and two baselines
        ("regime_spirals", (), None, 1),  # fits, of which nobody knows
    ],
)
def test_jobs_are_as_many_as_the_cores_where_all_networks_are_small(
    monkeypatch: pytest.MonkeyPatch, name: str, assignments: tuple[str, ...], threads: str | None, expected: int
) -> None:
    monkeypatch.setattr(jobs, "cpu_count", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
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
        item.write_text(str(os.getpid()))
        while not requests.run_must_end:
            time.sleep(0.01)
        return "ended with its suite" if requests.suite_must_end else "ended"
    return "done"


def test_a_job_that_dies_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    items = [tmp_path / name for name in ("dies", "a", "b", "c")]
    found = {item.name: answer for item, answer in side_by_side(items, _begin, "cpu", 2, Requests())}
    assert found == {"dies": "its job ended by SIGKILL", "a": "done", "b": "done", "c": "done"}
    assert isinstance(found["dies"], Lost)


def test_bad_input_that_one_meets_is_told_once_the_others_have_stopped(tmp_path: Path) -> None:
    answers = side_by_side([tmp_path / name for name in ("refuses", "waits", "never")], _begin, "cpu", 2, Requests())
    found: dict[str, str] = {}
    with pytest.raises(UserError, match="its record is of a newer version"):
        found.update((item.name, answer) for item, answer in answers)
    assert found == {"waits": "ended with its suite"}


def _first(folder: Path) -> None:
    """Three items with two jobs, in a session of its own, as of a terminal; what becomes of each is left in a file."""
    os.setsid()
    items = [folder / f"waits-{number}" for number in range(3)]
    with stop_requests() as requests:
        for item, answer in side_by_side(items, _begin, "cpu", 2, requests):
            item.with_suffix(".told").write_text(answer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_first_process_ends_them_all(tmp_path: Path, number: int) -> None:
    """SIGINT ends what runs, and the second one, of whatever run it is, the command."""
    first = multiprocessing.get_context("fork").Process(target=_first, args=(tmp_path,))
    first.start()
    assert first.pid is not None
    wait_for(lambda: len(list(tmp_path.glob("waits-?"))) == 2)
    pids = {int(path.read_text()) for path in tmp_path.glob("waits-?")}
    os.killpg(first.pid, number)
    if number == signal.SIGINT:
        wait_for(lambda: len(list(tmp_path.glob("*.told"))) == 2 and (tmp_path / "waits-2").exists())
        os.killpg(first.pid, number)
    first.join(PATIENCE)
    wait_for(lambda: not any(map(is_alive, pids)))
    told = {path.stem: path.read_text() for path in tmp_path.glob("*.told")}
    both = {"waits-0", "waits-1"}
    assert (
        told
        == {
            signal.SIGINT: dict.fromkeys(both, "ended"),
            signal.SIGTERM: dict.fromkeys(both, "ended with its suite"),
            signal.SIGKILL: {},
        }[number]
    )
    assert first.exitcode == {signal.SIGINT: 1, signal.SIGTERM: 0, signal.SIGKILL: -signal.SIGKILL}[number]
