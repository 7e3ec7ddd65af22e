"""``spherebench run``: from a suite file to tables, again and again, whatever happens in between."""

from __future__ import annotations

import errno
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from click.testing import Result

from benchmark.cli import main
from benchmark.networks.trained import Pretraining
from benchmark.running.folder import alone
from benchmark.runtime.process import Process
from benchmark.suite.expand import load_suite, read_suite
from benchmark.suite.tune import MISSING, scores, tuning_suite
from results.record import MeasurementRecord, NetworkRecord
from tests.benchmark import ranks
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("no_figures")
Digits = dict[str, dict[str, float]]


def _records(folder: Path) -> dict[str, NetworkRecord]:
    return {path.parent.name: NetworkRecord.read(path) for path in sorted(folder.glob("*/network.json"))}


def _measurements(folder: Path) -> dict[str, list[MeasurementRecord]]:
    paths = sorted(folder.glob("*/measurements/*.json"))
    names = dict.fromkeys(path.parts[-3] for path in paths)
    return {name: [MeasurementRecord.read(path) for path in paths if path.parts[-3] == name] for name in names}


def _figures(folder: Path) -> Digits:
    """Every figure that does not depend on time: equal bit for bit between equal runs."""
    return {
        name: {metric.name: metric.value for record in records for metric in record.metrics}
        for name, records in _measurements(folder).items()
    }


def _losses(folder: Path) -> dict[str, list[tuple[int, float]]]:
    lines = {path.parent.name: path.read_text().splitlines() for path in folder.glob("*/metrics.jsonl")}
    return {name: [(line["step"], line["loss"]) for line in map(json.loads, text)] for name, text in lines.items()}


def test_a_suite_becomes_records_tables_and_plots(undisturbed: Path) -> None:
    records = _records(undisturbed)
    assert [record.status for record in records.values()] == ["done", "done"]
    assert all(record.form in {"primal", "dual"} for record in records.values())
    for record in records.values():
        assert record.cost.step_seconds is not None
        assert record.cost.peak_bytes_step is not None
        assert record.cost.peak_bytes_loss is not None
        assert 0 < record.cost.peak_bytes_loss < record.cost.peak_bytes_step
    measured = _measurements(undisturbed)
    assert measured.keys() == records.keys()
    for found in measured.values():
        assert {record.status for record in found} == {"done"}
        assert sorted(record.probe for record in found) == ["embedding", "fewshot", "knn"]
        assert all({"split"} <= metric.protocol.keys() for record in found for metric in record.metrics)
    assert list(undisturbed.glob("tables/*.md"))
    assert list(undisturbed.glob("plots/*.png"))
    assert list(undisturbed.glob("plots/*.pdf"))
    assert "connect-src 'none'" in (undisturbed / "report.html").read_text(encoding="utf-8")
    assert not list(undisturbed.glob("*/checkpoints"))


def test_the_same_run_twice_is_bit_identical(undisturbed: Path, tiny: Path, tmp_path: Path, spherebench) -> None:
    assert spherebench("run", tiny, "--out", tmp_path / "again").exit_code == 0
    assert _figures(tmp_path / "again") == _figures(undisturbed)
    assert _losses(tmp_path / "again") == _losses(undisturbed)


def test_a_second_run_does_nothing_new(undisturbed: Path, spherebench) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*.json") if path.name != "suite.json"}
    result = spherebench("run", undisturbed.parent / "tiny.yaml", "--out", undisturbed)
    assert result.exit_code == 0
    assert "2 runs, 2 recorded" in result.output
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("evaluation.knn_k=5,5000", "evaluation.knn_k: is 5000, must be at most 256: the labelled images give no more"),
        ("evaluation.labels_per_class=1,50", "evaluation.labels_per_class: is 50, must be at most 2"),
    ],
)
def test_more_than_any_data_set_has_is_refused_before_training(
    tiny: Path, tmp_path: Path, spherebench, assignment: str, said: str
) -> None:
    result = spherebench("run", tiny, "--out", tmp_path / "out", "--set", assignment)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_exit_1_says_why(tiny: Path, tmp_path: Path, spherebench) -> None:
    sets = ("--set", "optimizer.base_lr=1e30", "--set", "optimizer.name=sgd")
    for _ in range(2):
        result = spherebench("run", tiny, "--out", tmp_path, *sets)
        assert result.exit_code == 1
        assert "not done, of 2 runs: 2 diverged (--retry failed does it again)\n" in result.output
    two = load_suite(str(tiny), ["method=sfrik_l2"])
    with alone(tmp_path / "two" / two.cells[0].run.id, Process(torch.device("cpu")), lock=True) as mine:
        assert mine
        result = spherebench("run", tiny, "--out", tmp_path / "two", "--set", "method=sfrik_l2")
    assert result.exit_code == 1
    assert "not done, of 1 runs: 1 left to another program\n" in result.output


