"""Checkpoints are whole or absent; a damaged one is set aside and the one before is used."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from benchmark.runtime import checkpoints as checkpoint
from benchmark.runtime.checkpoints import DamagedFile
from benchmark.runtime.errors import UserError

CPU = torch.device("cpu")


def _state(step: int) -> dict:
    return {"state": {"step": step}, "weights": torch.full((4, 3), float(step))}


def test_the_newest_is_loaded_and_only_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        checkpoint.save(tmp_path, step, _state(step))
    newest = checkpoint.newest_whole(tmp_path)
    assert newest is not None
    state = checkpoint.load(newest, CPU)
    assert state["state"] == {"step": 30}
    assert torch.equal(state["weights"], torch.full((4, 3), 30.0))
    assert len(list(tmp_path.iterdir())) == checkpoint.KEPT


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_one_is_named_set_aside_and_the_one_before_used(tmp_path: Path, damage: str) -> None:
    checkpoint.save(tmp_path, 1, _state(1))
    newest = checkpoint.save(tmp_path, 2, _state(2))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[:100], "flip": content, "empty": b""}[damage])
    with pytest.warns(DamagedFile, match=newest.name):
        before = checkpoint.newest_whole(tmp_path)
    assert before is not None
    assert checkpoint.load(before, CPU)["state"]["step"] == 1
    assert newest.with_suffix(".damaged").exists()
    assert not newest.exists()


def test_nothing_saved_is_nothing_loaded_and_clear_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert checkpoint.newest_whole(folder) is None
    checkpoint.save(folder, 1, _state(1))
    checkpoint.clear(folder)
    assert not folder.exists()


def test_a_full_disk_is_one_sentence_and_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, _state(1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="no space left"):
        checkpoint.save(tmp_path, 2, _state(2))
    assert [path.name.startswith("step-000000001") for path in tmp_path.iterdir()] == [True]
