"""Slurm fails once, loses an answer, hides jobs or cannot be asked. Its commands are scripts that do so on demand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmark.cli import main
from benchmark.running import attempts
from benchmark.runtime.errors import UserError
from results.record import NetworkRecord, network_path
from slurm import queue
from slurm.manifest import Submission, submissions
from slurm.survey import survey
from tests.patience import PATIENCE, wait_for
from tests.slurm.stage import ROOT, write_suite

ALWAYS = 999


class Commands:
    """Slurm's commands on the path: each answers with what it is given, after failing as often as it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("squeue", "sacct", "scancel"):
            self.answer(name)
        self.answer("scontrol", "ClusterName = here\nMaxArraySize = 1001\nPrivateData = none\n")
        self.answer("sbatch", "7\n")

    def answer(self, name: str, text: str = "", *, failing: int = 0, error: str = "", where: str = "") -> None:
        """Answer ``text``; but the first ``failing`` calls, of those that hold ``where``, fail with ``error``."""
        for kind, content in (("text", text), ("error", error)):
            (self.folder / f"{name}.{kind}").write_text(content)
        (self.folder / f"{name}.calls").touch()
        path = self.folder / name
        path.write_text(
            f'#!/bin/sh\ncd {self.folder}\necho "$*" >> {name}.calls\n'
            f"case \"$*\" in *'{where}'*) count=$(grep -c -e '{where}' {name}.calls);; *) count=1000000;; esac\n"
            f"if [ $count -le {failing} ]; then cat {name}.error >&2; exit 1; fi\ncat {name}.text\n"
        )
        path.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        """How it was called so far."""
        return (self.folder / f"{name}.calls").read_text().splitlines()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands(tmp_path / "commands")
    monkeypatch.setenv("PATH", str(made.folder), prepend=os.pathsep)
    return made


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write_suite(tmp_path, "brief", ("epochs: 40", "epochs: 1"), ("seed: [0]", "seed: [0, 1]"))