def _forked(work: Callable[[], object]) -> int | None:
    """The exit code of a process of its own that does this, forked from this one, which has loaded what it needs."""

    def without_what_is_here() -> None:
        gc.freeze()  # or its collections go through all of that, and copy its pages
        work()

    process = multiprocessing.get_context("fork").Process(target=without_what_is_here)
    process.start()
    process.join(PATIENCE)
    process.kill()
    return process.exitcode


def _with_signal(number: int, step: int, command: Callable[[], Result], said: Path) -> int | None:
    """The exit code of a ``command`` in a process of its own, which sends itself this signal once, in that step.

    The one before it has left a checkpoint. What was printed is left in ``said``.
    """

    def work() -> None:
        numbers, logged = iter([number]), Pretraining._log

        def log(training: Pretraining, *given: Any) -> None:
            logged(training, *given)
            if training.state.step == step:
                os.kill(os.getpid(), next(numbers, 0))

        Pretraining._log = log  # type: ignore[method-assign]
        result = command()
        said.write_text(result.output)
        sys.exit(result.exit_code)

    return _forked(work)


def test_more_than_one_of_several_data_sets_has_is_left_out_of_it_with_a_word(
    tiny: Path, tmp_path: Path, spherebench
) -> None:
    sets = ("evaluation.probes=knn", "evaluation.knn_k=5,200", "data.limit=64,256", "method=sfrik_l2", "epochs=1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = spherebench("run", tiny, "--out", tmp_path, *(part for each in sets for part in ("--set", each)))
    assert result.exit_code == 0, result.output
    said = "warning: evaluation.knn_k: [200] left out above 64: the labelled images give no more"
    assert said in " ".join(result.output.split())
    found = [[metric.protocol["k"] for metric in record.metrics] for (record,) in _measurements(tmp_path).values()]
    assert sorted(found) == [[5], [5, 200]]


def test_kill_9_in_mid_run_then_the_same_command_gives_the_same_numbers(
    undisturbed: Path, tiny: Path, tmp_path: Path, spherebench
) -> None:
    out = tmp_path / "killed"
    command = partial(spherebench, "run", tiny, "--out", out)
    assert _with_signal(signal.SIGKILL, 5, command, tmp_path / "said") == -signal.SIGKILL
    assert list(out.glob("sfrik_l2*/checkpoints/*.pt"))
    assert not _records(out)
    assert command().exit_code == 0
    assert _figures(out) == _figures(undisturbed)
    assert _losses(out) == _losses(undisturbed)
    attempts = {record.network["method"]: record.provenance.attempts for record in _records(out).values()}
    assert attempts == {"sfrik_l2": 2, "vicreg": 1}


def test_ctrl_c_ends_the_run_and_the_suite_goes_on(undisturbed: Path, tiny: Path, tmp_path: Path, spherebench) -> None:
    out = tmp_path / "interrupted"
    command = partial(spherebench, "run", tiny, "--out", out)
    assert _with_signal(signal.SIGINT, 5, command, tmp_path / "said") == 1, (tmp_path / "said").read_text()
    statuses = {record.network["method"]: record.status for record in _records(out).values()}
    assert statuses == {"sfrik_l2": "interrupted", "vicreg": "done"}
    assert command().exit_code == 0
    assert {record.status for record in _records(out).values()} == {"done"}
    assert _figures(out) == _figures(undisturbed)


def test_a_reader_that_leaves_ends_no_run(tiny: Path, tmp_path: Path) -> None:
    def work() -> None:
        reads, writes = os.pipe()
        os.close(reads)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(writes, number)
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115
        main(["run", str(tiny), "--out", str(tmp_path / "runs"), "--set", "epochs=1"])

    assert _forked(work) == 0
    assert [record.status for record in _records(tmp_path / "runs").values()] == ["done", "done"]


def test_a_diverged_run_is_a_result_and_retry_redoes_it(tiny: Path, tmp_path: Path, spherebench) -> None:
    tiny.write_text(tiny.read_text().replace("grid:", "methods:\n  sfrik_l2: {optimizer: {base_lr: 1e30}}\ngrid:"))
    out = tmp_path / "diverged"
    result = spherebench("run", tiny, "--out", out)
    assert result.exit_code == 1
    statuses = {record.network["method"]: (record.status, record.message) for record in _records(out).values()}
    assert statuses["vicreg"] == ("done", "")
    assert statuses["sfrik_l2"][0] == "diverged"
    assert "the loss became" in statuses["sfrik_l2"][1]
    assert "diverged" in "".join(path.read_text() for path in out.glob("tables/*.md"))
    assert "2 recorded" in spherebench("run", tiny, "--out", out).output
    again = spherebench("run", tiny, "--out", out, "--retry", "failed")
    assert "1 recorded" in again.output
    diverged = next(record for record in _records(out).values() if record.status == "diverged")
    assert diverged.provenance.attempts == 2


@pytest.mark.parametrize("name", ["network.json", "measurements/knn-*.json"])
def test_a_damaged_record_is_named_set_aside_and_made_again(
    undisturbed: Path, tiny: Path, tmp_path: Path, spherebench, name: str
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "runs")
    before, weights = _figures(out), {path: path.read_bytes() for path in out.glob("*/weights.safetensors")}
    damaged = next(out.glob(f"vicreg*/{name}"))
    damaged.write_text(damaged.read_text()[:200])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = spherebench("run", tiny, "--out", out)
    assert result.exit_code == 0
    assert f"{damaged}" in result.output
    assert f"set aside as {damaged.name}.damaged" in result.output
    assert "1 recorded" in result.output
    assert damaged.with_name(f"{damaged.name}.damaged").exists()
    assert _figures(out) == before
    assert {path: path.read_bytes() for path in weights} == weights


@pytest.mark.parametrize("name", ["network.json", "measurements/knn-*.json"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema_version": 3, "more": 1}, "is of a newer version of spherebench; choose another folder"),
        ({"more": 1}, "is of a newer version of spherebench; choose another folder"),
        ({"status": "timed-out"}, "is of a newer version of spherebench; choose another folder"),
        ({"provenance": {}}, "put it right, remove it, or choose another folder"),
    ],
)
def test_a_record_that_may_be_whole_is_named_and_stays(
    undisturbed: Path, tiny: Path, tmp_path: Path, spherebench, name: str, change: dict[str, object], told: str
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "runs")
    newer = next(out.glob(f"vicreg*/{name}"))
    newer.write_text(json.dumps({**json.loads(newer.read_text()), **change}))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for more in ((), ("--retry", "failed")):
        result = spherebench("run", tiny, "--out", out, *more)
        assert result.exit_code == 2
        output = " ".join(result.output.split())
        assert str(newer) in output
        assert told in output
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_note_of_a_newer_version_keeps_what_only_that_knows(
    undisturbed: Path, tiny: Path, tmp_path: Path, spherebench
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "runs")
    note = json.loads((out / "suite.json").read_text())
    (out / "suite.json").write_text(json.dumps({**note, "more": 1}))
    assert spherebench("run", tiny, "--out", out).exit_code == 0
    assert json.loads((out / "suite.json").read_text()) == {**note, "more": 1}


def test_a_file_system_without_locks_is_one_sentence_and_there_is_a_way_to_go_on(
    tiny: Path, tmp_path: Path, spherebench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ("--out", tmp_path / "runs", "--set", "epochs=1", "--set", "method=sfrik_l2")
    for number in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
        refuse = Mock(side_effect=OSError(number, os.strerror(number)))
        monkeypatch.setattr(fcntl, "flock", refuse)
        result = spherebench("run", tiny, *one)
        assert result.exit_code == 2
        output = " ".join(result.output.split())
        assert f"this file system gives no locks ({os.strerror(number)})" in output
        assert "--set lock=false" in output
    assert spherebench("run", tiny, *one, "--set", "lock=false").exit_code == 0


def test_a_folder_of_other_settings_is_refused_and_left_alone(
    undisturbed: Path, tiny: Path, tmp_path: Path, spherebench
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "runs")
    before = sorted(out.rglob("*"))
    result = spherebench("run", tiny, "--out", out, "--set", "epochs=3")
    assert result.exit_code == 2
    assert "holds runs of suite 'tiny' with other settings" in result.output
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "epoch=3"], "--set epoch: unknown key; allowed are"),
        (["--set", "method=sfrik"], "method 'sfrik' is not known; there are"),
        (["--set", "embedding_dim=1"], "embedding_dim: is 1"),
        (["--set", "loss.align_weight=-1"], "align_weight"),
        (["--set", "batch_size=257"], "batch_size is 257, must be at most"),
        (["--set", "data.source=npz:/nowhere/x.npz"], "/nowhere/x.npz"),
        (["--set", "data.source=cifar10"], "--download"),
        (["--set", "device=tpu"], "must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(
    tiny: Path, tmp_path: Path, spherebench, arguments: list[str], said: str
) -> None:
    out = tmp_path / "runs"
    result = spherebench("run", tiny, "--out", out, "--set", f"data_root={tmp_path / 'none'}", *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("plots", "RUNS", "--out", "FILE"), "'--out': Directory 'FILE' is a file"),
        (("report", "RUNS", "--out", "RUNS"), "'--out': File 'RUNS' is a directory"),
        (("pack", "RUNS", "--to", "RUNS"), "'--to': File 'RUNS' is a directory"),
        (("cost", "--out", "FILE"), "'--out': Directory 'FILE' is a file"),
    ],
)
def test_a_file_for_a_folder_and_a_folder_for_a_file_are_told_of(
    undisturbed: Path, spherebench, command: tuple[str, ...], told: str
) -> None:
    places = {"RUNS": str(undisturbed), "FILE": str(undisturbed / "suite.json")}
    result = spherebench(*(places.get(part, part) for part in command))
    assert result.exit_code == 2
    for name, place in places.items():
        told = told.replace(name, place)
    assert told in " ".join(result.output.split())


