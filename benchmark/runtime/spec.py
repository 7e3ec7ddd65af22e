"""What every settings value is made of, and the settings of how a suite is carried out."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from benchmark.runtime.tracking.base import trackers

Keep = Literal["encoder", "backbone", "none"]
# fp32 is IEEE's single precision on every device; what that means, and what the others do: runtime/numerics.
Precision = Literal["fp32", "tf32", "bf16", "fp16"]


class Spec(BaseModel):
    """A validated value: no unknown keys, no changes after construction, no silent conversions from text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def of_record(cls, settings: Mapping[str, Any]) -> Self:
        """From what a record holds, JSON, which has no tuples. Raises ``ValueError`` where it is no such value."""
        return cls.model_validate_json(json.dumps(settings))


def digest_of(content: Mapping[str, Any]) -> str:
    """Hex digest of plain JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class SettingError(ValueError):
    """A value that is no value by itself but not allowed beside the others; ``key`` is the one to change."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


def _listed(given: Any) -> Any:
    """One tracker or several; ``none`` is none of them."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list):
        return names
    return () if names == ["none"] else tuple(names)


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in trackers():
            raise ValueError(f"tracker {name!r} is not known; there are {', '.join(trackers())}, or none alone")
    if len(set(names)) < len(names):
        raise ValueError(f"is {list(names)}, names one twice")
    return names


class Execution(Spec):
    """Device, workers, folders, and what is kept: nothing here changes a number, so nothing here is in a digest."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    jobs: int | None = Field(
        None, ge=1, description="runs side by side; else one a core of a CPU where all networks are small, or one"
    )
    workers: int = Field(0, ge=0, description="data loading processes; 0 loads in the training process")
    online_probe: bool = Field(False, description="a linear probe trained beside each network, logged with its loss")
    log_every: int = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="least time between two checkpoints; half of it at an epoch's end, the cleaner place"
    )
    feature_batch_size: int = Field(256, ge=1, description="images that go through a frozen network at once")
    keep: Keep = Field("encoder", description="of a trained network's weights; none: until all is measured")
    tracking: Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_known)] = Field(
        (), description="trackers that receive the training curve as it grows; none"
    )
    data_root: str = Field("data", description="where torchvision's data sets lie, and weights/ of the suites' rows")
    download: bool = False
    lock: bool = Field(True, description="no two programs in one folder; false: on a file system that gives no locks")

    @property
    def weights_root(self) -> Path:
        """Where the files of a suite's ``weights`` rows lie."""
        return Path(self.data_root) / "weights"
