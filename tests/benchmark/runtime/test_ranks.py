"""Real processes: a network on 1, 2 and 4 of them; one that fails alone; what they tell each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.record import METRICS_NAME, NETWORK_NAME, MeasurementRecord, NetworkRecord
from tests.benchmark import ranks
from tests.benchmark.conftest import TINY

# Seen: 4e-7 on 2 and on 4 ranks, three units in the last place of float32; it grows as training goes on, to 1e-4 in 24
# steps. Draws that depend on the number of ranks show as per cents, from the first step on.
FLOAT_ERROR = 2e-6
STEPS = 10


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of ten steps over two epochs, on 1, 2 and 4 ranks, and on 2 of which the first or second fails."""
    folder = tmp_path_factory.mktemp("ranks")
    text = TINY.replace("limit: 256", "limit: 320").replace("checkpoint_seconds: 0", "checkpoint_seconds: 60")
    (folder / "ranks.yaml").write_text(text)
    done = ranks.run(folder / "ranks.yaml", folder, "1", "2", "4", "--fail", "0", "--fail", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _losses(out: Path) -> dict[str, list[float]]:
    """Every step's loss, a run."""
    logs = {path.parent.name: map(json.loads, path.read_text().splitlines()) for path in out.glob(f"*/{METRICS_NAME}")}
    return {name: [line["loss"] for line in lines] for name, lines in logs.items()}


def _records(out: Path) -> dict[str, NetworkRecord]:
    return {path.parent.name: NetworkRecord.read(path) for path in out.glob(f"*/{NETWORK_NAME}")}


def test_a_run_has_one_loss_curve_on_one_two_and_four_ranks(out: Path) -> None:
    alone = _losses(out / "1")
    assert [len(losses) for losses in alone.values()] == [STEPS, STEPS]
    for world in (2, 4):
        records = _records(out / str(world))
        assert {record.provenance.world_size for record in records.values()} == {world}
        assert records.keys() == alone.keys()
        assert {record.status for record in records.values()} == {"done"}
        measured = [MeasurementRecord.read(path) for path in (out / str(world)).glob("*/measurements/*.json")]
        assert {record.status for record in measured} == {"done"}
        for name, losses in _losses(out / str(world)).items():
            assert losses == pytest.approx(alone[name], rel=FLOAT_ERROR), f"{name} on {world} ranks"


@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_fails_alone_ends_the_other_and_is_told_of(out: Path, failing: int) -> None:
    (record,) = _records(out / f"failing-{failing}").values()
    assert record.status == "failed"
    assert record.message == f"ValueError: {ranks.BREAKS}"
    text = (out / f"failing-{failing}" / record.id / "error.txt").read_text()
    assert text.startswith(f"failed: {record.message}\n")
    assert "Traceback" in text


def test_processes_tell_each_other_what_they_want(out: Path) -> None:
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("told-*.json")}
    assert len(found) == 2 + 4
    for name, told in found.items():
        world = int(name.split("-")[1])
        assert told == {
            "highest": world - 1,
            "of one that was asked": 2,
            "of the main one": ["of", 0],
            "of all": list(range(world)),
            "sum": [world * (world - 1) / 2, world],
        }


def test_batch_normalisation_over_processes_is_that_of_the_whole_batch(out: Path) -> None:
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("batch-norm-*.json")}
    assert len(found) == 2 + 4
    for differences in found.values():
        for largest in differences.values():
            assert max(largest.values()) < 1e-12, found
