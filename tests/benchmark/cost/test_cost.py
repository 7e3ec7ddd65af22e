"""``spherebench cost``: real processes at shapes that take seconds; sizes of memory are checked against counts."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.cost import losses, runner, sweep, views
from benchmark.cost.steps import PlainStep, TimedStep
from benchmark.cost.sweep import Cell, cells, in_json, measure
from benchmark.networks.step import TrainingStep
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.suite.expand import load_suite
from results.cell import CostCell, Scope, cells_in, render
from tests.benchmark import layouts
from tests.benchmark.conftest import TINY as TINY_SUITE
from tests.benchmark.conftest import Command

CPU = torch.device("cpu")
TINY = (
    "data.source=digits",
    "data.image_size=null",
    "backbone.name=small_cnn",
    "projector.hidden=16",
    "precision=fp32",
)


def here(function: Callable[..., dict[str, Any]], **asked: Any) -> runner.Ended:
    """In place of a process that loads torch anew, of which test_regime_cost.py asks."""
    return runner.Ended("done", result=function(**asked))


def test_a_sweep_is_kept_told_and_not_measured_again(
    tmp_path: Path, spherebench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "alone", here)
    asked = ("cost", "--embedding-dim", "64,128", "--batch-size", "32", "--method", "sfrik_l3", "--reference")
    asked = (*asked, "--out", str(tmp_path), "--format", "json")
    rows = json.loads(spherebench(*asked).stdout)
    assert [row["embedding_dim"] for row in rows] == [64, 128]
    for row in rows:
        assert (row["method"], row["form"], row["batch_size"], row["scope"]) == ("sfrik_l3", "dual", 32, "loss")
        assert row["input_bytes"] == 2 * 32 * row["embedding_dim"] * 4
        assert 0 < row["seconds_q1"] <= row["seconds"] <= row["seconds_q3"]
        assert row["time_ratio"] == pytest.approx(row["reference_seconds"] / row["seconds"])
        # At least the gradients of both views must be held; and not the many N x N matrices of autograd.
        assert row["input_bytes"] < row["peak_bytes"] < row["reference_peak_bytes"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*.json")}
    assert len(before) == 2
    assert json.loads(spherebench(*asked).stdout) == rows
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*.json")} == before
    assert {path.name for path in tmp_path.glob("plots/*.png")} == {"over_embedding_dim.png", "tradeoff.png"}
    assert "| SFRIK, L = 3" in (tmp_path / "tables" / "cost.md").read_text()


def test_errors_are_those_of_the_precision() -> None:
    found = {
        precision: losses.errors(
            Cell(scope="errors", method="auh", embedding_dim=256, batch_size=64, precision=precision), CPU
        )
        for precision in ("fp32", "bf16", "fp16")
    }
    errors = {precision: error["gradient_error"] for precision, error in found.items()}
    assert errors["fp32"] < 1e-6 < errors["fp16"] < errors["bf16"] < 1e-2


def test_a_gradient_that_overflows_is_a_failure() -> None:
    cell = Cell(scope="errors", method="vicreg", embedding_dim=16, batch_size=8, precision="fp16")
    found = losses.errors(cell, CPU)
    assert (found["status"], found["message"]) == ("failed", "the gradient overflows in fp16")
    assert "gradient_error" not in found


def test_a_step_is_measured_with_its_parts_beside_the_plain_one() -> None:
    cell = Cell(scope="step", method="vicreg", embedding_dim=32, batch_size=32, settings=TINY, reference=True)
    found = measure(cell)
    assert found.measured is not None
    assert found.reference is not None
    assert set(found.measured.phases) == {"forward", "backward", "update", "data"}
    assert set(found.reference.phases) == {"forward", "backward", "update"}
    parts = found.measured.phases
    whole = parts["forward"] + parts["backward"] + parts["update"]
    assert whole == pytest.approx(found.measured.seconds.median, rel=0.5)
    assert found.network == "small_cnn, width 32, 8 x 8 pixels, projector 16-16-D, lars"


def test_the_plain_step_takes_the_same_step() -> None:
    cell = Cell(scope="step", method="sfrik_l2", embedding_dim=32, batch_size=32, settings=TINY)
    network = cell.network()
    ours, plain = TrainingStep(network, 1, Process(CPU)), PlainStep(network, 1, CPU)
    views = tuple(torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(view)) for view in range(2))
    for step in (ours, plain, ours, plain):
        for group in step.optimizer.param_groups:
            group["lr"] = 0.1
        TimedStep(step, views, CPU)()
    for own, other in zip(ours.encoder.parameters(), plain.encoder.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)


def test_options_of_a_loss_are_set_and_a_list_is_an_axis() -> None:
    axes = {"method": ["sigreg"], "form": ["auto"], "embedding_dim": [32], "batch_size": [16]}
    chosen, _ = cells(axes, {"settings": ("loss.slices=8,16", "loss.knots=5")})
    assert [(cell.options["slices"], cell.options["knots"]) for cell in chosen] == [(8, 5), (16, 5)]
    assert len({cell.id for cell in chosen}) == 2
    found = measure(chosen[0])
    assert (found.title, found.settings) == ("LeJEPA (SIGReg), slices=8, knots=5", ("slices=8", "knots=5"))
    axes = {**axes, "method": ["zonal_mmd"], "form": ["primal", "dual"]}
    assert len(cells(axes, {"settings": ("loss.kernel=bandlimited",)})[0]) == 2
    chosen, skipped = cells({**axes, "method": ["zonal_kl"], "form": ["auto"], "embedding_dim": [16, 32]}, {})
    assert [cell.embedding_dim for cell in chosen] == [32]
    assert "normaliser of zonal_kl" in skipped[0]
    with pytest.raises(UserError, match="--set: method 'sigreg' has no option 'slice': it takes weight, slices"):
        cells({**axes, "method": ["sigreg"]}, {"settings": ("loss.slice=8",)})
    with pytest.raises(UserError, match=r"--set slices=8: of a loss the loss is set, as in --set loss.slices=256,1024"):
        cells({**axes, "method": ["sigreg"]}, {"settings": ("slices=8",)})


def test_what_waits_costs_one_thread_no_time() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert losses.clock_of(CPU) == "cpu"
        assert losses.timed(partial(time.sleep, 0.2), CPU, "cpu")[0] < 0.1
        torch.set_num_threads(2)
        assert losses.clock_of(CPU) == "wall"
    finally:
        torch.set_num_threads(threads)


METADATA = "Metadata-Version: 2.1\nName: lightly\nVersion: 1.2\n"
PEER = """
import torch

