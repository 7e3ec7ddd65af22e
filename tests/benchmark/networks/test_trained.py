"""Training taken up where it was left, at any step: the same losses and the same weights as undisturbed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.data import DataSet, DataSpec, load
from benchmark.networks.base import Job, load_weights
from benchmark.networks.trained import Pretraining, Trained
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Interrupted, Requests
from benchmark.runtime.spec import Execution
from methods.losses.base import Loss
from results.record import METRICS_NAME

STEPS_PER_EPOCH, EPOCHS = 4, 3
NETWORK = {
    "method": "sfrik_l2",
    "embedding_dim": 16,
    "batch_size": 32,
    "epochs": EPOCHS,
    "data": {"source": "digits", "limit": 140},
    "augmentation": "grey",
    "backbone": {"name": "small_cnn", "width": 4},
    "projector": {"hidden": 12},
    "optimizer": {"name": "adamw", "base_lr": 0.02, "warmup_epochs": 1},
}


class Stopping(Pretraining):
    """Somebody asks it to stop after so many steps of an attempt."""

    after = 0

    def _step(self, views: tuple[Tensor, ...]) -> Loss:
        loss = super()._step(views)
        type(self).after -= 1
        if self.after == 0:
            self.job.requests.ask(suite=False)
        return loss


def network(precision: str = "fp32", **changed: Any) -> Trained:
    return Trained.model_validate({**NETWORK, "precision": precision, **changed}).resolved()


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load(DataSpec.model_validate(NETWORK["data"]), Path("nowhere"))


def job(folder: Path, **execution: Any) -> Job:
    folder.mkdir(exist_ok=True)
    execution = {"checkpoint_seconds": 1000, "log_every": 1, **execution}
    return Job(folder, Process(torch.device("cpu")), Requests(), Execution(**execution))


def steps_saved(folder: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in sorted(folder.glob("checkpoints/*.pt"))]


def log(folder: Path) -> list[dict[str, Any]]:
    """The log's lines without how fast it went."""
    lines = [json.loads(line) for line in (folder / METRICS_NAME).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


# A loss that draws does so by the number of the step.
@pytest.mark.parametrize("changed", [{}, {"precision": "fp16"}, {"method": "sigreg", "loss": {}}], ids=str)
def test_a_training_taken_up_twice_in_mid_epoch_is_the_undisturbed_one(
    data: DataSet, tmp_path: Path, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = network(**changed)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made.make(data, job(whole))
    monkeypatch.setattr("benchmark.networks.trained.Pretraining", Stopping)
    seen = 0
    for after in (STEPS_PER_EPOCH + 2, 3):
        Stopping.after, seen = after, seen + after
        with pytest.raises(Interrupted, match=f"stopped at step {seen} of 12; its state is saved"):
            made.make(data, job(parts))
        assert steps_saved(parts)[-1] == seen
        assert not made.is_kept(parts)
    Stopping.after = -1
    made.make(data, job(parts))
    assert [line["step"] for line in log(whole)] == list(range(1, 13))
    assert log(parts) == log(whole)
    (expected, _), (found, _) = load_weights(whole), load_weights(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_scale_of_fp16_is_taken_up_with_the_rest(data: DataSet, tmp_path: Path) -> None:
    training = Pretraining(network("fp16"), data, job(tmp_path))
    training.step.scaler.scale(torch.ones(()))  # which makes its state
    training.step.scaler.update(8.0)
    training.save()
    again = Pretraining(network("fp16"), data, job(tmp_path))
    assert again.step.scaler.get_scale() == 8.0


def test_a_checkpoint_of_another_network_is_left_alone(data: DataSet, tmp_path: Path) -> None:
    training = Pretraining(network(), data, job(tmp_path))
    training.state.step = 5
    training.save()
    assert Pretraining(network(), data, job(tmp_path)).state.step == 5
    assert Pretraining(network(seed=1), data, job(tmp_path)).state.step == 0


def test_lines_of_the_log_that_a_kill_took_back_or_tore_are_dropped(data: DataSet, tmp_path: Path) -> None:
    training = Pretraining(network(), data, job(tmp_path))
    training.state.step = 2
    training.save()
    lines = [json.dumps({"step": step, "loss": 0.0}) for step in (1, 2, 3)]
    (tmp_path / METRICS_NAME).write_text("\n".join([*lines[:2], '{"step": 2, "lo', lines[2], '{"st']))
    Pretraining(network(), data, job(tmp_path))
    assert (tmp_path / METRICS_NAME).read_text() == "".join(f"{line}\n" for line in lines[:2])


@pytest.mark.parametrize(
    ("interval", "expected"), [(1000.0, [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]), (5000.0, []), (500.0, [1, 2, 3, 4])]
)
def test_half_the_interval_is_enough_at_the_end_of_an_epoch(
    data: DataSet, tmp_path: Path, interval: float, expected: list[int]
) -> None:
    saved: set[int] = set()

    class Slow(Pretraining):
        """Before every step it is 600 seconds since the last checkpoint."""

        def _step(self, views: tuple[Tensor, ...]) -> Loss:
            saved.update(steps_saved(tmp_path))
            self._saved = time.perf_counter() - 600
            return super()._step(views)

    training = Slow(network(), data, job(tmp_path, checkpoint_seconds=interval))
    training.train()
    assert training.total_steps == EPOCHS * STEPS_PER_EPOCH
    assert sorted(saved)[:4] == expected
    assert steps_saved(tmp_path)[-1] == training.total_steps


def test_the_log_is_written_as_often_as_asked_and_at_every_epochs_end(data: DataSet, tmp_path: Path) -> None:
    Pretraining(network(), data, job(tmp_path, log_every=3)).train()
    assert [line["step"] for line in log(tmp_path)] == [3, 4, 6, 8, 9, 12]
    assert {line["total_steps"] for line in log(tmp_path)} == {12}
    assert log(tmp_path)[0]["terms"].keys() == {"alignment", "regulariser"}


class Asked(Process):
    """One of two processes, of which the other was asked to stop."""

    def all_reduce_max(self, level: int) -> int:
        return max(level, 2)


def test_what_another_process_was_asked_is_heard(data: DataSet, tmp_path: Path) -> None:
    heard = replace(job(tmp_path), process=Asked(torch.device("cpu")))
    with pytest.raises(Interrupted, match="stopped at step 1 of 12"):
        Pretraining(network(), data, heard).train()
    assert steps_saved(tmp_path) == [1]


def test_an_online_probe_changes_nothing_and_goes_on_where_it_was(tmp_path: Path, data: DataSet) -> None:
    Pretraining(network(), data, job(tmp_path / "without")).train()
    Pretraining(network(), data, job(tmp_path / "with", online_probe=True)).train()
    plain, probed = log(tmp_path / "without"), log(tmp_path / "with")
    told = [line.pop("online_probe") for line in probed]
    assert probed == plain
    assert told[-1]["loss"] < told[0]["loss"]
    Stopping.after = 5
    with pytest.raises(Interrupted):
        Stopping(network(), data, job(tmp_path / "stopped", online_probe=True)).train()
    Pretraining(network(), data, job(tmp_path / "stopped", online_probe=True)).train()
    assert [line["online_probe"] for line in log(tmp_path / "stopped")] == told


def test_an_online_probe_of_images_without_labels_is_an_error(tmp_path: Path, data: DataSet) -> None:
    unlabelled = replace(data, train=replace(data.train, labels=data.train.labels * 0 - 1))
    with pytest.raises(UserError, match="online_probe: the images that digits trains on have no labels"):
        Pretraining(network(), unlabelled, job(tmp_path / "run", online_probe=True))
