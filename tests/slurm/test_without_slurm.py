"""What needs no cluster: planning, refusing, running in the background of this machine or in this process."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from benchmark.cli import main
from benchmark.data import DataSet, DataSpec
from benchmark.running import attempts
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from results.record import (
    MEASUREMENTS_NAME,
    NETWORK_NAME,
    PROGRESS_NAME,
    MeasurementRecord,
    NetworkRecord,
    network_path,
)
from slurm import requeue
from slurm import work as work_module
from slurm.manifest import Part, Submission, submissions
from slurm.queue import accounted
from slurm.requeue import ASKED, FRUITLESS, fruitless_ends, has_saved, in_words
from slurm.status import UNDER_WAY, duration, exit_code, row
from slurm.survey import Records, is_alive, last_line, survey
from slurm.work import _port, work
from tests.benchmark import ranks
from tests.patience import PATIENCE, wait_for
from tests.slurm.stage import ROOT, processes, write_suite


def write_brief(folder: Path) -> Path:
    """Two runs of one epoch."""
    return write_suite(folder, "brief", ("epochs: 40", "epochs: 1"), ("seed: [0]", "seed: [0, 1]"))


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write_brief(tmp_path)


@pytest.fixture
def no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without Slurm's commands, and a user without profiles."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def call(*arguments: str | Path) -> Result:
    """``spherebench`` in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def submit_as_a_user(suite: Path, cluster: str | Path, out: Path) -> None:
    """In a process of its own, which the workers outlive; forked from this one, which has loaded what it needs."""

    def work() -> None:
        sys.exit(call("submit", suite, "--cluster", cluster, "--out", out).exit_code)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0


