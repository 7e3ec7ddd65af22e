"""What needs no cluster: planning, refusing, running in the background of this machine or in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmark.cli import main
from benchmark.running import attempts
from results.record import RECORD_NAME, Record
from slurm import requeue, sbatch
from slurm.manifest import submissions
from slurm.requeue import ASKED, fruitless_ends, has_saved, in_words, last_line
from slurm.status import UNDER_WAY, duration, exit_code
from slurm.survey import is_alive, survey
from tests.slurm.cluster import wait_for
from tests.slurm.stage import ROOT, processes, write_suite


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Two runs of one epoch."""
    return write_suite(tmp_path, "brief", ("epochs: 40", "epochs: 1"), ("seed: [0]", "seed: [0, 1]"))


@pytest.fixture
def no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without Slurm's commands, and a user without profiles."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def call(*arguments: str | Path) -> Result:
    """``spherebench`` in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def submit_as_a_user(suite: Path, cluster: str | Path, out: Path) -> None:
    """In a process of its own, which the workers outlive."""
    command = [sys.executable, "-m", "benchmark", "submit", str(suite), "--cluster", str(cluster), "--out", str(out)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_dry_run_prints_the_options_and_the_runs_and_writes_nothing(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call("submit", suite, "--cluster", "slurm-gpu", "--out", out, "--dry-run", "--resource", "partition=a100")
    assert done.exit_code == 0, done.output
    assert "2 jobs on slurm" in done.output
    for line in ("--partition=a100", "--gpus-per-node=1", "--array=0-1%2", "--signal=USR2@120", "--requeue"):
        assert f"  {line}\n" in done.output
    assert not out.exists()


def test_a_type_of_gpu_reaches_sbatch(suite: Path, tmp_path: Path) -> None:
    path = tmp_path / "typed.yaml"
    path.write_text("description: typed\nresources: {gpus_per_node: 2, gpu_type: a100}\n")
    out = tmp_path / "out"
    done = call("submit", suite, "--cluster", path, "--out", out, "--dry-run")
    assert "  --gpus-per-node=a100:2\n" in done.output
    printed = call("submit", suite, "--cluster", path, "--out", out, "--print-sbatch")
    assert "#SBATCH --gpus-per-node=a100:2\n" in printed.output
    (submission,) = submissions(out)
    given = sbatch.submitit_parameters(submission)
    assert given["slurm_additional_parameters"]["gpus-per-node"] == "a100:2"
    assert "gpus_per_node" not in given


def test_a_run_that_asks_for_more_is_an_array_of_its_own(suite: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text("description: wide\nshapes: [{when: {seed: 1}, ask: {gpus_per_node: 2}}]\n")
    done = call("submit", suite, "--cluster", path, "--out", tmp_path / "out", "--dry-run")
    assert done.output.count("1 jobs on slurm") == 2
    assert done.output.count("--gpus-per-node=2") == 1
    assert done.output.count("--ntasks-per-node=2") == 1


def test_more_runs_than_an_array_holds_are_two_arrays(tmp_path: Path) -> None:
    many = write_suite(tmp_path, "many", ("seed: [0]", f"seed: {list(range(1201))}"))
    done = call("submit", many, "--cluster", "slurm", "--out", tmp_path / "out", "--dry-run")
    assert done.exit_code == 0, done.output
    for line in ("1000 jobs on slurm", "  --array=0-999%", "201 jobs on slurm", "  --array=0-200%"):
        assert line in done.output


@pytest.mark.usefixtures("no_slurm")
def test_no_slurm_says_so_and_leaves_nothing(suite: Path, tmp_path: Path) -> None:
    done = call("submit", suite, "--cluster", "slurm", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "no Slurm on this machine; use --cluster local" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--cluster", "nowhere"), "is not a profile; there are"),
        (("--cluster", "slurm", "--resource", "minutes=2", "--set", "checkpoint_seconds=30"), "minutes is 2"),
        (("--cluster", "slurm", "--out", "/proc/runs"), "--out /proc/runs: cannot be written"),
        (("--cluster", "local", "--print-sbatch"), "is no Slurm cluster but local"),
    ],
)
def test_bad_input_is_one_sentence(suite: Path, arguments: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    out = () if "--out" in arguments else ("--out", tmp_path / "out")
    done = call("submit", suite, *arguments, *out)
    assert done.exit_code == 2
    assert expected in done.output
    assert not (tmp_path / "out").exists()


def test_a_status_of_nothing_submitted(tmp_path: Path) -> None:
    done = call("cancel", tmp_path)
    assert done.exit_code == 2
    assert "nothing was submitted from there" in done.output


def test_in_this_process_and_again(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("submit", suite, "--cluster", "debug", "--out", out).exit_code == 0
    assert {standing.state for standing in survey(out).values()} == {"done"}
    assert "left out 2: done\nnothing to submit" in call("submit", suite, "--cluster", "debug", "--out", out).output
    assert call("status", out).exit_code == 0
    assert call("retry", out).output == "nothing to bring back\n"


def test_in_the_background_of_this_machine(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    submit_as_a_user(suite, "local", out)  # whose output the worker does not hold open
    (submission,) = submissions(out)
    (worker,) = submission.jobs
    try:
        assert exit_code(survey(out).values()) == UNDER_WAY
        again = call("submit", suite, "--cluster", "local", "--out", out)
        assert "nothing to submit" in again.output
        wait_for(120, lambda: len(list(out.glob(f"*/{RECORD_NAME}"))) == 2, what="two records")
    finally:
        call("cancel", out)
    wait_for(120, lambda: not is_alive(worker), what="the worker's end")
    assert {standing.state for standing in survey(out).values()} == {"done"}
    assert [attempts.count(out / entry.id) for entry in submission.entries] == [1, 1]


@pytest.fixture
def four_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nvidia-smi that lists four GPUs."""
    command = tmp_path / "bin" / "nvidia-smi"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\nfor gpu in 0 1 2 3; do echo "GPU $gpu: pretended"; done\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("chosen", "each", "shares"), [(None, 1, {"0", "1"}), ("2,3", 1, {"2", "3"}), ("1,3,0", 2, {"1,3"})]
)
def test_every_worker_on_this_machine_has_gpus_of_its_own(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, each: int, shares: set[str]
) -> None:
    if chosen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    seen, profile = tmp_path / "seen", tmp_path / "noting.yaml"
    # The worker notes its GPUs and ends before it loads torch, which has none here.
    profile.write_text(
        f"description: x\nexecutor: local\nsetup: ['echo $CUDA_VISIBLE_DEVICES >> {seen}', 'false']\n"
        f"resources: {{gpus_per_node: {each}}}\n"
    )
    submit_as_a_user(suite, profile, tmp_path / "out")
    wait_for(60, lambda: seen.exists() and not set(seen.read_text().split()) < shares, what="every worker's note")
    assert set(seen.read_text().split()) == shares


