"""One curve a network, in every tracker's own store: each logged step once, whatever was killed in between."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from click.testing import Result

from benchmark.data import DataSpec, load
from benchmark.networks.base import Job
from benchmark.networks.trained import Trained
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution
from benchmark.runtime.tracking import base, live
from benchmark.runtime.tracking.base import Curve, Line, Tracker
from benchmark.runtime.tracking.tensorboard import TensorBoard
from benchmark.suite.expand import load_suite
from results.record import METRICS_NAME
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[3]
ALL = ["tensorboard", "wandb", "trackio"]
NETWORK = {
    "method": "sfrik_l2",
    "embedding_dim": 16,
    "batch_size": 32,
    "epochs": 6,
    "data": {"source": "digits", "limit": 140},
    "augmentation": "grey",
    "backbone": {"name": "small_cnn", "width": 4},
    "projector": {"hidden": 12},
    "optimizer": {"name": "adamw", "base_lr": 0.02, "warmup_epochs": 1},
}
# Trains in a process, and in another one once that has ended. One that has a LAST step saves three steps before it, and
# sends itself a signal after it, once each tracker was told. All are forked from one that has imported what takes long,
# and that what they leave falls to: wandb's own process, which ends its file after they have ended. An attempt is over
# with it, as a job is with all of its processes.
TRAINS = """
import ctypes, json, multiprocessing, os, sys, time
from pathlib import Path
from contextlib import suppress
import tensorboard.plugins.hparams.summary_v2, torch._dynamo, trackio.sqlite_storage, wandb
from benchmark.data import load
from benchmark.networks.base import Job
from benchmark.networks.trained import Pretraining, Trained
from benchmark.runtime.process import Process
from benchmark.runtime.signals import stop_requests
from benchmark.runtime.spec import Execution
from benchmark.runtime.tracking import live

live.PATIENCE_SECONDS = live.SHORT_PATIENCE_SECONDS = 900  # however slow the machine is
settings, execution, folder, attempts = *map(json.loads, sys.argv[1:3]), Path(sys.argv[3]), json.loads(sys.argv[4])
network = Trained.model_validate(settings).resolved()
data = load(network.data, Path("nowhere"))
logged = Pretraining._log

def train(last, number):
    def log(self, *given):
        logged(self, *given)
        if self.state.step == last - 3:
            self.save()
        if self.state.step == last:
            while any(teller.held < last for teller in self.tracking._tellers):
                time.sleep(0.05)
            os.kill(os.getpid(), number)

    Pretraining._log = log
    with stop_requests() as requests:
        network.make(data, Job(folder, Process(torch.device("cpu")), requests, Execution.model_validate(execution)))

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
for attempt in attempts:
    process = multiprocessing.get_context("fork").Process(target=train, args=attempt)
    process.start()
    process.join()
    print(process.exitcode)
    with suppress(ChildProcessError):
        while True:
            os.wait()