class NTXentLoss:
    def __init__(self, temperature):
        self.temperature = temperature

    def __call__(self, x, y):
        return (x @ y.T / self.temperature).logsumexp(1).mean()
"""


def test_a_peer_is_measured_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"lightly/__init__.py": "", "lightly/loss.py": PEER, "lightly-1.2.dist-info/METADATA": METADATA}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("lightly", "lightly.loss"):  # not a real one, and this one only here
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sweep, "alone", here)
    found = sweep.measured(Cell(method="simclr", embedding_dim=32, batch_size=16, reference=True))
    assert found.status == "done", found.message
    assert found.peers["lightly"].seconds.median > 0
    assert found.provenance.versions["lightly"] == "1.2"
    assert found.row()["lightly_seconds"] == found.peers["lightly"].seconds.median
    table = render([found], "md")
    assert "Time, lightly" in table
    assert "lightly 1.2" in table


def test_what_runs_out_of_memory_is_one_cell_marked_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "textbook", lambda *_: torch.empty(2**60))
    found = measure(Cell(method="vicreg", embedding_dim=32, batch_size=16, reference=True))
    assert (found.status, found.reference_status) == ("done", "out-of-memory")
    assert found.measured is not None
    assert found.reference is None
    row = found.row()
    assert (row["reference_seconds"], row["time_ratio"]) == (None, None)


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "out-of-memory", "ended with code -9"),
        ("raise SystemExit('no such thing')", "failed", "no such thing"),
    ],
)
def test_a_process_that_dies_is_a_cell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, status: str, message: str
) -> None:
    dying = tmp_path / "python"
    dying.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    found = sweep.measured(Cell(method="vicreg", embedding_dim=32, batch_size=16))
    assert (found.status, found.message) == (status, message)


def test_what_runs_out_of_memory_beside_the_textbook_form_is_measured_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def killed_with_reference(function: object, cell: str) -> runner.Ended:
        asked.append(json.loads(cell)["reference"])
        if asked[-1]:
            return runner.Ended("out-of-memory", "ended with code -9")
        return runner.Ended("done", result=in_json(cell))

    monkeypatch.setattr(sweep, "alone", killed_with_reference)
    found = sweep.measured(Cell(method="auh", embedding_dim=32, batch_size=16, reference=True))
    assert asked == [True, False]
    assert (found.status, found.reference_status) == ("done", "out-of-memory")


def test_what_failed_is_measured_again_and_what_is_recorded_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cell = Cell(method="auh", embedding_dim=32, batch_size=16)
    done = measure(cell)
    ends = iter([done.model_copy(update={"status": "failed"}), done])
    monkeypatch.setattr(sweep, "measured", lambda cell: next(ends))
    statuses = [sweep.sweep([cell], tmp_path, lambda record: None)[0].status for _ in range(3)]
    assert statuses == ["failed", "done", "done"]


def test_a_method_without_a_textbook_form_is_measured_alone() -> None:
    found = measure(Cell(method="mmd", embedding_dim=32, batch_size=16, reference=True))
    assert (found.status, found.reference_status, found.reference) == ("done", None, None)


def test_a_form_that_a_method_has_not_is_skipped_with_its_reason() -> None:
    axes = {"method": ["sfrik_l3", "vicreg"], "form": ["primal"], "embedding_dim": [16], "batch_size": [8]}
    chosen, skipped = cells(axes, {})
    assert [cell.method for cell in chosen] == ["vicreg"]
    assert skipped == ["sfrik_l3: this loss has no form 'primal': it takes auto, dual"]


def test_calls_are_made_in_turns() -> None:
    made: list[str] = []
    taken = losses.in_turns([lambda: made.append("a"), lambda: made.append("b")], CPU, budget=0.0)
    assert made == ["a", "b"] * (losses.LEAST + 1)
    assert [own.n for own in taken] == [losses.LEAST, losses.LEAST]


def test_the_step_of_a_cell_is_the_suites() -> None:
    cell = Cell(scope="step", method="simclr", embedding_dim=128, batch_size=64, precision="bf16")
    networks = [own.run.network for own in load_suite("cifar10", ["precision=bf16", "embedding_dim=128"]).cells]
    suites = next(own for own in networks if own.method == "simclr" and getattr(own, "seed", None) == 0)
    assert cell.network() == suites.model_copy(update={"batch_size": 64})


def test_a_step_that_a_suite_leaves_out_is_one_sentence(tmp_path: Path, spherebench: Command) -> None:
    suite = tmp_path / "skipping.yaml"
    suite.write_text(TINY_SUITE + "skip: [{when: {method: vicreg}, reason: none}]\n")
    result = spherebench("cost", "--scope", "step", "--suite", suite, "--method", "vicreg")
    assert result.exit_code == 2
    assert "skipping.yaml: leaves out vicreg with these settings" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--embedding-dim", "many"], "is 'many', must be whole numbers with commas between them, such as 512,2048"),
        (["--embedding-dim", "1"], "--embedding-dim: is 1, should be greater than or equal to 2"),
        (["--method", "sfrik"], "--method: is 'sfrik', which --scope loss has not; it has sfrik_l1"),
        (["--precision", "fp8"], "--precision: is 'fp8', should be 'fp32', 'tf32', 'bf16' or 'fp16'"),
        (["--method", "simclr", "--form", "primal"], "nothing is left to measure: simclr: this loss has no"),
        (["--scope", "step", "--suite", "nosuch"], "suite 'nosuch' is not known"),
        (["--set", "epochs=1"], "--set epochs=1: of a loss the loss is set, as in --set loss.slices=256,1024"),
        (["--scope", "fit", "--precision", "bf16"], "--precision and --form are for losses: a fit has one"),
        (
            ["--scope", "views", "--data", "nowhere"],
            "--data nowhere: there is no such folder; photographs",
        ),
        (["--scope", "views", "--method", "vicrag"], "which --scope views has not; it has vicreg, simclr"),
        (["--data", "nowhere"], "--data: photographs are for --scope views, not loss"),
        (
            ["--device", "cuda:99"],
            "--set device: is 'cuda:99'" if torch.cuda.is_available() else "no GPU can be used: torch ",
        ),
    ],
)
def test_bad_input_is_one_sentence(spherebench: Command, arguments: list[str], sentence: str) -> None:
    result = spherebench("cost", *arguments)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_views_are_measured_by_stage_beside_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_class_folders(tmp_path / "photographs", ["cat", "dog"], 2)
    for name, small in (("PHOTOGRAPHS", 8), ("TURNS", 2), ("EPOCHS", 1), ("STEPS", 2)):
        monkeypatch.setattr(views, name, small)
    axes = {"method": ["vicreg"], "batch_size": [4], "embedding_dim": [32]}
    common = {"scope": "views", "data": str(tmp_path / "photographs"), "reference": True, "device": "cpu"}
    ((cell,), _) = cells({**axes, "form": ["auto"], "precision": ["fp32"]}, common)
    found = measure(cell)
    assert found.status == "done"
    row = found.row()
    assert row["scope"] == "views"
    assert row["time_ratio"] == pytest.approx(row["reference_seconds"] / row["seconds"])
    assert row["time_ratio"] > 1
    assert row["seconds"] > row["decode_seconds"] > 0
    assert 0 <= row["shortest_wait_seconds"] <= row["longest_wait_seconds"]
    assert row["device_seconds"] > 0
    assert "500 x 375 pixels" in render([found])


def test_a_damaged_cell_is_named(tmp_path: Path, spherebench: Command) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "loss.json").write_text('{"scope": "loss"}')
    with pytest.raises(ValueError, match=r"damaged cost cell .*loss\.json"):
        cells_in(tmp_path)
    result = spherebench("tables", tmp_path)
    assert result.exit_code == 2
    assert "damaged cost cell" in result.output


@pytest.mark.parametrize("scope", ["loss", "errors"])
def test_a_cell_survives_its_file(tmp_path: Path, scope: Scope) -> None:
    found = measure(Cell(scope=scope, method="barlow_twins", embedding_dim=32, batch_size=16))
    path = tmp_path / "cell.json"
    path.write_text(found.model_dump_json())
    assert CostCell.read(path) == found