def test_tune_gives_every_method_the_same_budget_and_writes_its_choice(tiny: Path, tmp_path: Path, spherebench) -> None:
    result = spherebench("tune", tiny, "--out", tmp_path / "tune", "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["method"] for row in rows] == ["sfrik_l2", "sfrik_l2", "vicreg", "vicreg"]
    best = max(row["knn_top1"] for row in rows[:2])
    assert rows[0]["knn_top1"] == best
    chosen = (tmp_path / "tune" / "chosen.yaml").read_text()
    assert f"align_weight: {rows[0]['loss.align_weight']}" in chosen
    found = [record for records in _measurements(tmp_path / "tune").values() for record in records]
    assert {metric.protocol["split"] for record in found for metric in record.metrics} == {"tune"}
    next((tmp_path / "tune").glob("vicreg-*/measurements/knn-*.json")).unlink()  # as where another job is at it
    file = read_suite(tiny)
    assert file.tune is not None
    notes = [
        score.note for score in scores(tuning_suite(file, {}, name="tiny", where=""), file.tune, tmp_path / "tune")
    ]
    assert sorted(notes) == ["", "", "", MISSING]


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("evaluation.split=test", "--set evaluation.split: tuning looks at the tune split only"),
        ("evaluation={split: test}", "--set evaluation.split: tuning looks at the tune split only"),
        ("method=auh", "--set method: is 'auh', which has no candidates; there are sfrik_l2, vicreg"),
    ],
)
def test_tuning_refuses_the_test_split_and_methods_without_candidates(
    tiny: Path, tmp_path: Path, spherebench, assignment: str, said: str
) -> None:
    result = spherebench("tune", tiny, "--out", tmp_path / "tune", "--set", assignment)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "tune").exists()


