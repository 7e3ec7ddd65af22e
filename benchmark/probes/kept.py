"""What a measurement has done so far, on disk: a checkpoint of its own, and parts of features.

Nothing here waits for other processes: who calls it tells them (:meth:`benchmark.probes.subject.Subject.from_main`).
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from benchmark.runtime import checkpoints
from benchmark.runtime.checkpoints import DamagedFile
from benchmark.runtime.errors import full_disk_told
from benchmark.runtime.process import Process
from results.record import write_atomically

# A part is copied to be written: one of more bytes becomes several files.
PART_BYTES = 2**28


@dataclass
class Kept:
    """A measurement's checkpoint, written by the main process and read by all."""

    folder: Path
    process: Process
    seconds: float
    _saved: float = field(default_factory=time.perf_counter)

    def newest(self) -> Path | None:
        """The newest checkpoint that is whole, or None; a damaged one is set aside, so one process looks for all."""
        return checkpoints.newest_whole(self.folder)

    def load(self, path: Path | None) -> dict[str, Any] | None:
        """The state in a checkpoint, its tensors on this process's device; None of None."""
        return None if path is None else checkpoints.load(path, self.process.device)

    def is_due(self) -> bool:
        """Whether the last state is older than the time between two checkpoints."""
        return time.perf_counter() - self._saved > self.seconds

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step``."""
        self._saved = time.perf_counter()
        if self.process.is_main:
            checkpoints.save(self.folder, step, state)

    def clear(self) -> None:
        """Forget it: the measurement has its record."""
        if self.process.is_main:
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Parts:
    """Features of some images that earlier attempts made, whichever process did, whatever their batches were."""

    folder: Path
    rank: int

    def read_into(self, x_NF: Tensor, batches: Sequence[Tensor]) -> set[int]:
        """Fill in what is there of whole ``batches``, the images of each; returns their numbers.

        A part that is damaged or of other features is left out with a warning.
        """
        there_N = torch.zeros(len(x_NF), dtype=torch.bool)
        for path in sorted(self.folder.glob("part-*.safetensors")):
            try:
                rows_n, x_nF = _read(path, x_NF)
            except (SafetensorError, OSError, KeyError, ValueError) as error:
                warnings.warn(f"{path} is damaged and left out: {error}", DamagedFile, stacklevel=2)
                continue
            x_NF[rows_n.to(x_NF.device)] = x_nF.to(x_NF.device)
            there_N[rows_n] = True
        done = {number for number, rows_n in enumerate(batches) if bool(there_N[rows_n].all())}
        for number, rows_n in enumerate(batches):
            if number not in done:
                x_NF[rows_n.to(x_NF.device)] = 0  # made anew, maybe by another process, and summed over all
        return done

    def write(self, x_NF: Tensor, batches: Sequence[Tensor]) -> None:
        """Keep the rows of ``x_NF`` that these batches hold. Raises :class:`DiskFull` where they do not fit."""
        if not batches:
            return
        row_bytes = x_NF.element_size() * x_NF.shape[1]
        for rows_n in torch.cat(list(batches)).split(max(1, PART_BYTES // row_bytes)):
            held = {"rows": rows_n.contiguous(), "x": x_NF[rows_n.to(x_NF.device)].cpu().contiguous()}
            name = f"part-{int(rows_n[0]):09d}-{int(rows_n[-1]):09d}-{self.rank}.safetensors"
            with full_disk_told(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(self.folder / name, save(held))


def _read(path: Path, x_NF: Tensor) -> tuple[Tensor, Tensor]:
    """Image numbers (n,) and features (n, F) of a part. Raises ``ValueError`` where they are none of ``x_NF``'s."""
    held = load_file(path)
    rows_n, x_nF = held["rows"], held["x"]
    if x_nF.shape != (len(rows_n), x_NF.shape[1]) or x_nF.dtype != x_NF.dtype:
        raise ValueError(f"holds {x_nF.dtype} of shape {tuple(x_nF.shape)}, not rows of {x_NF.shape[1]} {x_NF.dtype}")
    if len(rows_n) and not 0 <= int(rows_n.min()) <= int(rows_n.max()) < len(x_NF):
        raise ValueError(f"holds images up to {int(rows_n.max())} of {len(x_NF)}")
    return rows_n, x_nF
