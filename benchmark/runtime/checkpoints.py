"""Checkpoints that a kill cannot tear and a damaged disk cannot pass off as whole.

A checkpoint is one file, ``step-<step>-<digest>.pt``, written beside and renamed; its name carries the first digits of
its content's SHA-256. The last two are kept: where the newest is damaged, training goes on from the one before.
"""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmark.runtime.errors import full_disk_told
from results.record import write_atomically

KEPT = 2


class DamagedFile(UserWarning):
    """A file that is not what was written was set aside."""


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint and prune the old ones. Raises :class:`DiskFull` where it does not fit."""
    content = torch_bytes(state)
    path = folder / f"step-{step:09d}-{_digest(content)}.pt"
    with full_disk_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def torch_bytes(state: dict[str, Any]) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, or None. A damaged one is renamed to ``*.damaged``, with a warning."""
    for path in _newest_first(folder):
        if path.stem.endswith(_digest(path.read_bytes())):
            return path
        aside = path.with_suffix(".damaged")
        path.rename(aside)
        warnings.warn(f"checkpoint {path} is damaged; set aside as {aside.name}", DamagedFile, stacklevel=2)
    return None


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """The state in a checkpoint, its tensors on ``device``."""
    return torch.load(path, map_location=device, weights_only=True)


def clear(folder: Path) -> None:
    """Remove every checkpoint of a run that is done."""
    for path in _newest_first(folder):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