"""


def needs(*trackers: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not all(map(find_spec, trackers)), reason=f"needs {', '.join(trackers)}")


def attempts(folder: Path, *attempts: tuple[int, int]) -> list[int]:
    """Their exit codes."""
    execution = {"tracking": ALL, "checkpoint_seconds": 1000, "log_every": 1}
    arguments = [json.dumps(NETWORK), json.dumps(execution), str(folder), json.dumps(attempts)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TRACKIO_DIR": str(folder / "trackio"),
        "WANDB_INIT_TIMEOUT": str(PATIENCE),
        "WANDB_X_SERVICE_WAIT": str(PATIENCE),
    }
    command = [sys.executable, "-W", "error", "-c", TRAINS, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "Warning" not in done.stderr
    return [int(line) for line in done.stdout.splitlines() if line.lstrip("-").isdigit()]


def log(folder: Path) -> list[Line]:
    return [Line.of(json.loads(line)) for line in (folder / METRICS_NAME).read_text().splitlines()]


def in_wandb(folder: Path) -> list[dict[str, Any]]:
    """The records of every file, oldest first, as wandb prints them."""
    printed = ""
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        printed += subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def in_trackio(folder: Path, project: str) -> list[tuple[str, str, int, dict[str, float]]]:
    with closing(sqlite3.connect(folder / f"{project}.db")) as database:
        rows = database.execute("SELECT run_id, run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    return [(*row, json.loads(metrics)) for *row, metrics in rows]


@needs(*ALL)
def test_a_run_that_was_killed_and_stopped_tells_one_curve(tmp_path: Path) -> None:
    network = Trained.model_validate(NETWORK).resolved()
    folder = tmp_path / "suite" / network.id
    folder.mkdir(parents=True)
    assert attempts(folder, (9, signal.SIGKILL), (17, signal.SIGTERM), (0, 0)) == [-9, 1, 0]
    lines = log(folder)
    assert [line.step for line in lines] == list(range(1, 25))

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    board = EventAccumulator(str(folder)).Reload()
    assert set(board.Tags()["scalars"]) == set(lines[0].numbers)
    content = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    parameters = HParamsPluginData.FromString(content).session_start_info.hparams
    assert parameters["optimizer.base_lr"].number_value == 0.02
    assert [event.step for event in board.Tensors("_hparams_/session_start_info")] == [0]

    records = in_wandb(folder)
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    runs = [record["run"] for record in records if record["type"] == "run"]
    # wandb sync appends a file to its run where it says "resume", or else replaces the run, and stops at a torn one.
    assert [record["type"] for record in records if record["type"] in ("run", "exit")] == ["run", "exit"] * 2
    assert {(run["run_id"], run["project"], run["resume"]) for run in runs} == {(network.id, "suite", True)}
    assert all(run["config"]["update"]["optimizer"]["base_lr"] == 0.02 for run in runs)

    rows = in_trackio(folder / "trackio", "suite")
    assert {row[:2] for row in rows} == {(network.id, network.id)}

    steps = [line.step for line in lines]
    assert [item["_step"] for item in history] == steps
    assert [step for _, _, step, _ in rows] == steps
    for name in ("loss", "terms/alignment", "lr", "epoch"):  # not the speed: of a step lost with a kill it was another
        told = [line.numbers[name] for line in lines]
        assert [item[name] for item in history] == told
        assert [numbers[name] for *_, numbers in rows] == told
        assert [event.step for event in board.Scalars(name)] == steps
        assert [event.value for event in board.Scalars(name)] == pytest.approx(told, rel=1e-6)


JSONL = """
import sys
from pathlib import Path
from benchmark.runtime.tracking.base import Curve, Line
from benchmark.runtime.tracking.trackio import Trackio

def tell(held, steps):
    tracker = Trackio(Curve("net", {"epochs": 6}, Path(sys.argv[1])))
    assert tracker.open() == held
    tracker.tell([Line(step, {"loss": 1 / step}) for step in steps])