def call(*arguments: str | Path) -> Result:
    """``spherebench`` in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def sent(suite: Path, tmp_path: Path, commands: Commands) -> Submission:
    """Two runs in an array that Slurm has taken."""
    done = call("submit", suite, "--cluster", "slurm", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    (submission,) = submissions(tmp_path / "out")
    assert (submission.jobs, submission.cluster, submission.user) == (("7",), "here", queue.user())
    return submission


def states(submission: Submission) -> list[str]:
    return [standing.state for standing in survey(Path(submission.runs)).values()]


@pytest.mark.parametrize("flaky", ["squeue", "scontrol"])
def test_the_last_act_asks_again(sent: Submission, commands: Commands, flaky: str) -> None:
    commands.answer("squeue", "RUNNING\n")
    commands.answer(flaky, "RUNNING\n", failing=2, error=f"{flaky}: error: Unable to contact slurm controller")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    command = [sys.executable, "-m", "slurm.requeue", str(sent.path), "137"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stderr == ""
    assert commands.calls("scontrol")[-1] == "requeue 7_1"
    assert len(commands.calls(flaky)) >= 3
    assert [event["why"] for event in attempts.read(sent.run_folder(1))] == ["killed by SIGKILL"]


def test_watch_says_so_and_goes_on(sent: Submission, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ASKING_SECONDS", 0)
    commands.answer("squeue", failing=2, error="squeue: error: slurm_load_jobs error: Socket timed out")
    plain = call("status", sent.runs)
    assert (plain.exit_code, "squeue: slurm_load_jobs error" in plain.output) == (2, True), plain.output
    watched = call("status", sent.runs, "--watch", "--every", "1")
    assert watched.exit_code == 1
    assert "warning: squeue: slurm_load_jobs error: Socket timed out; asked again in 1 s" in watched.output
    assert "2 runs: 2 lost" in watched.output


def test_an_answer_that_was_lost_is_looked_for_in_the_queue(suite: Path, tmp_path: Path, commands: Commands) -> None:
    commands.answer("sbatch", "8\n", failing=1, error="sbatch: error: Batch job submission failed: Socket timed out")
    commands.answer("squeue", "7\n")
    assert "as job 7;" in call("submit", suite, "--cluster", "slurm", "--out", tmp_path / "out").output
    assert len(commands.calls("sbatch")) == 1
    (submission,) = submissions(tmp_path / "out")
    assert f"--name={submission.name}" in commands.calls("squeue")[-1]


def test_what_did_not_arrive_is_sent_again_and_a_refusal_is_not(
    suite: Path, tmp_path: Path, commands: Commands
) -> None:
    commands.answer("sbatch", "8;far\n", failing=1, error="sbatch: error: Unable to contact slurm controller")
    assert "as job 8;" in call("submit", suite, "--cluster", "slurm", "--out", tmp_path / "out").output
    assert submissions(tmp_path / "out")[0].cluster == "far"
    assert len(commands.calls("sbatch")) == 2
    commands.answer("sbatch", failing=ALWAYS, error="sbatch: error: Invalid account or account/partition combination")
    refused = call("submit", suite, "--cluster", "slurm", "--out", tmp_path / "other")
    assert (refused.exit_code, "sbatch: Invalid account" in refused.output) == (2, True), refused.output
    assert len(commands.calls("sbatch")) == 3


def test_a_job_of_a_cluster_that_cannot_be_asked_is_unknown_and_not_sent_twice(
    suite: Path, sent: Submission, commands: Commands
) -> None:
    sent.model_copy(update={"cluster": "far"}).write()
    commands.answer(
        "squeue", failing=ALWAYS, error="squeue: error: far can't be reached, or is an invalid entry", where="far"
    )
    assert states(sent) == ["unknown"] * 2
    status = call("status", sent.runs)
    assert (status.exit_code, "cluster far cannot be asked: squeue: far" in status.output) == (1, True), status.output
    again = call("submit", suite, "--cluster", "slurm", "--out", sent.runs)
    assert "left out 2: unknown: cluster far cannot be asked" in again.output
    assert "nothing to submit" in again.output
    assert call("retry", sent.runs).output == "nothing to submit again\n"
    assert "submitted 2 runs" in call("retry", sent.runs, "--force").output
    assert len(commands.calls("sbatch")) == 2


def test_a_job_of_another_cluster_is_asked_for_there(sent: Submission, commands: Commands) -> None:
    sent.model_copy(update={"cluster": "far"}).write()
    commands.answer("squeue", f"7_0|RUNNING|None|{sent.name}\n7_1|PENDING|Priority|{sent.name}\n")
    assert states(sent) == ["running", "pending"]
    assert f"--clusters=far --name={sent.name}" in commands.calls("squeue")[-1]
    call("cancel", sent.runs)
    assert commands.calls("scancel") == ["--clusters=far 7_0 7_1"]


def test_another_users_job_is_asked_for_by_its_name(suite: Path, sent: Submission, commands: Commands) -> None:
    sent.model_copy(update={"user": "somebody"}).write()
    commands.answer("squeue", f"7_0|RUNNING|None|{sent.name}\n7_1|PENDING|Priority|{sent.name}\n")
    assert states(sent) == ["running", "pending"]
    assert "--me" not in commands.calls("squeue")[-1]
    denied = "scancel: error: Kill job error on job id 7_0: Access/permission denied"
    commands.answer("scancel", failing=ALWAYS, error=denied)
    refused = call("cancel", sent.runs)
    assert refused.exit_code == 2
    assert "jobs of somebody: scancel: Kill job error" in refused.output
    assert "cancelled 0 of 2 runs" in refused.output
    assert not attempts.read(sent.run_folder(0)), "it was not cancelled"
    commands.answer("squeue")
    assert states(sent) == ["lost"] * 2, "who sees everybody's jobs sees that it is gone"
    commands.answer("scontrol", "ClusterName = here\nPrivateData = jobs,usage\n")
    assert states(sent) == ["unknown"] * 2
    assert "left out 2: unknown: Slurm shows no job of somebody" in call("submit", suite, *_to(sent)).output
    assert "submitted 2 runs" in call("submit", suite, *_to(sent), "--force").output


def _to(submission: Submission) -> tuple[str, ...]:
    return ("--cluster", "slurm", "--out", submission.runs)


def test_a_worker_of_another_machine_is_unknown(suite: Path, sent: Submission) -> None:
    profile = sent.profile.model_copy(update={"executor": "local"})
    sent.model_copy(update={"profile": profile, "host": "elsewhere", "jobs": ("4",)}).write()
    assert states(sent) == ["unknown"] * 2
    assert "its worker is on elsewhere" in call("submit", suite, "--cluster", "local", "--out", sent.runs).output


def test_a_name_may_hold_what_separates_the_queues_columns(sent: Submission, commands: Commands) -> None:
    commands.answer("squeue", f"6|PENDING|None|a|b\n7_0|RUNNING|None|{sent.name}\n7_1|RUNNING|None|{sent.name}\n")
    assert states(sent) == ["running"] * 2


def test_an_array_is_as_large_as_the_controller_allows(tmp_path: Path, commands: Commands) -> None:
    commands.answer("scontrol", "MaxArraySize            = 3\n")
    suite = write_suite(tmp_path, "many", ("seed: [0]", "seed: [0, 1, 2, 3]"))
    done = call("submit", suite, "--cluster", "slurm", "--out", tmp_path / "out", "--dry-run")
    assert [line for line in done.output.splitlines() if "--array" in line] == ["  --array=0-2%3", "  --array=0-0%1"]


def test_what_was_refused_half_way_is_told_and_listed(suite: Path, tmp_path: Path, commands: Commands) -> None:
    profile, out = tmp_path / "both.yaml", tmp_path / "out"
    profile.write_text("description: x\nshapes: [{when: {seed: 1}, ask: {minutes: 90}}]\n")
    commands.answer("sbatch", "7\n")
    script = commands.folder / "sbatch"
    script.write_text(
        "#!/bin/sh\ngrep -q time=90 \"$2\" && { echo 'sbatch: error: Invalid qos: limits' >&2; exit 1; }\n"
        f"cat {script}.text\n"
    )
    done = call("submit", suite, "--cluster", profile, "--out", out)
    assert done.exit_code == 2
    assert "Invalid qos: limits; sent before that: 1 runs in 1 arrays, as job 7; not sent: 1 runs in 1" in done.output
    commands.answer("squeue", f"7_0|PENDING|None|{submissions(out)[0].name}\n")
    status = call("status", out)
    assert "2 runs: 1 pending, 1 not submitted" in status.output
    commands.answer("sbatch", "8\n")
    again = call("submit", suite, "--cluster", profile, "--out", out)
    assert "left out 1: pending" in again.output
    assert "submitted 1 runs as job 8" in again.output


def test_retry_may_ask_for_more_whatever_the_shape(suite: Path, tmp_path: Path, commands: Commands) -> None:
    profile, out = tmp_path / "wide.yaml", tmp_path / "out"
    profile.write_text(
        "description: x\nresources: {memory_gb: 2}\nshapes: [{when: {seed: 1}, ask: {memory_gb: 4, minutes: 90}}]\n"
    )
    assert call("submit", suite, "--cluster", profile, "--out", out).exit_code == 0
    done = call("retry", out, "--resource", "memory_gb=8")
    assert done.exit_code == 0, done.output
    again = submissions(out)[2:]
    assert [(one.resources.memory_gb, one.resources.minutes) for one in again] == [(8, 60), (8, 90)]
    (commands.folder / "sbatch").write_text('#!/bin/sh\ngrep -q time=90 "$2" && exit 1\necho 9\n')
    partly = call("retry", out, "--resource", "memory_gb=16")
    assert partly.exit_code == 2
    assert "sbatch: exit code 1; before that 1 runs in 1 arrays were sent again, as job 9" in partly.output
    refused = call("retry", out, "--resource", "memory=8")
    assert (refused.exit_code, "--resource memory: unknown key" in refused.output) == (2, True)


def test_a_line_of_setup_that_fails_is_the_record_here_too(suite: Path, tmp_path: Path) -> None:
    """On this machine: the worker ends, and with it every run that it would have done."""
    profile, out = tmp_path / "broken.yaml", tmp_path / "out"
    setup = "[export A=1, 'cat /no/such/file  # a module', 'true']"
    profile.write_text(f"description: x\nexecutor: local\nsetup: {setup}\n")
    command = [sys.executable, "-m", "benchmark", "submit", str(suite), "--cluster", str(profile), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE).returncode == 0
    wait_for(lambda: len(list(out.glob("*/network.json"))) == 2, what="both records")
    (submission,) = submissions(out)
    record = NetworkRecord.read(network_path(submission.run_folder(1)))
    assert record.status == "failed"
    assert record.message.startswith("setup line 'cat /no/such/file  # a module' ended with exit code 1; log: cat:")


@pytest.mark.parametrize(
    ("cluster", "resources", "expected"),
    [
        ("debug", ["gpus_per_node=2"], "gpus_per_node is 2, but executor debug is one process"),
        ("local", ["nodes=2"], "nodes is 2, but executor local is this machine alone"),
        ("slurm", ["gpus_per_node=1"], "no GPU can be used: torch 2.0+cpu was built without CUDA"),
    ],
)
def test_what_a_job_would_end_with_is_refused_before(
    suite: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cluster: str,
    resources: list[str],
    expected: str,
) -> None:
    for name, value in (("__version__", "2.0+cpu"), ("version.cuda", None), ("version.hip", None)):
        monkeypatch.setattr(f"torch.{name}", value)
    options = [part for text in resources for part in ("--resource", text)]
    out = tmp_path / "out"
    done = call("submit", suite, "--cluster", cluster, "--out", out, "--set", "device=auto", *options)
    assert (done.exit_code, expected in done.output) == (2, True), done.output
    assert not out.exists()


def test_an_unanswered_command_that_is_final_is_not_repeated(commands: Commands) -> None:
    commands.answer("sacct", failing=ALWAYS, error="sacct: error: Slurm accounting storage is disabled")
    assert queue.accounted(["7_0"]) == {}
    assert len(commands.calls("sacct")) == 1
    with pytest.raises(UserError, match="no Slurm on this machine"):
        queue.call("sinfo-that-is-not-there")


def test_what_the_shell_sets_does_not_override_the_script(
    suite: Path, tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm takes SBATCH_JOB_NAME before a script's own name, by which jobs are found again."""
    (commands.folder / "sbatch").write_text(f"#!/bin/sh\nenv | grep SBATCH_ > {tmp_path}/seen\necho 7\n")
    for name, value in (("JOB_NAME", "theirs"), ("TIMELIMIT", "1"), ("QOS", "long"), ("ACCOUNT", "me")):
        monkeypatch.setenv(f"SBATCH_{name}", value)
    options = ("--cluster", "slurm", "--out", tmp_path / "out", "--resource", "account=us")
    assert call("submit", suite, *options).exit_code == 0
    assert (tmp_path / "seen").read_text() == "SBATCH_QOS=long\n", "the profile names none"
    assert os.environ["SBATCH_JOB_NAME"] == "theirs"
    printed = call("submit", suite, *options[:3], tmp_path / "by-hand", "--print-sbatch").output
    assert "unset SBATCH_ARRAY_INX SBATCH_CPUS_PER_TASK SBATCH_JOB_NAME" in printed
