"""What was submitted: one manifest an array, ``RUNS/jobs/<name>/manifest.json``.

It is written before the array is sent and is all that a job needs to know. The array's jobs carry ``name`` as their
job name: whatever becomes of the submitting program, the queue tells which runs are in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from benchmark.runtime.errors import UserError
from results.record import Frozen, MeasurementRecord, NetworkRecord, Provenance, first_line, write_atomically
from slurm.profile import Profile, Resources

FOLDER = "jobs"
MANIFEST = "manifest.json"
# What a job does of a run.
Part = Literal["both", "train", "measure"]


class Source(Frozen):
    """The code that was submitted: the folder it was copied to, and the commit it was copied from."""

    folder: str
    commit: str | None
    dirty: bool | None


class Entry(Frozen):
    """One network and what is measured on it: its place is the array index of its job."""

    id: str
    title: str
    network: dict[str, Any]
    measurements: dict[str, dict[str, Any]]
    axes: dict[str, Any]


class Submission(Frozen):
    """One array of jobs with the same resources. A job trains and measures, or does one of both.

    ``after`` is the name of the array that trains what this one measures, job by job.
    """

    name: str
    runs: str
    stage: Part
    after: str | None
    profile: Profile
    resources: Resources
    suite: str
    protocol: dict[str, Any]
    skipped: tuple[tuple[dict[str, Any], str], ...]
    execution: dict[str, Any]
    entries: tuple[Entry, ...]
    source: Source
    retry: bool
    submitted: str
    host: str
    jobs: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its manifest and its logs are."""
        return Path(self.runs) / FOLDER / self.name

    @property
    def path(self) -> Path:
        """The manifest's file."""
        return self.folder / MANIFEST

    def write(self) -> None:
        """Write the manifest, atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, self.model_dump_json(indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> Submission:
        """Read a manifest. Raises :class:`UserError` where it is damaged, or of another version."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UserError(f"damaged manifest {path}: {first_line(error)}") from error

    def run_folder(self, index: int) -> Path:
        """The folder of one of its runs."""
        return Path(self.runs) / self.entries[index].id

    def failed_network(self, index: int, message: str, provenance: Provenance) -> NetworkRecord:
        """The record of a network that failed where its own process could not say so."""
        entry = self.entries[index]
        return NetworkRecord(
            id=entry.id,
            suite=self.suite,
            status="failed",
            message=message,
            title=entry.title,
            network=entry.network,
            axes=entry.axes,
            provenance=provenance,
        )

    def failed_measurement(self, index: int, measurement: str, message: str, at: Provenance) -> MeasurementRecord:
        """The record of a measurement that failed where its own process could not say so."""
        settings = self.entries[index].measurements[measurement]
        return MeasurementRecord(
            id=measurement,
            network=self.entries[index].id,
            probe=settings["probe"],
            status="failed",
            message=message,
            settings=settings,
            provenance=at,
        )


def submissions(runs: Path) -> list[Submission]:
    """Every submission of a runs folder, oldest first."""
    found = [Submission.read(path) for path in runs.glob(f"{FOLDER}/*/{MANIFEST}")]
    return sorted(found, key=lambda submission: (submission.submitted, submission.name))
