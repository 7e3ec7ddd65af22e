"""What was submitted: one manifest an array, ``RUNS/jobs/<name>/manifest.json``.

It is written before the array is sent and is all that a job needs to know. The array's jobs carry ``name`` as their
job name: whatever becomes of the submitting program, the queue tells which runs are in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from benchmark.runtime.errors import UserError
from results.record import Frozen, first_line, write_atomically
from slurm.profile import Profile, Resources

if TYPE_CHECKING:
    from benchmark.suite.expand import Cell, Suite

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

    @classmethod
    def of(cls, cell: Cell) -> Entry:
        """A suite's cell as a manifest holds it."""
        network = cell.run.network
        return cls(
            id=network.id,
            title=network.title,
            network=network.model_dump(mode="json"),
            measurements={measurement.id: measurement.settings() for measurement in cell.run.measurements},
            axes=cell.axes,
        )


class Submission(Frozen):
    """One array of jobs with the same resources. A job trains and measures, or does one of both.

    ``after`` is the name of the array that trains what this one measures, job by job. ``user`` sent it, to ``cluster``
    (a name, or several of which Slurm chooses); '' in manifests that did not say so yet.
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
    user: str = ""
    cluster: str = ""
    jobs: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its manifest, its batch script and its logs are."""
        return Path(self.runs) / FOLDER / self.name

    @property
    def path(self) -> Path:
        return self.folder / MANIFEST

    @property
    def script(self) -> Path:
        return self.folder / "job.sh"

    @property
    def cancelled(self) -> Path:
        """There once this machine's workers were told to end: one that starts its program then has heard no signal."""
        return self.folder / "cancelled"

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, self.model_dump_json(indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> Submission:
        """Read a manifest. Raises :class:`UserError` where it is damaged, or of another version."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UserError(f"manifest {path}: is damaged, or of another version: {first_line(error)}") from error

    def run_folder(self, index: int) -> Path:
        return Path(self.runs) / self.entries[index].id

    def log(self, job: str) -> Path:
        """Where the first task of a job writes."""
        return self.folder / f"{job.removeprefix('local-')}_0_log.out"

    def as_suite(self) -> Suite:
        """The suite that its runs are of. Raises :class:`UserError` where this code would give any of it another id."""
        # What reads a manifest to tell how its runs are needs no torch, which these load.
        from benchmark.networks.kinds import parse_network
        from benchmark.probes.base import Measurement
        from benchmark.runtime.spec import Execution
        from benchmark.suite.expand import Cell, Suite
        from benchmark.suite.run import Run

        cells = []
        for entry in self.entries:
            where = f"{self.path}: run {entry.id} was submitted by code with"
            try:
                measurements = tuple(Measurement.parse(settings) for settings in entry.measurements.values())
                run = Run(parse_network(entry.network), measurements)
            except ValueError as error:
                raise UserError(f"{where} other settings") from error
            if run.id != entry.id or [measurement.id for measurement in measurements] != list(entry.measurements):
                raise UserError(f"{where} another protocol")
            cells.append(Cell(run, entry.axes))
        execution = Execution.model_validate(self.execution)
        return Suite(self.suite, tuple(cells), self.skipped, execution, self.protocol)


def submissions(runs: Path) -> list[Submission]:
    """Every submission of a runs folder, oldest first."""
    found = [Submission.read(path) for path in runs.glob(f"{FOLDER}/*/{MANIFEST}")]
    return sorted(found, key=lambda submission: (submission.submitted, submission.name))
