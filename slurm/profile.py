"""A cluster profile: what a job asks for, in YAML.

Profiles come with spherebench (``slurm/profiles``) or lie in the user's own directory
(``~/.config/spherebench/profiles``, which goes first), or are given by the path of a ``.yaml`` file.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from benchmark.runtime.errors import UserError
from benchmark.runtime.spec import SettingError, Spec
from benchmark.suite.config import given_in, lookup, nest, parse_typed, read_yaml, validated

Stage = Literal["train", "measure"]
SHIPPED = Path(__file__).parent / "profiles"


class Resources(Spec):
    """What one job asks for. One task a GPU, or one task a node where no GPUs are asked for."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: int = Field(default=1, ge=1)
    gpus_per_node: int = Field(default=0, ge=0)
    gpu_type: str | None = Field(default=None, min_length=1, description="as Slurm names it, where there are several")
    cpus_per_task: int = Field(default=1, ge=1)
    memory_gb: float | None = Field(default=None, gt=0, description="a node; None: the cluster's default")
    minutes: int = Field(
        default=60,
        ge=1,
        description="time limit, or a time as Slurm writes it; a job that reaches it is requeued and goes on",
    )

    @field_validator("minutes", mode="before")
    @classmethod
    def _as_slurm_reads(cls, value: Any) -> Any:
        """``MINUTES:SECONDS``, ``HOURS:MINUTES:SECONDS``, ``DAYS-HOURS[:MINUTES[:SECONDS]]``; begun minutes count."""
        if not isinstance(value, str):
            return value
        if not (match := _TIME.fullmatch(value)):
            raise ValueError(f"is {value!r}, must be whole minutes, or as Slurm writes a time: 1:30:00, 2-00, 2-12:30")
        days, clock = match.groups()
        parts = [int(part) for part in clock.split(":")]
        # Of a day the first part is hours; alone it is minutes, and of two the minutes are the first.
        lacking = 3 - len(parts)
        hours, minutes, seconds = [*parts, *[0] * lacking] if days or lacking == 0 else [0, *parts, 0][:3]
        return int(days or 0) * 1440 + hours * 60 + minutes + -(-seconds // 60)

    @property
    def tasks_per_node(self) -> int:
        return max(1, self.gpus_per_node)


class Shape(Spec):
    """Other resources for some jobs: ``when`` maps fields to a value, a list of them, or {min:, max:}.

    The fields are those of the network, ``probe`` (any of those that measure it) and ``stage``: train or measure.
    """

    when: dict[str, Any] = Field(min_length=1)
    ask: dict[str, Any] = Field(min_length=1)

    @field_validator("when")
    @classmethod
    def _known_stage(cls, when: dict[str, Any]) -> dict[str, Any]:
        if when.get("stage", "train") not in get_args(Stage):
            raise ValueError(f"stage is {when['stage']!r}, must be train or measure")
        return when


_TIME = re.compile(r"(?:(\d+)-)?(\d+(?::\d+){0,2})", re.ASCII)

# Options of sbatch that are made from other settings.
_OWN_OPTIONS = {
    **{name: f"given as resources.{name}" for name in ("partition", "account", "qos", "constraint", "nodes")},
    **dict.fromkeys(("gpus-per-node", "ntasks-per-node"), "given as resources.gpus_per_node and gpu_type"),
    **dict.fromkeys(
        ("gpus", "gpus-per-task", "ntasks", "ntasks-per-gpu"), "given as resources.gpus_per_node and nodes"
    ),
    "cpus-per-task": "given as resources.cpus_per_task",
    "mem": "given as resources.memory_gb",
    "time": "given as resources.minutes",
    "signal": "given as signal_seconds",
    "array": "made from the runs, and from jobs_at_once",
    **dict.fromkeys(("job-name", "output", "error", "open-mode", "requeue"), "spherebench's own business"),
}


class Profile(Spec):
    """A cluster, or this machine, and how jobs are run on it."""

    description: str = Field(min_length=1)
    executor: Literal["slurm", "local", "debug"] = "slurm"
    resources: Resources = Resources()
    # YAML has no tuples: these two take a list.
    shapes: tuple[Shape, ...] = Field(default=(), strict=False)
    jobs_at_once: int | None = Field(default=None, ge=1, description="of one array; None: as many as there are")
    signal_seconds: int = Field(default=120, ge=5, description="before the time limit, a job is asked to save")
    setup: tuple[str, ...] = Field(
        default=(), strict=False, description="shell lines before python starts: module load, ..."
    )
    environment: dict[str, str] = {}
    sbatch: dict[str, str | int | bool] = Field(default={}, description="any other option of sbatch, by its long name")

    @field_validator("sbatch")
    @classmethod
    def _no_second_way(cls, options: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        for name in options:
            if own := _OWN_OPTIONS.get(name.replace("_", "-")):
                raise ValueError(f"{name} is {own}")
        return options

    def resources_of(self, network: Mapping[str, Any], probes: Sequence[str], stage: Stage) -> Resources:
        """What the job of one stage of a run asks for: ``resources``, changed by every shape that fits it."""
        fields = {**network, "probe": list(probes), "stage": stage}
        asked = self.resources
        for shape in self.shapes:
            if all(_fits(lookup(fields, path), wanted) for path, wanted in shape.when.items()):
                asked = _changed(asked, shape.ask)
        return asked


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(value, list):
        return any(_fits(one, wanted) for one in value)
    if isinstance(wanted, Mapping):
        return isinstance(value, int | float) and wanted.get("min", value) <= value <= wanted.get("max", value)
    return value in (wanted if isinstance(wanted, list) else [wanted])


def profile_paths() -> dict[str, Path]:
    """Every profile by name; the user's own hides a shipped one of the same name."""
    return {path.stem: path for folder in (SHIPPED, _own()) for path in sorted(folder.glob("*.yaml"))}


def _own() -> Path:
    # Who has neither HOME nor an entry in passwd has none there: pathlib would raise, and the text stays as it is.
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return Path(home) / "spherebench" / "profiles"


def load_profile(name_or_path: str, assignments: Sequence[str] = ()) -> Profile:
    """Read a profile and change its resources by ``KEY=VALUE`` texts.

    Raises :class:`UserError` for an unknown profile (listing what there is), key or value.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        known = profile_paths()
        if name_or_path not in known:
            names = ", ".join(known)
            raise UserError(
                f"--cluster {name_or_path!r}: is not a profile; there are {names}, and your own in {_own()}"
            )
        path = known[name_or_path]
    elif not path.is_file():
        raise UserError(f"--cluster {path}: there is no such file")
    with given_in(f"{path.name}: "):
        profile = validated(Profile, read_yaml(path))
        for number, shape in enumerate(profile.shapes):
            _changed(profile.resources, shape.ask, f"shapes.{number}.ask")
    for number, shape in enumerate(profile.shapes):
        with given_in(f"{path.name}: shapes.{number}.when."):
            _check_when(shape.when)
    return overridden(profile, assignments)


def overridden(profile: Profile, assignments: Sequence[str]) -> Profile:
    """A profile whose jobs all ask for what ``KEY=VALUE`` texts say, whatever their shape.

    Raises :class:`UserError` for an unknown key or a bad value.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key or not text:
            raise UserError(f"--resource {assignment!r}: must read KEY=VALUE, such as partition=gpu")
        field = Resources.model_fields.get(key)
        changes[key] = parse_typed(text, field and field.annotation, f"--resource {key}")
    with given_in("--resource "):
        resources = _changed(profile.resources, changes)
    shapes = tuple(
        shape.model_copy(update={"ask": {key: changes.get(key, value) for key, value in shape.ask.items()}})
        for shape in profile.shapes
    )
    return profile.model_copy(update={"resources": resources, "shapes": shapes})


def _check_when(when: Mapping[str, Any]) -> None:
    """Raise :class:`SettingError` for what is no field, and would never fit or fit everything."""
    from benchmark.suite.run import check_keys  # loads torch: seconds that a look at a queue does without

    check_keys(nest(dict.fromkeys(when)), beside=("kind", "probe", "stage"))
    for path, wanted in when.items():
        if path.partition(".")[0] == "evaluation":
            raise SettingError(path, "is no field of a network; probe names what measures it")
        numbers = isinstance(wanted, Mapping) and all(isinstance(bound, int | float) for bound in wanted.values())
        if isinstance(wanted, Mapping) and not (wanted and wanted.keys() <= {"min", "max"} and numbers):
            raise SettingError(path, f"is {wanted}, must be a value, a list of them, or {{min:, max:}}")


def _changed(resources: Resources, changes: Mapping[str, Any], section: str = "") -> Resources:
    return validated(Resources, resources.model_dump() | dict(changes), section)