@pytest.mark.usefixtures("four_gpus")
def test_a_run_over_two_gpus_of_this_machine_is_two_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    suite, profile = write_suite(tmp_path, "one", ("epochs: 40", "epochs: 1")), tmp_path / "two.yaml"
    profile.write_text("description: x\nexecutor: local\nresources: {gpus_per_node: 2}\n")
    submit_as_a_user(suite, profile, tmp_path / "out")
    wait_for(120, lambda: list(tmp_path.glob(f"out/*/{RECORD_NAME}")), what="the record")
    record = Record.read(next(tmp_path.glob(f"out/*/{RECORD_NAME}")))
    assert (record.status, record.provenance.world_size) == ("done", 2), record.message


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("chosen", "expected"), [("0", "there are 1 GPUs to use here"), ("GPU-1f,7", "must be numbers below 4")]
)
def test_gpus_that_are_not_there_are_refused(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    done = call("submit", suite, "--cluster", "local", "--out", tmp_path / "out", "--resource", "gpus_per_node=2")
    assert done.exit_code == 2
    assert expected in done.output
    assert not (tmp_path / "out").exists()


def test_cancel_reaches_a_worker_behind_the_profiles_setup(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "long", ("epochs: 40", "epochs: 4000"))
    out, profile = tmp_path / "out", tmp_path / "behind.yaml"
    profile.write_text("description: x\nexecutor: local\nsetup: ['export NOTHING=1', 'true']\n")
    submit_as_a_user(suite, profile, out)
    wait_for(100, lambda: list(out.glob("*/metrics.jsonl")), what="the first steps")
    working = processes(str(out), "submitit.core._submit")
    assert len(working) == 1
    assert call("cancel", out).exit_code == 0
    wait_for(100, lambda: not processes(str(out), "submitit"), what="the worker's end")
    assert {standing.state for standing in survey(out).values()} == {"cancelled"}


def test_a_damaged_manifest_is_one_sentence(suite: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "out" / "jobs" / "x" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"name": "x"')
    for command in (("status",), ("submit", suite, "--cluster", "local", "--out")):
        done = call(*command, tmp_path / "out")
        assert done.exit_code == 2
        assert "manifest.json: Invalid JSON" in done.output


def test_ends_without_progress_are_counted_from_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "step-000000004-aa.pt").touch()
    attempts.end(tmp_path, "killed by SIGKILL")
    (checkpoints / "step-000000008-aa.pt").touch()
    assert fruitless_ends(tmp_path) == 0
    for count in (1, 2):
        attempts.end(tmp_path, "killed by SIGKILL")
        assert fruitless_ends(tmp_path) == count
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert fruitless_ends(tmp_path) == 0, "it was submitted again"


def test_an_attempt_has_saved_where_its_own_record_says_so(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call("submit", suite, "--cluster", "debug", "--out", out)
    (submission,) = submissions(out)
    folder = submission.run_folder(0)
    done = Record.read(folder / RECORD_NAME)
    assert not has_saved(folder)
    done.model_copy(update={"status": "interrupted"}).write(folder)
    assert has_saved(folder)
    attempts.start(folder)
    assert not has_saved(folder), "it was the attempt before that saved"


@pytest.mark.parametrize(("code", "state"), [(ASKED, "interrupted"), (137, "failed")])
def test_after_three_ends_at_one_step_nothing_is_requeued(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, state: str
) -> None:
    called: list[tuple[str, ...]] = []

    def call_slurm(*command: str) -> str:
        called.append(command)
        return "RUNNING"

    monkeypatch.setattr(requeue, "call", call_slurm)
    out = tmp_path / "out"
    call("submit", suite, "--cluster", "debug", "--out", out)
    (submission,) = submissions(out)
    folder = submission.run_folder(0)
    (folder / RECORD_NAME).unlink()
    for requeued in (1, 2, 2):
        requeue.main(submission.path, code)
        assert sum("requeue" in command for command in called) == requeued
    assert survey(out)[folder.name].state == state


def test_an_exit_code_in_words() -> None:
    assert [in_words(code) for code in (75, 137, 1)] == ["asked to stop", "killed by SIGKILL", "exit code 1"]


def test_the_last_line_is_not_slurms(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ValueError: too wide\nsrun: error: node: task 0: Exited\n\n")
    assert last_line(log) == "ValueError: too wide"
    assert last_line(tmp_path / "missing") == ""


def test_durations_as_people_read_them() -> None:
    assert [duration(seconds) for seconds in (42, 600, 20000)] == ["42 s", "10 min", "5.6 h"]