def test_tuning_takes_some_of_the_methods(tiny: Path, tmp_path: Path, spherebench) -> None:
    result = spherebench("tune", tiny, "--out", tmp_path / "tune", "--set", "method=vicreg", "--format", "json")
    assert result.exit_code == 0, result.output
    assert [row["method"] for row in json.loads(result.stdout)] == ["vicreg", "vicreg"]


def test_tuning_chooses_nothing_while_candidates_are_with_another_program(
    tiny: Path, tmp_path: Path, spherebench
) -> None:
    candidates = tuning_suite(read_suite(tiny), {"method": ["vicreg"]}, name="tiny", where="tiny.yaml")
    process = Process(torch.device("cpu"))
    with ExitStack() as held:
        for cell in candidates.cells:
            assert held.enter_context(alone(tmp_path / cell.run.id, process, lock=True))
        result = spherebench("tune", tiny, "--out", tmp_path, "--set", "method=vicreg")
    assert result.exit_code == 1, result.output
    assert "2 left to another program" in result.output
    assert "nothing is chosen: candidates are missing" in result.output
    assert not (tmp_path / "chosen.yaml").exists()


def test_unequal_budgets_are_refused(tiny: Path, tmp_path: Path, spherebench) -> None:
    tiny.write_text(tiny.read_text().replace("[0.5, 1.0]", "[0.5, 1.0, 2.0]"))
    result = spherebench("tune", tiny, "--out", tmp_path / "tune")
    assert result.exit_code == 2
    assert "sfrik_l2 3, vicreg 2" in result.output


