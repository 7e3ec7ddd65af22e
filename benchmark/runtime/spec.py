"""What every settings value is made of, and the settings of how a suite is carried out."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Keep = Literal["encoder", "backbone", "none"]


class Spec(BaseModel):
    """A validated value: no unknown keys, no changes after construction, no silent conversions from text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SettingError(ValueError):
    """A value that is no value by itself but not allowed beside the others; ``key`` is the one to change."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


class Execution(Spec):
    """Device, workers, folders, and what is kept: nothing here changes a number, so nothing here is in a digest."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    workers: int = Field(0, ge=0, description="data loading processes; 0 loads in the training process")
    online_probe: bool = Field(False, description="a linear probe trained beside each network, logged with its loss")
    log_every: int = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="least time between two checkpoints; half of it at an epoch's end, the cleaner place"
    )
    feature_batch_size: int = Field(256, ge=1, description="images that go through a frozen network at once")
    keep: Keep = Field("encoder", description="of a trained network's weights; none: until all is measured")
    data_root: str = Field("data", description="where torchvision's data sets lie, and weights/ of the suites' rows")
    download: bool = False
    lock: bool = Field(True, description="no two programs in one folder; false: on a file system that gives no locks")

    @property
    def weights_root(self) -> Path:
        """Where the files of a suite's ``weights`` rows lie."""
        return Path(self.data_root) / "weights"
