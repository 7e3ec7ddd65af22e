"""Measurements that are killed, stopped, fail or meet a damaged image: the networks stay, the rest goes on, and the
same command finds the undisturbed figures without measuring anything twice.

Real processes, forked from this one: at a look that a probe takes at what was asked of it, in its middle, one of them
kills itself, signals itself or raises. Nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmark.networks.base import WEIGHTS_NAME, Network
from benchmark.probes.base import Measurement
from benchmark.running import attempts, stages
from benchmark.running.runner import execute_suite
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests, stop_requests
from benchmark.suite.expand import Suite, load_suite
from results.record import NETWORK_NAME, MeasurementRecord
from tests.benchmark import ranks
from tests.benchmark.layouts import write_class_folders
from tests.benchmark.probes.subjects import ALONE

SUITE = """
description: a suite whose measurements are disturbed
defaults:
  data: {{source: "folder:{folder}", tune_fraction: 0, image_size: 16}}
  augmentation: grey
  backbone: {{name: small_cnn, width: 4}}
  projector: {{hidden: 16}}
  epochs: 1
  batch_size: 12
  optimizer: {{name: adamw, base_lr: 4e-3, warmup_epochs: 0}}
  evaluation:
    probes: [knn, logistic, fewshot, linear, embedding]
    knn_k: [5]
    labels_per_class: [1, 2]
    draws: 2
    linear_epochs: 2
    batch_size: 8
execution: {{checkpoint_seconds: 0, feature_batch_size: 4}}
grid:
  method: [sfrik_l2, vicreg]
  embedding_dim: [16]
  seed: [0]
