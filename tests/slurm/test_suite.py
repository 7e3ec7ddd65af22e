"""On a real cluster: a suite as an array, to tables; two submissions at once; runs that always fail; refusals."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.running import attempts
from results.collect import collect
from results.record import NETWORK_NAME, MeasurementRecord, NetworkRecord
from results.tables import render
from slurm.manifest import submissions
from slurm.survey import survey
from tests.patience import PATIENCE, wait_for
from tests.slurm.stage import ROOT, Stage, Watched, environment, write_suite

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def hopeless(stage: Stage) -> tuple[Watched, ...]:
    """Runs that cannot be done, submitted first, since requeueing takes its time.

    One is always killed, one's data are missing, one's profile has a line of setup that fails, one's GPU is none.
    """
    # Two seconds of processor time are over before torch is loaded: the kernel kills every attempt.
    profile = stage.folder / "stingy.yaml"
    profile.write_text("description: no time for anything\nsetup: [ulimit -St 2]\n")
    killed = stage.watch("always-killed", cluster=str(profile))
    data = stage.folder / "lost.npz"
    images, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    np.savez(data, x_train=images, y_train=labels, x_test=images, y_test=labels)
    apart = stage.folder / "apart.yaml"
    apart.write_text("description: x\nshapes: [{when: {stage: measure}, ask: {gpus_per_node: 1}}]\n")
    broken = stage.watch("always-broken", cluster=str(apart), settings=[f"data.source=npz:{data}"])
    data.unlink()
    profile = stage.folder / "no-module.yaml"
    profile.write_text("description: x\nsetup: ['export A=1', 'cat /no/such/module', 'true']\n")
    no_module = stage.watch("no-module", cluster=str(profile))
    return killed, broken, no_module, stage.watch("no-gpu", "gpus_per_node=1", settings=["device=auto"])


@pytest.fixture(scope="module")
def twelve(stage: Stage) -> Path:
    """A suite of twelve runs and their baselines, two epochs each."""
    return write_suite(
        stage.folder,
        "twelve",
        ("method: [sfrik_l2]", "method: [sfrik_l2, auh, vicreg]"),
        ("embedding_dim: [16]", "embedding_dim: [16, 32]"),
        ("seed: [0]", "seed: [0, 1]"),
        ("epochs: 40", "epochs: 2"),
    )


def _submit_twice_at_once(stage: Stage, suite: Path) -> list[str]:
    command = [sys.executable, "-m", "benchmark", "submit", str(suite), "--cluster", "slurm", "--out", "twelve"]
    command += ["--resource", "memory_gb=0.5", "--resource", "cpus_per_task=1"]
    started = [
        subprocess.Popen(command, cwd=stage.folder, env=environment(stage.cluster), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    return outputs


def test_a_suite_to_tables_and_nothing_twice(stage: Stage, twelve: Path) -> None:
    runs = stage.folder / "twelve"
    outputs = sorted(_submit_twice_at_once(stage, twelve), key=len)
    assert "nothing to submit" in outputs[0]
    assert "submitted 12 runs as job" in outputs[1]
    (submission,) = submissions(runs)
    assert len(submission.entries) == 12
    wait_for(lambda: len(_measured(runs)) == 24, what="twelve measured networks", every=0.5)
    assert {standing.state for standing in survey(runs).values()} == {"done"}
    assert [attempts.count(runs / entry.id) for entry in submission.entries] == [1] * 12
    again = stage.command("submit", twelve, "--cluster", "slurm", "--out", "twelve")
    assert again.stdout == "left out 12: done\nnothing to submit\n"
    assert stage.command("status", "twelve").returncode == 0
    here = replace(stage, suite=twelve).undisturbed("twelve-here")
    assert _accuracies(here) == _accuracies(runs)
    tables = [render(collect([folder]), "csv").splitlines() for folder in (here, runs)]
    ours, theirs = [[line for line in table if ",fraction," in line] for table in tables]
    assert ours == theirs
    assert len(ours) >= 6


def _accuracies(runs: Path) -> dict[str, list[float]]:
    return {f"{record.network}/{record.id}": [metric.value for metric in record.metrics] for record in _measured(runs)}


def _measured(runs: Path) -> list[MeasurementRecord]:
    return [MeasurementRecord.read(path) for path in sorted(runs.glob("*/measurements/*.json"))]


def test_a_line_of_setup_that_fails_is_the_record(hopeless: tuple[Watched, ...]) -> None:
    run = hopeless[2]
    record = run.finish().network
    assert record is not None
    assert record.status == "failed"
    expected = "setup line 'cat /no/such/module' ended with exit code 1; log: cat: /no/such/module"
    assert record.message.startswith(expected)
    assert attempts.read(run.folder) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that can be used")
def test_a_job_that_was_given_gpus_does_not_train_on_the_cpu(hopeless: tuple[Watched, ...]) -> None:
    run = hopeless[3]
    record = run.finish().network
    assert record is not None
    assert record.status == "failed"
    assert record.message.startswith(f"gpus_per_node is 1, and no GPU can be used: torch {torch.__version__}")
    assert attempts.count(run.folder) == 0
    run.wait_for_state("FAILED")
    assert "no GPU can be used" in survey(run.runs)[run.folder.name].detail


def test_a_run_that_is_always_killed_is_given_up(hopeless: tuple[Watched, ...]) -> None:
    run, broken, *_ = hopeless
    record = run.finish().network
    assert record is not None
    assert record.status == "failed"
    assert record.message.startswith("ended 3 times at step 0 without getting further: killed by SIG")
    assert len(run.ends()) == 3
    run.wait_for_state("FAILED")
    assert survey(run.runs)[run.folder.name].state == "failed"
    refused = broken.finish().network
    assert refused is not None
    assert refused.status == "failed"
    assert "lost.npz" in refused.message
    assert broken.ends() == []
    broken.wait_for_state("CANCELLED")  # what was to measure it
    assert survey(broken.runs)[broken.folder.name].state == "failed"


def test_what_slurm_refuses_is_told_in_its_words_and_leaves_nothing(stage: Stage) -> None:
    done = stage.command(
        "submit", stage.suite, "--cluster", "slurm", "--out", "refused", "--resource", "partition=nowhere", check=False
    )
    assert done.returncode == 2
    assert "invalid partition specified: nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (stage.folder / "refused").exists()


def test_a_printed_script_works_and_runs_the_copy_of_the_code(stage: Stage) -> None:
    """On two nodes, from a shell that exports nothing and has a port of its own, in a folder with a name of its own."""
    runs, profile = stage.folder / "100%j it's a|b", stage.folder / "two-nodes.yaml"
    profile.write_text("description: x\nenvironment: {GLOO_SOCKET_IFNAME: lo}\nsbatch: {mail_type: END}\n")
    script = stage.command(
        *("submit", stage.suite, "--cluster", profile, "--out", runs, "--print-sbatch", "--resource", "nodes=2"),
        *("--set", "epochs=1", "--resource", "memory_gb=0.5", "--resource", "cpus_per_task=1"),
    ).stdout
    # What is changed in the copy of the code shows: so what is changed in the checkout does not.
    (prepared,) = submissions(runs)
    with (Path(prepared.source.folder) / "slurm" / "work.py").open("a") as file:
        file.write("\nprint('this is the copy')\n")
    stage.cluster.run("env", "SBATCH_EXPORT=NONE", "MASTER_PORT=1", "sh", "-c", script)
    assert [standing.state in {"pending", "running"} for standing in survey(runs).values()] == [True]
    wait_for(lambda: len(_measured(runs)) == 2, what="its records", every=0.5)
    assert [standing.state for standing in survey(runs).values()] == ["done"]
    assert {record.provenance.world_size for record in _measured(runs)} == {2}
    assert "this is the copy" in next(prepared.folder.glob("*_0_log.out")).read_text()


def test_what_is_refused_half_way_is_listed_and_sent_by_the_next_submit(stage: Stage) -> None:
    suite, profile = write_suite(stage.folder, "half", ("seed: [0]", "seed: [0, 1]")), stage.folder / "half-way.yaml"
    shape = "shapes: [{when: {seed: 1}, ask: {partition: nowhere}}]"
    profile.write_text(f"description: x\nsbatch: {{hold: true}}\n{shape}\n")
    done = stage.command("submit", suite, "--cluster", profile, "--out", "half", check=False)
    assert done.returncode == 2
    assert "invalid partition specified: nowhere" in done.stderr
    assert "sent before that: 1 runs in 1 arrays, as job" in done.stderr
    assert "2 runs: 1 pending, 1 not submitted" in stage.command("status", "half", check=False).stdout
    again = stage.command("submit", suite, "--cluster", profile, "--out", "half", "--resource", "partition=main").stdout
    assert "left out 1: pending" in again
    assert "submitted 1 runs as job" in again
    assert "cancelled 2 runs" in stage.command("cancel", "half").stdout


def test_another_users_job_is_not_sent_twice(stage: Stage) -> None:
    profile = stage.folder / "theirs.yaml"
    profile.write_text("description: x\nsbatch: {hold: true, uid: daemon}\n")
    run = stage.watch("theirs", cluster=str(profile))
    (submission,) = submissions(run.runs)
    submission.model_copy(update={"user": "daemon"}).write()
    assert survey(run.runs)[run.folder.name].state == "pending"
    again = stage.command("submit", stage.suite, "--cluster", profile, "--out", "theirs").stdout
    assert again == "left out 1: pending\nnothing to submit\n"
    assert "cancelled 1 runs" in stage.command("cancel", "theirs").stdout


def test_cancel_logs_and_retry(stage: Stage) -> None:
    run = stage.watch("by-command", settings=["epochs=1000"])
    run.freeze(4)
    status = stage.command("status", "by-command", check=False)
    assert status.returncode == 3
    assert "running" in status.stdout
    assert "1 runs: 1 running" in status.stdout
    pids = run.processes()
    assert "cancelled 1 runs" in stage.command("cancel", "by-command").stdout
    run.thaw(pids)
    run.wait_for_state("CANCELLED")
    assert stage.command("status", "by-command", check=False).returncode == 1
    assert survey(run.runs)[run.folder.name].state == "cancelled"
    assert f"{run.folder.name}  as job {run.job} on" in stage.command("logs", run.folder).stdout
    assert "submitted 1 runs as job" in stage.command("retry", "by-command").stdout
    assert survey(run.runs)[run.folder.name].state in {"pending", "running"}
    assert "cancelled 1 runs" in stage.command("cancel", "by-command", run.folder.name[:8]).stdout


def test_the_records_name_the_commit_that_was_submitted(stage: Stage) -> None:
    (submission,) = submissions(stage.folder / "twelve")
    source = Path(submission.source.folder)
    assert (source / "benchmark" / "networks" / "trained.py").is_file()
    assert (source / "diff.patch").exists() == bool(submission.source.dirty)
    paths = (stage.folder / "twelve").glob(f"*/{NETWORK_NAME}")
    records = [*map(NetworkRecord.read, paths), *_measured(stage.folder / "twelve")]
    assert len(records) == 36
    assert {record.provenance.commit for record in records} == {submission.source.commit}
    assert {record.provenance.dirty for record in records} == {submission.source.dirty}


def test_the_page_for_users_from_clone_to_table(stage: Stage) -> None:
    """Every line of the page's first block, with a smaller suite under the name of digits; its log is followed."""
    suite = write_suite(stage.folder, "digits", ("epochs: 40", "epochs: 1"), ("[knn,", "[fewshot, knn,"))
    block = (ROOT / "slurm" / "README.md").read_text().split("```bash\n")[1].split("```")[0]
    lines = [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("spherebench ")]
    assert 4 <= len(lines) <= 10
    words = [["digits.yaml" if word == "digits" else word for word in line] for line in lines]
    (watch,) = [place for place, line in enumerate(words) if "--watch" in line]
    for line in words[:watch]:
        stage.command(*line)
    with ThreadPoolExecutor(1) as pool:
        log = pool.submit(_followed, stage, stage.folder / "runs" / "digits")
        watched = stage.command(*words[watch], "--every", "2").stdout
    assert re.search(r"^1 runs: 1 (pending|running)$", watched, re.MULTILINE)
    assert watched.endswith("1 runs: 1 done\n")
    assert "epoch 1/1" in log.result()
    assert "  done  " in log.result().splitlines()[-1]
    (tables,) = words[watch + 1 :]
    here = replace(stage, suite=suite).undisturbed("digits-here")
    assert "Weighted kNN" in stage.command(*tables).stdout
    # The profile gives a job two threads, and this process has one: sums are rounded in another order.
    ours, theirs = _accuracies(here), _accuracies(stage.folder / "runs" / "digits")
    assert theirs.keys() == ours.keys()
    assert all(theirs[name] == pytest.approx(values, rel=0.02) for name, values in ours.items())


def _followed(stage: Stage, runs: Path) -> str:
    """What `logs --follow` prints of the only run of ``runs``, from its beginning on until it ends by itself."""
    wait_for(lambda: list(runs.glob(f"*/{attempts.ATTEMPTS_NAME}")), what="the run to begin")
    (began,) = runs.glob(f"*/{attempts.ATTEMPTS_NAME}")
    assert not (began.parent / NETWORK_NAME).exists(), "it has ended already"
    return stage.command("logs", began.parent, "--follow").stdout
