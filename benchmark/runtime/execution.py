"""How a suite is carried out: nothing here changes a number, so nothing here is in a digest."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmark.runtime.spec import Spec

Keep = Literal["encoder", "backbone", "none"]


class Execution(Spec):
    """Device, workers, folders, and what is kept."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    workers: int = Field(0, ge=0, description="data loading processes; 0 loads in the training process")
    log_every: int = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="least time between two checkpoints; half of it at an epoch's end, the cleaner place"
    )
    feature_batch_size: int = Field(256, ge=1, description="images that go through a frozen network at once")
    keep: Keep = Field("encoder", description="of a trained network's weights; none: until all is measured")
    data_root: str = Field("data", description="where torchvision's data sets lie, and weights/ of the suites' rows")
    download: bool = False

    @property
    def weights_root(self) -> Path:
        """Where the files of a suite's ``weights`` rows lie."""
        return Path(self.data_root) / "weights"