def test_dry_run_prints_the_options_and_the_runs_and_writes_nothing(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call("submit", suite, "--cluster", "slurm-gpu", "--out", out, "--dry-run", "--resource", "partition=a100")
    assert done.exit_code == 0, done.output
    assert "2 jobs on slurm train and measure" in done.output
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
    (submission,) = submissions(out)
    assert f"sbatch --parsable {submission.script}" in printed.output
    assert "#SBATCH --gpus-per-node=a100:2\n" in submission.script.read_text()


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
        (("--cluster", "local", "--set", "jobs=2"), "jobs: is 2; a job of a cluster does one run at a time"),
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
    assert call("retry", out).output == "nothing to submit again\n"


def test_in_the_background_of_this_machine(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmark", "submit", suite, "--cluster", "local", "--out", out]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # The worker does not hold its output open.
    done = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    (submission,) = submissions(out)
    (worker,) = submission.jobs
    try:
        assert exit_code(survey(out).values()) == UNDER_WAY
        again = call("submit", suite, "--cluster", "local", "--out", out)
        assert "nothing to submit" in again.output
        wait_for(lambda: len(list(out.glob(f"*/{MEASUREMENTS_NAME}/*.json"))) == 4, what="all measured")
    finally:
        call("cancel", out)
    wait_for(lambda: not is_alive(worker), what="the worker's end")
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
    wait_for(lambda: seen.exists() and not set(seen.read_text().split()) < shares, what="every worker's note")
    assert set(seen.read_text().split()) == shares


@pytest.mark.usefixtures("four_gpus")
def test_a_run_over_two_gpus_of_this_machine_is_two_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    suite, profile = write_suite(tmp_path, "one", ("epochs: 40", "epochs: 1")), tmp_path / "two.yaml"
    profile.write_text("description: x\nexecutor: local\nresources: {gpus_per_node: 2}\n")
    submit_as_a_user(suite, profile, tmp_path / "out")
    wait_for(lambda: len(list(tmp_path.glob(f"out/*/{MEASUREMENTS_NAME}/*.json"))) == 2, what="two measurements")
    records = Records.of(next(tmp_path.glob(f"out/*/{NETWORK_NAME}")).parent)
    assert [(record.status, record.provenance.world_size) for record in records.all()] == [("done", 2)] * 3


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


no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that can be used")


@no_gpu
@pytest.mark.usefixtures("four_gpus")
def test_gpus_that_cannot_be_used_are_told_before(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    wanted = ("--set", "device=auto", "--resource", "gpus_per_node=1")
    done = call("submit", suite, "--cluster", "local", "--out", tmp_path / "out", *wanted)
    assert done.exit_code == 2
    assert f"gpus_per_node is 1, and no GPU can be used: torch {torch.__version__}" in done.output
    assert not (tmp_path / "out").exists()
    checked = call("doctor", "--out", tmp_path / "out")
    assert checked.exit_code == 1
    assert f"4 GPUs that cannot be used: torch {torch.__version__}" in checked.output


@pytest.mark.parametrize(
    ("stage", "resources", "device", "expected"),
    [
        pytest.param("both", {"gpus_per_node": 1}, "auto", "gpus_per_node is 1, and no GPU can be used", marks=no_gpu),
        pytest.param("measure", {"gpus_per_node": 1}, "auto", "no GPU can be used: torch", marks=no_gpu),
        ("both", {"nodes": 2}, "cpu", "2 tasks were asked for, and this one is of 1"),
        ("measure", {"gpus_per_node": 4}, "cpu", "4 tasks were asked for, and this one is of 1"),
    ],
)
def test_what_is_not_given_what_it_asked_for_fails_at_once(
    brief: Submission, stage: Part, resources: dict[str, int], device: str, expected: str
) -> None:
    folder, kept = brief.run_folder(0), network_path(brief.run_folder(0)).read_bytes()
    shutil.rmtree(folder / MEASUREMENTS_NAME)
    if stage == "both":
        network_path(folder).unlink()
    asked = brief.resources.model_copy(update=resources)
    changed = {"stage": stage, "resources": asked, "execution": brief.execution | {"device": device}}
    profile = brief.profile.model_copy(update={"executor": "slurm"})
    brief.model_copy(update={**changed, "profile": profile}).write()
    assert work(brief.path, (0,), Requests()) == 1
    records = Records.of(folder)
    failed = [record for record in records.all() if record.status == "failed"]
    assert [expected in record.message for record in failed] == [True] * (1 if stage == "both" else 2)
    assert attempts.count(folder) == 1, "nothing was begun"
    if stage == "measure":
        assert network_path(folder).read_bytes() == kept


def test_every_attempt_has_a_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    ports = []
    for count in ("0", "1", "1"):
        monkeypatch.setenv("SLURM_RESTART_COUNT", count)
        ports.append(_port())
    assert ports[0] != ports[1] == ports[2]
    assert all(1024 < port < 32768 for port in ports)


def test_cancel_reaches_a_worker_behind_the_profiles_setup(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "long", ("epochs: 40", "epochs: 4000"))
    out, profile = tmp_path / "out", tmp_path / "behind.yaml"
    profile.write_text("description: x\nexecutor: local\nsetup: ['export NOTHING=1', 'true']\n")
    submit_as_a_user(suite, profile, out)
    wait_for(lambda: list(out.glob("*/metrics.jsonl")), what="the first steps")
    working = processes(str(out), "slurm.job")
    assert len(working) == 1
    assert call("cancel", out).exit_code == 0
    wait_for(lambda: not processes(str(out), "submitit"), what="the worker's end")
    assert {standing.state for standing in survey(out).values()} == {"cancelled"}


def test_cancel_reaches_a_worker_that_hears_no_signal_yet(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "long", ("epochs: 40", "epochs: 4000"))
    out, profile, waits, go = (tmp_path / name for name in ("out", "deaf.yaml", "waits", "go"))
    deaf = f"trap '' TERM; touch {waits}; while [ ! -e {go} ]; do sleep 0.05; done"
    profile.write_text(f"description: x\nexecutor: local\nsetup: [{json.dumps(deaf)}]\n")
    submit_as_a_user(suite, profile, out)
    wait_for(waits.exists, what="the worker")
    assert call("cancel", out).exit_code == 0
    go.touch()
    wait_for(lambda: not processes(str(out), "submitit"), what="the worker's end")
    assert {standing.state for standing in survey(out).values()} == {"cancelled"}
    assert not list(out.glob("*/metrics.jsonl"))


def test_a_job_that_is_done_waits_for_no_library(brief: Submission, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import atexit, time\natexit.register(time.sleep, 3600)\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "slurm.job", str(brief.path), "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout.count("done")) == (0, 1), done.stdout + done.stderr


def test_a_damaged_manifest_is_one_sentence(suite: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "out" / "jobs" / "x" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"name": "x"')
    for command in (("status",), ("submit", suite, "--cluster", "local", "--out")):
        done = call(*command, tmp_path / "out")
        assert done.exit_code == 2
        assert "manifest.json: is damaged, or of another version: Invalid JSON" in done.output


def test_a_file_system_without_locks_is_one_sentence_and_there_is_a_way_to_go_on(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    given = ("submit", suite, "--cluster", "debug", "--out", tmp_path / "out")
    done = call(*given)
    assert done.exit_code == 2
    assert "--set lock=false" in " ".join(done.output.split())
    assert not list((tmp_path / "out").rglob("*.json"))
    assert call(*given, "--set", "lock=false").exit_code == 0
    assert {standing.state for standing in survey(tmp_path / "out").values()} == {"done"}


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


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs folder of two runs, done in this process."""
    folder = tmp_path_factory.mktemp("done")
    assert call("submit", write_brief(folder), "--cluster", "debug", "--out", folder / "out").exit_code == 0
    return folder / "out"


@pytest.fixture
def brief(done: Path, suite: Path, tmp_path: Path) -> Submission:
    """The two runs, to be changed."""
    (submission,) = submissions(shutil.copytree(done, tmp_path / "out"))
    submission = submission.model_copy(update={"runs": str(tmp_path / "out")})
    submission.write()
    return submission


def change(folder: Path, measurement: str | None = None, **values: str) -> None:
    """Change the record of a network, or of its measurement by that probe."""
    if measurement is None:
        NetworkRecord.read(network_path(folder)).model_copy(update=values).write(network_path(folder))
    else:
        (path,) = (folder / MEASUREMENTS_NAME).glob(f"{measurement}-*.json")
        MeasurementRecord.read(path).model_copy(update=values).write(path)


@pytest.mark.parametrize("name", [NETWORK_NAME, f"{MEASUREMENTS_NAME}/knn-*.json"])
def test_a_record_of_a_newer_version_is_left_alone(
    brief: Submission, suite: Path, name: str, slurm_called: list[tuple[str, ...]]
) -> None:
    (path,) = brief.run_folder(0).glob(name)
    path.write_text(json.dumps({**json.loads(path.read_text()), "more": 1}))
    before = path.read_bytes()
    done = call("status", brief.runs)
    assert done.exit_code == 1
    assert "of another version" in done.output
    assert "is of a newer version of spherebench" in " ".join(done.output.split())
    assert call("retry", brief.runs).output == "nothing to submit again\n"
    submitted = call("submit", suite, "--cluster", "debug", "--out", brief.runs)
    assert "1 of another version" in " ".join(submitted.output.split()).replace(": ", " ")
    requests = Requests()
    assert work(brief.path, (0,), requests) == 1, "as a job that was queued before"
    for _ in range(FRUITLESS):
        requeue.main(brief.path, 1)
    assert path.read_bytes() == before
    assert ("scontrol", "requeue", "7") not in slurm_called


def test_an_attempt_has_saved_where_a_record_of_its_own_says_so(brief: Submission) -> None:
    folder = brief.run_folder(0)
    assert not has_saved(folder)
    change(folder, "knn", status="interrupted")
    assert has_saved(folder)
    attempts.start(folder)
    assert not has_saved(folder), "it was the attempt before that saved"


@pytest.fixture
def slurm_called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What a job's last act asks of Slurm, to which the job still runs."""
    called: list[tuple[str, ...]] = []

    def call_slurm(*command: str) -> str:
        called.append(command)
        return "RUNNING"

    monkeypatch.setattr("slurm.queue.call", call_slurm)
    return called


@pytest.mark.parametrize(("code", "state"), [(ASKED, "interrupted"), (137, "failed")])
def test_after_three_ends_at_one_step_nothing_is_requeued(
    brief: Submission, slurm_called: list[tuple[str, ...]], code: int, state: str
) -> None:
    folder = brief.run_folder(0)
    network_path(folder).unlink()
    for requeued in (1, 2, 2):
        requeue.main(brief.path, code)
        assert sum("requeue" in command for command in slurm_called) == requeued
    assert survey(Path(brief.runs))[folder.name].state == state


def test_out_of_memory_is_told_with_what_helps(
    brief: Submission, slurm_called: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = brief.run_folder(0)
    network_path(folder).unlink()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    line = (
        "slurmstepd-node7: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed."
    )
    brief.log("7").write_text(f"{line}\nsrun: error: node7: task 0: Out Of Memory\n")
    for _ in range(3):
        requeue.main(brief.path, 137)
    standing = survey(Path(brief.runs))[folder.name]
    expected = (
        f"killed by SIGKILL; out of memory: spherebench retry {brief.runs} --resource memory_gb=... asks for more"
    )
    assert (standing.state, standing.detail.endswith(expected)) == ("failed", True), standing.detail


def test_a_measurement_that_ends_its_process_again_and_again_is_given_up_alone(
    brief: Submission, slurm_called: list[tuple[str, ...]]
) -> None:
    folder = brief.run_folder(0)
    network, (first, second) = network_path(folder).read_bytes(), brief.entries[0].measurements
    for name in (first, second):
        (folder / MEASUREMENTS_NAME / f"{name}.json").unlink()
    for _ in range(3):
        attempts.start(folder)
        attempts.measuring(folder, second)
        requeue.main(brief.path, 137)
    assert sum("requeue" in command for command in slurm_called) == 3, "the job goes on with the other"
    records = Records.of(folder)
    assert records.missing((first, second)) == [first]
    assert records.measurements[second].message == "ended 3 times at step 0 without getting further: killed by SIGKILL"
    for _ in range(3):
        attempts.start(folder)  # and ends before it begins with a measurement
        requeue.main(brief.path, 137)
    assert sum("requeue" in command for command in slurm_called) == 5
    assert network_path(folder).read_bytes() == network
    standing = survey(Path(brief.runs))[folder.name]
    assert standing.state == "failed"
    assert standing.detail.count("failed: ended 3 times") == 2


def _lacks_its_data(this: Process, manifest: Path) -> None:
    """The job of one run on two processes, of which the second, on another node say, does not see the data."""

    def load(spec: DataSpec) -> DataSet:
        raise UserError(f"{spec.source}: is not on this node")

    work_module.process = lambda device: nullcontext(this)  # type: ignore[assignment]
    if this.rank == 1:
        work_module.data_loader = lambda *_: load
    work(manifest, (0,), Requests())


def test_the_record_of_a_job_tells_of_the_process_that_failed(brief: Submission) -> None:
    shutil.rmtree(brief.run_folder(0))
    brief.model_copy(update={"resources": brief.resources.model_copy(update={"nodes": 2})}).write()
    assert ranks.together(2, partial(_lacks_its_data, manifest=brief.path)) == [1, 1]
    record = NetworkRecord.read(network_path(brief.run_folder(0)))
    assert (record.status, record.message) == ("failed", "process 1 of 2: digits: is not on this node")


def test_what_has_its_record_is_not_requeued(brief: Submission, slurm_called: list[tuple[str, ...]]) -> None:
    folder = brief.run_folder(0)
    change(folder, "knn", status="failed")
    requeue.main(brief.path, 1)
    assert slurm_called == []
    change(folder, "knn", status="interrupted")
    requeue.main(brief.model_copy(update={"stage": "train"}).path, ASKED)
    assert [command[:2] for command in slurm_called] == [("squeue", "-h"), ("scontrol", "requeue")]


def test_retry_repeats_the_failed_measurement_alone(brief: Submission) -> None:
    runs, folder = Path(brief.runs), brief.run_folder(0)
    change(folder, "knn", status="failed", message="no neighbours")
    before = {path: path.read_bytes() for path in [*runs.rglob("*.json"), *runs.rglob("*.safetensors")]}
    standing = survey(runs)[folder.name]
    assert (standing.state, standing.detail) == ("failed", "knn failed: no neighbours")
    status = call("status", runs, "--format", "json")
    assert (status.exit_code, '"measured": "1/2"' in status.output) == (1, True), status.output
    assert call("retry", runs).exit_code == 0
    assert [submission.stage for submission in submissions(runs)] == ["both", "measure"]
    assert [entry.id for entry in submissions(runs)[1].entries] == [folder.name]
    changed = {path for path, content in before.items() if path.read_bytes() != content}
    assert {path.name.partition("-")[0] for path in changed} == {"knn"}
    assert len(list(folder.rglob("knn-*.json.failed"))) == 1
    assert attempts.count(folder) == 2
    assert {standing.state for standing in survey(runs).values()} == {"done"}


def test_what_fails_in_a_job_is_not_repeated_by_it(brief: Submission) -> None:
    folder = brief.run_folder(0)
    again = brief.model_copy(update={"retry": True})
    again.write()
    change(folder, "knn", status="failed")
    record = next(r for r in Records.of(folder).measurements.values() if r.probe == "knn")
    late = record.provenance.model_copy(update={"finished": "2999-01-01T00:00:00+00:00"})
    change(folder, "knn", provenance=late)  # type: ignore[arg-type]
    assert [work(again.path, (index,), Requests()) for index in (0, 1)] == [1, 0]
    assert attempts.count(folder) == 1


def test_a_failed_network_goes_on_from_its_checkpoint(brief: Submission) -> None:
    folder = brief.run_folder(0)
    change(folder, status="failed", message="out of luck")
    assert (
        "left out 1: failed (spherebench retry brings it back)"
        in call("submit", Path(brief.runs).parent / "brief.yaml", "--cluster", "debug", "--out", brief.runs).output
    )
    assert call("retry", brief.runs).exit_code == 0
    assert submissions(Path(brief.runs))[1].stage == "both"
    assert (folder / f"{NETWORK_NAME}.failed").exists()
    assert survey(Path(brief.runs))[folder.name].state == "done"


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """A profile whose measurements ask for less."""
    path = tmp_path / "apart.yaml"
    path.write_text(
        "description: apart\nresources: {gpus_per_node: 2}\n"
        "shapes: [{when: {stage: measure}, ask: {gpus_per_node: 1}}]\n"
    )
    return path


def test_measurements_of_another_shape_are_an_array_that_waits(suite: Path, apart: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    dry = call("submit", suite, "--cluster", apart, "--out", out, "--dry-run").output
    assert [line.split(", as ")[0] for line in dry.splitlines() if "jobs on" in line] == [
        "2 jobs on slurm train",
        "2 jobs on slurm measure",
    ]
    assert dry.index("--gpus-per-node=2") < dry.index("--gpus-per-node=1")
    printed = call("submit", suite, "--cluster", apart, "--out", out, "--print-sbatch").output
    train, measure = submissions(out)
    assert (train.stage, measure.stage, measure.after) == ("train", "measure", train.name)
    assert train.entries == measure.entries
    first, second = [line for line in printed.splitlines() if line.startswith("job")]
    assert first.startswith("job0=$(sbatch --parsable /")
    assert "sbatch --parsable --dependency=aftercorr:$job0 --kill-on-invalid-dep=yes /" in second


def test_a_network_that_is_there_is_only_measured(brief: Submission, apart: Path) -> None:
    runs, suite = Path(brief.runs), Path(brief.runs).parent / "brief.yaml"
    more = ("--set", "evaluation.knn_k=[3]")
    dry = call("submit", suite, "--cluster", apart, "--out", runs, "--dry-run", *more)
    assert "2 jobs on slurm measure, as" in dry.output
    assert "train" not in dry.output
    assert "--gpus-per-node=1" in dry.output
    weights = {path: path.read_bytes() for path in runs.glob("*/weights.safetensors")}
    assert call("submit", suite, "--cluster", "debug", "--out", runs, *more).exit_code == 0
    assert {path: path.read_bytes() for path in weights} == weights
    standings = survey(runs).values()
    assert [(standing.state, len(standing.records.measurements)) for standing in standings] == [("done", 3)] * 2


def test_a_training_job_leaves_the_measurements_alone(brief: Submission) -> None:
    folder = brief.run_folder(0)
    network_path(folder).unlink()
    for path in (folder / MEASUREMENTS_NAME).iterdir():
        path.unlink()
    for stage in ("train", "measure"):
        brief.model_copy(update={"stage": stage}).write()
        assert work(brief.path, (0,), Requests()) == 0
        records = Records.of(folder)
        assert records.network is not None
        assert len(records.measurements) == {"train": 0, "measure": 2}[stage]


def test_a_job_that_finds_no_network_measures_nothing(brief: Submission) -> None:
    folder = brief.run_folder(0)
    network_path(folder).unlink()
    brief.model_copy(update={"stage": "measure"}).write()
    assert work(brief.path, (0,), Requests()) == 1
    assert not network_path(folder).exists()
    assert attempts.count(folder) == 1


def test_a_job_leaves_in_time_where_nothing_listens() -> None:
    """A last resort: who hears no signal is ended, as one that was asked to stop."""
    code = (
        "import os, signal, threading, time\nfrom slurm.job import _leave_in_time\n"
        "signal.signal(signal.SIGUSR2, lambda *_: None)\n_leave_in_time(0.1)\n"
        "os.kill(os.getpid(), signal.SIGUSR2)\ntime.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=PATIENCE)
    assert done.returncode == ASKED


def test_status_of_a_run_that_is_being_measured(brief: Submission, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Slurm says is made up; the rest are the files of a job that is at its second measurement."""
    runs, folder = Path(brief.runs), brief.run_folder(0)
    profile = brief.profile.model_copy(update={"executor": "slurm"})
    brief.model_copy(update={"profile": profile, "jobs": ("7",)}).write()
    change(folder, "knn", status="failed", message="no neighbours")
    (path,) = folder.rglob("embedding-*.json")
    path.unlink()
    attempts.start(folder)
    attempts.measuring(folder, path.stem)
    monkeypatch.setattr("slurm.queue.jobs", lambda: [["7_0", brief.name, "RUNNING", "None"]])
    shown = row(survey(runs)[folder.name], folder)
    assert (shown["state"], shown["stage"], shown["measured"]) == ("running", "embedding", "0/2")
    note = folder / attempts.SCRATCH_NAME / "data" / path.stem / PROGRESS_NAME
    note.parent.mkdir(parents=True)
    note.write_text('{"what": "features of test", "done": 3, "total": 40}')
    assert row(survey(runs)[folder.name], folder)["stage"] == "embedding, features of test 3/40"
    note.write_text('{"what": "feat')  # as it is being written
    assert row(survey(runs)[folder.name], folder)["stage"] == "embedding"
    assert shown["why"] == "knn failed: no neighbours"


def test_what_shows_and_requeues_needs_no_torch() -> None:
    code = (
        "import sys\nimport slurm.doctor, slurm.requeue, slurm.status\n"
        "sys.exit(bool({'torch', 'submitit'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == 0


def test_sacct_names_elements_together(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "7_[0,2-3%2]|CANCELLED by 0\n7_1|COMPLETED\n8_[4-5]|PENDING\n"
    monkeypatch.setattr("slurm.queue.call", lambda *_: told)
    states = {"7_0": "CANCELLED", "7_2": "CANCELLED", "7_3": "CANCELLED", "7_1": "COMPLETED"}
    assert accounted(["7_0"]) == {**states, "8_4": "PENDING", "8_5": "PENDING"}


def test_an_exit_code_in_words() -> None:
    assert [in_words(code) for code in (75, 137, 1)] == ["asked to stop", "killed by SIGKILL", "exit code 1"]


def test_the_last_line_is_not_slurms(tmp_path: Path) -> None:
    log = tmp_path / "log"
    slurms = ["srun: error: node: task 0: Exited", "slurmstepd-node7: error: *** STEP 7.0 ON node7 CANCELLED ***"]
    log.write_text("\n".join(["ValueError: too wide", *slurms, "slurmstepd: error: x", "requeue: goes on", "", ""]))
    assert last_line(log) == "ValueError: too wide"
    assert last_line(tmp_path / "missing") == ""


def test_durations_as_people_read_them() -> None:
    assert [duration(seconds) for seconds in (42, 600, 20000)] == ["42 s", "10 min", "5.6 h"]
