"""``doctor --gpu`` on two CPU processes: every check is made and is fine; and as a job of a cluster."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest
import torch
from click.testing import CliRunner, Result

from benchmark.cli import main
from benchmark.cost import checks
from benchmark.cost.runner import Ended
from methods import registry
from methods.losses.base import Loss
from slurm import first_hour
from slurm.first_hour import REPORT_NAME, Report
from tests.benchmark import ranks

pytestmark = ranks.GREY


def spherebench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


class Forked:
    """What ``Popen`` starts, forked from this process, which has loaded what takes each of them seconds."""

    def __init__(self, command: list[str], *, env: dict[str, str], stdout: TextIO, **_: object) -> None:
        *_, out, device = command

        def work() -> None:
            gc.freeze()  # or its collections go through all of that, and copy its pages
            os.environ.update(env)
            sys.stdout = sys.stderr = stdout
            first_hour.main(Path(out), device)

        self._process = multiprocessing.get_context("fork").Process(target=work)
        self._process.start()
        self.kill = self._process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("fork", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid or 0, number)


def _start(command: list[str], **asked: Any) -> subprocess.Popen[bytes] | Forked:
    """The program itself where it trains alone."""
    return (subprocess.Popen if asked["env"]["WORLD_SIZE"] == "1" else Forked)(command, **asked)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The checks made in this process, which has loaded what they need; the runs in processes of their own."""
    importlib.import_module("torch._dynamo")  # optimisers do on first use, in two seconds: once for all forks
    folder = tmp_path_factory.mktemp("doctor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_hour, "alone", lambda check, **asked: Ended("done", result=check(**asked)))
        patch.setattr(first_hour, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": _start}))
        result = spherebench("doctor", "--gpu", "--device", "cpu", "--out", folder)
    assert result.exit_code == 0, result.output
    return Report.read(folder / REPORT_NAME)


@pytest.mark.timeout(900)
def test_every_check_is_made_and_fine(report: Report) -> None:
    found = {(row["check"], row["fine"]) for row in report.results}
    held = ("losses", "scaler", "memory", "ranks", "kill", "resume")
    assert found == {*((check, True) for check in held), ("speed", None), ("cost model", None)}
    assert report.processes == report.provenance.world_size == 2


def test_every_registered_loss_is_asked_in_every_precision_and_form(report: Report) -> None:
    rows = [row for row in report.results if row["check"] == "losses"]
    assert [row["what"].split()[-1] for row in rows] == ["fp32", "bf16", "fp16"]
    for row in rows:
        assert {name.split()[0] for name in row["details"]} == set(registry.names())
        assert {"vicreg dual", "vicreg primal"} <= row["details"].keys()


def test_a_loss_that_is_wrong_on_the_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = registry.get("sfrik_l2").loss

    def wrong(views: list[torch.Tensor], **options: Any) -> Loss:
        loss = exact(views, **options)
        return replace(loss, value=1.01 * loss.value) if views[0].dtype == torch.float32 else loss

    monkeypatch.setattr(checks.registry, "names", lambda: ("sfrik_l2",))
    monkeypatch.setattr(checks.registry, "get", lambda name: _Loss(wrong))
    monkeypatch.setattr(checks, "forms_of", lambda name: ("dual",))
    fine = {row["what"]: row["fine"] for row in checks.losses("cpu")["results"]}
    assert fine == {"1 gradients in fp32": False, "1 gradients in bf16": True, "1 gradients in fp16": True}


class _Loss:
    """A method with this loss."""

    draws = False

    def __init__(self, loss: object) -> None:
        self.loss = loss

    def resolve(self, options: object, dim: int) -> dict[str, object]:
        return {"weights": [1.0, 40.0], "align_weight": 1.0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_why(tmp_path: Path) -> None:
    result = spherebench("doctor", "--gpu", "--out", tmp_path)
    assert result.exit_code == 2
    assert "no GPU can be used: torch" in result.output
    assert not list(tmp_path.iterdir())


def test_it_is_sent_as_a_job_on_the_gpus_of_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\necho '41;cluster'\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:/usr/bin:/bin")
    asked = ("submit", "doctor", "--cluster", "slurm-gpu", "--out", tmp_path / "runs")
    result = spherebench(*asked, "--resource", "gpus_per_node=2", "--resource", "partition=fast")
    assert result.exit_code == 0, result.output
    assert "submitted doctor as job 41" in result.output
    script = (tmp_path / "runs" / "doctor.sh").read_text().splitlines()
    wanted = {"gpus-per-node=2", "partition=fast", "nodes=1", "ntasks-per-node=1", "cpus-per-task=16"}
    assert wanted <= {line.removeprefix("#SBATCH --") for line in script}
    assert script[-1].endswith(f"-m benchmark doctor --gpu --out {tmp_path / 'runs'}")
    for cluster, why in (("slurm", "asks for no GPU"), ("local", "is local, no Slurm cluster")):
        refused = spherebench("submit", "doctor", "--cluster", cluster, "--out", tmp_path / "others")
        assert refused.exit_code == 2
        assert why in refused.output
    assert not (tmp_path / "others").exists()


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_the_first_hour_on_the_gpus_there_are(tmp_path: Path) -> None:
    result = spherebench("doctor", "--gpu", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    report = Report.read(tmp_path / REPORT_NAME)
    assert report.processes == min(2, torch.cuda.device_count())
    assert report.provenance.versions["driver"]