"""
# Of each kind of work one: features, a fit, draws, a training, embeddings. What becomes of any probe that is stopped is
# asked in tests/benchmark/probes/test_contract.py.
PROBES = ("knn", "logistic", "fewshot", "linear", "embedding")
BREAKS = "it broke in its middle"
# Two processes add gradients in another order than one: float32, over a few steps.
FLOAT_ERROR = 1e-4


@dataclass
class Moment:
    """The look of a probe, on the first network, at which ``act`` is called on one process."""

    probe: str
    look: int
    rank: int
    act: Callable[[], None]


class Watched(Requests):
    """What was asked of a process; at its moment something happens to it. Counts the looks of every probe."""

    moment: Moment | None
    process: Process
    now: tuple[str, str]
    first: str
    counts: dict[str, int]

    @classmethod
    def of(cls, requests: Requests, moment: Moment | None, process: Process) -> Watched:
        """The same object, which signals reach, watched."""
        wanted = vars(requests).pop("run_must_end")
        requests.__class__ = cls
        assert isinstance(requests, Watched)
        requests.moment, requests.process, requests.counts = moment, process, {}
        requests.now, requests.first = ("", ""), ""
        requests.run_must_end = wanted
        return requests

    def begin(self, network: str, probe: str) -> None:
        """A measurement begins."""
        self.first = self.first or network
        self.now = (network, probe)
        self.counts.setdefault(probe, 0)

    @property
    def run_must_end(self) -> bool:
        """Whether it was asked for; a look."""
        network, probe = self.now
        if probe and network == self.first:
            self.counts[probe] += 1
            moment, place = self.moment, (probe, self.counts[probe], self.process.rank)
            if moment and place == (moment.probe, moment.look, moment.rank):
                moment.act()
        return bool(vars(self)["run_must_end"])

    @run_must_end.setter
    def run_must_end(self, value: bool) -> None:
        vars(self)["run_must_end"] = value


def carry_out(this: Process, suite: Suite, folder: Path, moment: Moment | None, counts: Path | None = None) -> None:
    """Do the suite as the command does; in a process of its own, which is changed for it."""
    whole = stages._measured
    with stop_requests() as requests:
        watched = Watched.of(requests, moment, this)

        def noted(network: Network, measurement: Measurement, *rest: Any) -> Any:
            watched.begin(network.id, measurement.probe.name)
            return whole(network, measurement, *rest)

        stages._measured = noted
        execute_suite(suite, folder, this, watched, retry=False, report=lambda text: None)
    if counts is not None and this.is_main:
        counts.write_text(json.dumps(watched.counts))


def records(folder: Path) -> dict[str, MeasurementRecord]:
    """Of the first network, by probe."""
    found = map(MeasurementRecord.read, sorted(first_network(folder).glob("measurements/*.json")))
    return {record.probe: record for record in found}


def first_network(folder: Path) -> Path:
    (path,) = folder.glob("sfrik_l2*")
    return path


def second_network(folder: Path) -> Path:
    (path,) = folder.glob("vicreg*")
    return path


def kept_bytes(folder: Path) -> dict[str, bytes]:
    """What a network is, byte by byte."""
    names = (NETWORK_NAME, WEIGHTS_NAME)
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for name in names for path in folder.glob(f"*/{name}")}


def done(folder: Path) -> dict[Path, int]:
    """When the records that are done were written."""
    paths = folder.glob("*/measurements/*.json")
    return {path: path.stat().st_mtime_ns for path in paths if MeasurementRecord.read(path).status == "done"}


def measured(folder: Path) -> list[str]:
    """The measurements that began, in order."""
    return [event["measurement"] for event in attempts.read(first_network(folder)) if event["event"] == "measure"]


@dataclass(frozen=True)
class World:
    """The suite, its undisturbed runs, the same networks not yet measured, and the looks of each probe."""

    suite: Suite
    images: Path
    whole: Path
    networks: Path
    looks: dict[int, dict[str, int]]
    table: list[dict[str, Any]]

    def disturbed(self, folder: Path, world: int, moment: Moment | None) -> list[int | None]:
        """Begin from the networks, and let it happen."""
        shutil.copytree(self.networks, folder)
        return ranks.together(world, partial(carry_out, suite=self.suite, folder=folder, moment=moment))

    def middle(self, probe: str, world: int = 1) -> int:
        """The look in the middle of a probe."""
        return (self.looks[world][probe] + 1) // 2

    def check_table(self, folder: Path, command: Callable[..., Any]) -> None:
        """Tables are the undisturbed ones."""
        found, expected = table(folder, command), self.table
        means, expected_means = ([row["mean"] for row in rows] for rows in (found, expected))
        assert means == pytest.approx(expected_means, abs=FLOAT_ERROR)
        assert [{**row, "mean": None} for row in found] == [{**row, "mean": None} for row in expected]

    def check_goes_on(self, folder: Path, command: Callable[..., Any], *, retry: bool = False) -> None:
        """The same command again measures the rest, and no more; tables are the undisturbed ones."""
        before, began = done(folder), measured(folder)
        assert kept_bytes(folder) == kept_bytes(self.networks)
        assert execute_suite(self.suite, folder, ALONE, Requests(), retry=retry, report=lambda text: None) is True
        assert kept_bytes(folder) == kept_bytes(self.networks)
        after = done(folder)
        assert len(after) == 2 * len(PROBES)
        assert {path: time for path, time in after.items() if path in before} == before
        again = measured(folder)[len(began) :]
        assert not {path.stem for path in before if path.parents[1] == first_network(folder)} & set(again)
        self.check_table(folder, command)
        assert not list(folder.glob("*/measuring"))


def table(folder: Path, command: Callable[..., Any]) -> list[dict[str, Any]]:
    """Every figure that no clock gives."""
    rows = json.loads(command("tables", folder, "--format", "json").stdout)
    return [row for row in rows if row["unit"] in ("fraction", "nats", "dimensions", "squared distance")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, spherebench: Callable[..., Any]) -> World:
    root = tmp_path_factory.mktemp("disturbed")
    images = root / "images"
    for split, per_class in (("train", 8), ("test", 4)):
        write_class_folders(images / split, ["one", "three", "two"], per_class, side=20)
    (root / "suite.yaml").write_text(SUITE.format(folder=images))
    suite = load_suite(str(root / "suite.yaml"))
    execute_suite(suite, root / "whole", ALONE, Requests(), retry=False, report=lambda text: None)
    networks = shutil.copytree(root / "whole", root / "networks")
    for folder in networks.glob("*/measurements"):
        shutil.rmtree(folder)
    looks = {}
    for size in (1, 2):
        counts, runs = root / f"looks-{size}.json", shutil.copytree(networks, root / f"looks-{size}")
        work = partial(carry_out, suite=suite, folder=runs, moment=None, counts=counts)
        assert ranks.together(size, work) == [0] * size
        looks[size] = json.loads(counts.read_text())
    return World(suite, images, root / "whole", networks, looks, table(root / "whole", spherebench))


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _raise() -> None:
    raise RuntimeError(BREAKS)


def _run_out_of_memory() -> None:
    raise MemoryError(BREAKS)


def test_two_processes_find_what_one_finds(world: World, spherebench: Callable[..., Any], tmp_path: Path) -> None:
    assert world.disturbed(tmp_path / "runs", 2, None) == [0, 0]
    world.check_table(tmp_path / "runs", spherebench)


@pytest.mark.parametrize("probe", PROBES)
def test_killed_in_the_middle_of_any_probe(
    world: World, spherebench: Callable[..., Any], tmp_path: Path, probe: str
) -> None:
    moment = Moment(probe, world.middle(probe), 0, _kill)
    assert world.disturbed(tmp_path / "runs", 1, moment) == [-signal.SIGKILL]
    assert list(records(tmp_path / "runs")) == sorted(PROBES[: PROBES.index(probe)])
    world.check_goes_on(tmp_path / "runs", spherebench)


@pytest.mark.parametrize(("probe", "victim"), [("knn", 0), ("knn", 1), ("linear", 0), ("linear", 1), ("embedding", 0)])
def test_one_of_two_killed_ends_the_other_and_is_no_failure_of_the_probe(
    world: World, spherebench: Callable[..., Any], tmp_path: Path, probe: str, victim: int
) -> None:
    codes = world.disturbed(tmp_path / "runs", 2, Moment(probe, world.middle(probe, 2), victim, _kill))
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] == 1
    assert list(records(tmp_path / "runs")) == sorted(PROBES[: PROBES.index(probe)])
    world.check_goes_on(tmp_path / "runs", spherebench)


@pytest.mark.parametrize(
    ("probe", "act", "size"),
    [
        *((probe, _terminate, 1) for probe in ("knn", "linear", "embedding")),
        *((probe, _interrupt, 2) for probe in ("knn", "linear", "embedding")),
        ("logistic", _interrupt, 1),
        ("linear", _terminate, 2),
    ],
)
def test_asked_to_stop_in_the_middle(
    world: World, spherebench: Callable[..., Any], tmp_path: Path, probe: str, act: Callable[[], None], size: int
) -> None:
    """Of two processes one that is not the first, where that one looks."""
    rank = size - 1 if probe in ("knn", "linear") else 0
    folder = tmp_path / "runs"
    moment = Moment(probe, world.middle(probe, size), rank, act)
    assert world.disturbed(folder, size, moment) == [0] * size
    found = records(folder)
    assert list(found) == sorted(PROBES[: PROBES.index(probe) + 1])
    assert {name for name, record in found.items() if record.status != "done"} == {probe}
    assert (found[probe].status, found[probe].message) == ("interrupted", "stopped; what it had is saved")
    goes_on = list(second_network(folder).glob("measurements/*.json"))
    assert len(goes_on) == (0 if act is _terminate else len(PROBES)), "SIGTERM ends the suite, Ctrl-C the run"
    world.check_goes_on(folder, spherebench)


@pytest.mark.parametrize(
    ("probe", "act", "size", "rank"),
    [
        *((probe, _raise, 1, 0) for probe in ("knn", "embedding")),
        ("linear", _run_out_of_memory, 1, 0),
        ("knn", _run_out_of_memory, 2, 1),
        ("linear", _raise, 2, 1),
        ("linear", _raise, 2, 0),
        ("embedding", _run_out_of_memory, 2, 0),
    ],
)
def test_a_failure_is_of_one_measurement_and_the_rest_goes_on(
    world: World,
    spherebench: Callable[..., Any],
    tmp_path: Path,
    probe: str,
    act: Callable[[], None],
    size: int,
    rank: int,
) -> None:
    folder = tmp_path / "runs"
    moment = Moment(probe, world.middle(probe, size), rank, act)
    assert world.disturbed(folder, size, moment) == [0] * size
    found = records(folder)
    assert list(found) == sorted(PROBES)
    where = f"process {rank} of 2: " if size == 2 else ""
    status, kind = ("failed", "RuntimeError") if act is _raise else ("out-of-memory", "MemoryError")
    assert {name for name, record in found.items() if record.status != "done"} == {probe}
    assert (found[probe].status, found[probe].message) == (status, f"{where}{kind}: {BREAKS}")
    assert len(done(folder)) == 2 * len(PROBES) - 1
    notes = [path.name for path in folder.glob("*/measurements/*.txt")]
    assert notes == [f"{found[probe].id}.txt"]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/measurements/*.json")}
    assert execute_suite(world.suite, folder, ALONE, Requests(), retry=False, report=lambda text: None) is False
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/measurements/*.json")} == before
    world.check_goes_on(folder, spherebench, retry=True)
    assert not list(folder.glob("*/measurements/*.txt"))


def test_weights_that_are_not_to_be_kept_stay_while_a_measurement_needs_them(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    suite = replace(world.suite, execution=world.suite.execution.model_copy(update={"keep": "none"}))
    moment = Moment("logistic", world.middle("logistic"), 0, _raise)
    world_of_it = replace(world, suite=suite)
    assert world_of_it.disturbed(folder, 1, moment) == [0]
    assert (first_network(folder) / WEIGHTS_NAME).exists()
    assert not (second_network(folder) / WEIGHTS_NAME).exists()
    assert execute_suite(suite, folder, ALONE, Requests(), retry=True, report=lambda text: None) is True
    assert not (first_network(folder) / WEIGHTS_NAME).exists()
    assert len(done(folder)) == 2 * len(PROBES)


def test_features_of_weights_that_are_gone_are_not_mixed_with_those_of_new_ones(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    moment = Moment("knn", world.middle("knn"), 0, _kill)
    assert world.disturbed(folder, 1, moment) == [-signal.SIGKILL]
    parts = list(first_network(folder).glob("measuring/*/features-*/part-*"))
    assert parts
    for part in parts:
        held = load_file(part)
        save_file({**held, "x": torch.zeros_like(held["x"])}, part)
    (first_network(folder) / WEIGHTS_NAME).unlink()
    assert execute_suite(world.suite, folder, ALONE, Requests(), retry=False, report=lambda text: None) is True
    assert kept_bytes(folder)[f"{first_network(folder).name}/{WEIGHTS_NAME}"] in kept_bytes(world.networks).values()
    assert records(folder)["knn"].metrics == records(world.whole)["knn"].metrics


@pytest.mark.parametrize("size", [1, 2])
def test_an_image_that_cannot_be_read_is_named_and_what_does_not_read_it_goes_on(
    world: World, spherebench: Callable[..., Any], tmp_path: Path, size: int
) -> None:
    """Every probe reads the test images; the networks are there, and once the image is whole all of it goes on."""
    image = sorted((world.images / "test").rglob("*.JPEG"))[-1]
    content = image.read_bytes()
    image.write_bytes(content[:-20])  # of whose header all is well
    try:
        assert world.disturbed(tmp_path / "runs", size, None) == [0] * size
    finally:
        image.write_bytes(content)
    found = records(tmp_path / "runs")
    assert list(found) == sorted(PROBES)
    assert {record.status for record in found.values()} == {"failed"}
    for record in found.values():
        assert f"image {image} cannot be read" in record.message
    assert len(list(second_network(tmp_path / "runs").glob("measurements/*.json"))) == len(PROBES)
    world.check_goes_on(tmp_path / "runs", spherebench, retry=True)
