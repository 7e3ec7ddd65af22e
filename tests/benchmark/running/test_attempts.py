"""The story of a run's attempts survives kills and full disks, and counts what was lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.running import attempts
from benchmark.runtime.provenance import job_id


@pytest.fixture(autouse=True)
def _no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SUBMITIT_LOCAL_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


def test_attempts_are_counted_and_ends_are_not(tmp_path: Path) -> None:
    attempts.start(tmp_path)
    attempts.end(tmp_path, "killed by SIGKILL", code=137)
    attempts.start(tmp_path)
    assert attempts.count(tmp_path) == 2
    assert [event["event"] for event in attempts.read(tmp_path)] == ["start", "end", "start"]
    assert attempts.read(tmp_path)[1]["code"] == 137


def test_a_line_cut_short_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    attempts.start(tmp_path)
    with (tmp_path / attempts.ATTEMPTS_NAME).open("a") as file:
        file.write('{"event": "sta')
    attempts.end(tmp_path, "no space left on the disk")
    assert [event["event"] for event in attempts.read(tmp_path)] == ["start", "end"]


def test_seconds_after_the_last_checkpoint_are_lost(tmp_path: Path) -> None:
    attempts.start(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    kept, log = tmp_path / "checkpoints" / "step-000000012-ab.pt", tmp_path / "metrics.jsonl"
    kept.touch()
    log.touch()
    later = kept.stat().st_mtime + 100
    os.utime(kept, (later, later))
    os.utime(log, (later + 30, later + 30))
    attempts.start(tmp_path)
    assert attempts.kept(tmp_path) == "step 12"
    assert attempts.lost_seconds(tmp_path) == pytest.approx(30, abs=0.2)


def test_a_network_that_is_there_has_lost_nothing(tmp_path: Path) -> None:
    attempts.start(tmp_path)
    log = tmp_path / "metrics.jsonl"
    log.touch()
    os.utime(log, (log.stat().st_mtime + 500, log.stat().st_mtime + 500))
    (tmp_path / "network.json").write_text('{\n "status": "done"\n}')
    attempts.start(tmp_path)
    assert attempts.lost_seconds(tmp_path) == 0


def test_what_is_kept_is_the_same_text_until_something_is_gained(tmp_path: Path) -> None:
    before = attempts.kept(tmp_path)
    assert before == attempts.kept(tmp_path) == "step 0"
    seen = {before}
    for path in (
        "checkpoints/step-000000012-ab.pt",
        "measurements/knn-1.json",
        "measuring/a/linear-1/step-000000003-cd.pt",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text('{"status": "done"}')
        assert attempts.kept(tmp_path) not in seen
        seen.add(attempts.kept(tmp_path))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7_2"),
        ({"SUBMITIT_LOCAL_JOB_ID": "123"}, "local-123"),
    ],
)
def test_a_job_is_named_as_slurm_names_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert job_id() == expected