@ranks.GREY
def test_two_processes_train_as_one_does(tiny: Path, tmp_path: Path, spherebench) -> None:
    """torchrun forks them: programs that begin afresh take each of them seconds to load what is loaded here."""
    sets = ["--set", "method=simclr", "--set", "evaluation.probes=knn"]  # few figures
    assert spherebench("run", tiny, "--out", tmp_path / "one", *sets).exit_code == 0
    torchrun = ["--nproc-per-node=2", "--start-method=fork", "--run-path", str(ROOT / "benchmark" / "__main__.py")]
    command = [*torchrun, "run", str(tiny), "--out", str(tmp_path / "two"), *sets]
    assert _forked(lambda: importlib.import_module("torch.distributed.run").main(command)) == 0
    (one,), (two,) = (_losses(tmp_path / folder).values() for folder in ("one", "two"))
    assert [step for step, _ in one] == [step for step, _ in two]
    # Float32 sums over two halves differ in the last digits, and training amplifies them step by step.
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], rel=2e-3)
    assert {record.provenance.world_size for record in _records(tmp_path / "two").values()} == {2}
    assert {path.name for path in (tmp_path / "two" / "tables").iterdir()} > {"accuracy.md", "runs.csv"}


def test_help_needs_no_torch_and_no_pandas() -> None:
    code = "import sys; from benchmark.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'pandas', 'sklearn', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert "compare" in done.stdout


def test_a_folder_of_an_older_version_is_refused_in_a_sentence(tiny: Path, tmp_path: Path, spherebench) -> None:
    old = tmp_path / "runs" / "sfrik_l2-d16-s0-0123456789"
    old.mkdir(parents=True)
    (old / "record.json").write_text('{"schema_version": 1}')
    for command in (["run", tiny, "--out", tmp_path / "runs"], ["tables", tmp_path / "runs"]):
        result = spherebench(*command)
        assert result.exit_code == 2
        assert "version" in result.output
        assert "Traceback" not in result.output
    assert [path.name for path in (tmp_path / "runs").rglob("*")] == [old.name, "record.json"]


def test_what_a_suites_weights_take_is_told_before_it_starts(
    tiny: Path, tmp_path: Path, spherebench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.running import runner

    told, few = "the weights of 2 networks will take", ("--set", "epochs=1", "--set", "evaluation.probes=knn")
    assert told not in spherebench("run", tiny, "--out", tmp_path / "small", *few).output
    sizes = [path.stat().st_size for path in (tmp_path / "small").glob("*/weights.safetensors")]
    monkeypatch.setattr(runner, "TOLD_BYTES", 0.8 * sum(sizes))
    output = spherebench("run", tiny, "--out", tmp_path / "large", *few).output
    assert output.index(told) < output.index("[1/2]")
    assert told not in spherebench("run", tiny, "--out", tmp_path / "none", *few, "--set", "keep=none").output
    monkeypatch.setattr(runner, "TOLD_BYTES", 1.1 * sum(sizes))
    assert told not in spherebench("run", tiny, "--out", tmp_path / "again", *few).output


@pytest.mark.parametrize("name", ["tables", "plots"])
def test_where_no_tables_can_be_written_nothing_is_trained(tiny: Path, tmp_path: Path, spherebench, name: str) -> None:
    out = tmp_path / "runs"
    out.mkdir()
    (out / name).write_text("a file of the user's")
    result = spherebench("run", tiny, "--out", out)
    assert result.exit_code == 2
    assert f"{out / name}: must be a folder that can be written" in " ".join(result.output.split())
    assert [path.name for path in out.iterdir()] == [name]


@pytest.mark.parametrize(
    ("metric", "trained", "told"),
    [
        ("knn_top1[k", 0, "asks for no metric"),
        ("knn_top5", 0, "must be one that they measure: alignment, fewshot_top1, knn_top1, rankme, uniformity"),
        ("knn_top1[k=9]", 0, "must be one that they measure: knn_top1[k=5], knn_top1[k=7]"),
        ("knn_top1", 0, "which 2 metrics are: knn_top1[k=5], knn_top1[k=7]"),
        ("knn_top1[k=5,split=test]", 1, "must name a metric of"),  # which is known of what was measured alone
    ],
)
def test_a_metric_to_tune_by_that_is_none_is_told_before_the_hours(
    tiny: Path, tmp_path: Path, spherebench, metric: str, trained: int, told: str
) -> None:
    text = tiny.read_text().replace("metric: knn_top1", f"metric: '{metric}'")
    tiny.write_text(text.replace("knn_k: [5]", "knn_k: [5, 7]"))
    result = spherebench("tune", tiny, "--out", tmp_path / "tuned")
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.output.split())
    assert len(list((tmp_path / "tuned").glob("*/network.json"))) == trained