tell(0, [1, 2]), tell(2, [3])
from trackio.fragments import import_inbox_dir
assert import_inbox_dir() == 3  # as a dashboard does
tell(3, [4])
tracker = Trackio(Curve("another", {}, Path(sys.argv[1])))
assert tracker.open() == 0
import_inbox_dir()
from trackio.sqlite_storage import SQLiteStorage
assert SQLiteStorage.get_run_config("suite", "net", run_id="net") == {"epochs": 6}
"""


@needs("trackio")
def test_trackio_on_a_networks_file_system(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRACKIO_STORAGE_MODE": "jsonl"}
    environment.pop("TRACKIO_DIR", None)
    command = [sys.executable, "-W", "error", "-c", JSONL, str(tmp_path / "suite" / "net")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    rows = in_trackio(tmp_path / "suite" / "trackio", "suite")
    assert sorted(rows) == [("net", "net", step, {"loss": 1 / step}) for step in (1, 2, 3, 4)]


@needs("tensorboard")
@pytest.mark.parametrize("lost", [1, 60, 10_000])
def test_an_event_file_that_a_kill_tore_is_gone_on_from(tmp_path: Path, lost: int) -> None:
    curve = Curve("net", {"data": {"limit": None}, "epochs": 6}, tmp_path)
    first = TensorBoard(curve)
    assert first.open() == 0
    first.tell([Line(step, {"loss": float(step)}) for step in (1, 2, 3)])
    first.close()
    (file,) = tmp_path.glob("events.*")
    file.write_bytes(file.read_bytes()[:-lost])
    again = TensorBoard(curve)
    held = again.open()
    assert held < 3
    again.tell([Line(step, {"loss": float(step)}) for step in range(held + 1, 5)])
    again.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(step, step) for step in (1, 2, 3, 4)]
    assert len(board.Tensors("_hparams_/session_start_info")) == 1


def test_every_number_of_a_line_is_told_whatever_it_is_of() -> None:
    logged = {"step": 3, "loss": 1, "terms": {"a": 0.5, "probe": {"top1": 0.25}}, "note": "x", "is": True, "no": None}
    assert Line.of(logged) == Line(3, {"loss": 1, "terms/a": 0.5, "terms/probe/top1": 0.25})


class Noted(Tracker):
    """Notes what it is told, and fails or hangs where asked."""

    name: ClassVar[str] = "noted"
    told: ClassVar[list[int]] = []
    where: ClassVar[str] = ""
    released: ClassVar[threading.Event] = threading.Event()

    def __init__(self, curve: Curve) -> None:
        super().__init__(curve)
        self._at("import")

    def _at(self, place: str) -> None:
        if self.where == place:
            raise OSError(f"none of it in {place}")
        if self.where == f"hangs in {place}":
            self.released.wait(60)

    def open(self) -> int:
        self._at("open")
        return max(self.told, default=0)

    def tell(self, lines: Sequence[Line]) -> None:
        self._at("tell")
        self.told.extend(line.step for line in lines)

    def close(self) -> None:
        self._at("close")


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Noted]]:
    monkeypatch.setitem(base._TRACKERS, "noted", Noted)
    monkeypatch.setattr(live, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(Noted, "told", [])
    monkeypatch.setattr(Noted, "released", threading.Event())
    yield Noted
    Noted.released.set()


def job(folder: Path, process: Process | None = None) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    execution = Execution.model_validate({"tracking": ["noted"], "log_every": 4, "checkpoint_seconds": 1000})
    return Job(folder, process or Process(torch.device("cpu")), Requests(), execution)


def make(job: Job) -> None:
    network = Trained.model_validate(NETWORK).resolved()
    network.make(load(DataSpec.model_validate(NETWORK["data"]), Path("nowhere")), job)


def test_what_was_logged_before_is_told_first_and_only_by_the_main_process(tmp_path: Path, noted: type[Noted]) -> None:
    make(job(tmp_path))
    assert noted.told == [4, 8, 12, 16, 20, 24]
    noted.told[3:] = []  # its store lost them
    (tmp_path / "weights.safetensors").unlink()
    make(job(tmp_path))
    assert noted.told == [4, 8, 12, 16, 20, 24]
    make(job(tmp_path / "other", Process(torch.device("cpu"), rank=1, world_size=2)))
    assert noted.told == [4, 8, 12, 16, 20, 24]


@pytest.mark.parametrize("place", ["import", "open", "tell", "close"])
def test_a_tracker_that_fails_is_one_warning(tmp_path: Path, noted: type[Noted], place: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(noted, "where", place)
    with pytest.warns(
        UserWarning, match=f"tracking by noted ended, and the run goes on: .*none of it in {place}"
    ) as all_:
        make(job(tmp_path))
    assert len(all_) == 1
    assert (tmp_path / "weights.safetensors").exists()


def test_no_step_waits_for_a_tracker_and_the_end_not_for_ever(
    tmp_path: Path, noted: type[Noted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noted, "where", "hangs in tell")
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.2)
    with pytest.warns(UserWarning, match="after 0.2 s it is at step 0 of the curve"):
        make(job(tmp_path))
    assert (tmp_path / "weights.safetensors").exists()


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_done(
    tmp_path: Path, tiny: Path, spherebench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    for command in (("run",), ("submit", "--cluster", "debug")):
        result = spherebench(*command, tiny, "--out", tmp_path / "runs", "--set", "tracking=wandb")
        assert result.exit_code == 2
        assert "tracking: wandb is not installed, and comes with pip install 'spherebench[wandb]'" in result.output
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("none", ()),
        ("wandb", ("wandb",)),
        ("tensorboard,trackio", ("tensorboard", "trackio")),
        ("[tensorboard, wandb]", ("tensorboard", "wandb")),
        ("tensorbord", "tracker 'tensorbord' is not known; there are "),
        ("none,wandb", "tracker 'none' is not known; there are "),
        ("wandb,wandb", "names one twice"),
    ],
)
def test_settings_name_one_tracker_or_several(given: str, expected: tuple[str, ...] | str) -> None:
    if isinstance(expected, tuple):
        suite = load_suite("digits", [f"tracking={given}"])
        assert suite.execution.tracking == expected
        again = Execution.model_validate(json.loads(suite.execution.model_dump_json()))  # as a job has it
        assert again == suite.execution
        assert [cell.run.id for cell in suite.cells] == [cell.run.id for cell in load_suite("digits").cells]
    else:
        with pytest.raises(UserError, match=rf"^--set tracking: .*{expected}"):
            load_suite("digits", [f"tracking={given}"])
