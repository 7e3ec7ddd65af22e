"""TensorBoard's event files, in the network's folder: ``tensorboard --logdir RUNS`` shows each network by its id."""

import json
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from benchmark.runtime.tracking.base import Curve, Line, Tracker, flattened, register


@register
class TensorBoard(Tracker):
    """One event a step, with all its numbers: of a file that a kill tore, whole steps are left."""

    name: ClassVar[str] = "tensorboard"

    def __init__(self, curve: Curve) -> None:
        super().__init__(curve)
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._load, self._writer_of, self._hparams = EventFileLoader, EventFileWriter, hparams_pb
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary

    def open(self) -> int:
        files = sorted(self.curve.folder.glob("events.out.tfevents.*"))
        events = (event for file in files for event in self._load(str(file)).Load())
        held = [event.step for event in events if event.HasField("summary")]
        self._writer = self._writer_of(str(self.curve.folder))
        if not held:
            settings = dict(flattened(self.curve.settings, "."))
            for name, value in settings.items():  # what is no number nor text as JSON
                settings[name] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
            self._add(0, self._hparams(settings, trial_id=self.curve.id))
        return max(held, default=0)

    def tell(self, lines: Sequence[Line]) -> None:
        for step, numbers in lines:
            values = [self._summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
            self._add(step, self._summary(value=values))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _add(self, step: int, summary: Any) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
