"""Trackio, on this machine: ``TRACKIO_DIR=RUNS/trackio trackio show`` opens the runs folder, or syncs it to a Space."""

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

from benchmark.runtime.tracking.base import Curve, Line, Tracker, register


@register
class Trackio(Tracker):
    """Rows of one database for all networks of a folder, written in one transaction for all lines that wait.

    On a network's file system, where several jobs must not write one database, files of lines that ``trackio show``
    takes in, as Trackio itself has it there. What it is told twice by either way it keeps once, by the line's id.
    """

    name: ClassVar[str] = "trackio"

    def __init__(self, curve: Curve) -> None:
        super().__init__(curve)
        os.environ.setdefault("TRACKIO_DIR", str(curve.folder.resolve().parent / "trackio"))  # read as it is imported
        from trackio import fragments, utils
        from trackio.sqlite_storage import SQLiteStorage

        self._fragments, self._utils, self._database = fragments, utils, SQLiteStorage

    def open(self) -> int:
        self._config: dict[str, Any] | None = dict(self.curve.settings)
        self._files = self._fragments.FragmentWriter() if self._utils.get_storage_mode() == "jsonl" else None
        project, id, held = self.curve.project, self.curve.id, 0
        for file in self._fragments.local_inbox_dir().rglob("*.jsonl"):
            with suppress(FileNotFoundError):  # a dashboard has just taken it into the database, which is read next
                for record in self._fragments.parse_fragment_bytes(file.read_bytes()):
                    if (record["project"], record["run_id"]) == (project, id):
                        held = max(held, record["step"])
        held = max(held, self._database.get_max_step_for_run(project, id, run_id=id) or 0)
        if held:
            self._config = None
        return held

    def tell(self, lines: Sequence[Line]) -> None:
        id, records = self.curve.id, []
        for step, numbers in lines:
            entry = {"project": self.curve.project, "run": id, "run_id": id, "step": step, "metrics": numbers}
            entry |= {"log_id": f"{id}/{step}", "timestamp": datetime.now(UTC).isoformat(), "config": self._config}
            records.append(self._fragments.metric_record(entry))
            self._config = None
        if self._files is None:
            self._fragments.import_records(records)
        else:
            self._files.write_local(records)

    def close(self) -> None:
        """All is written."""
