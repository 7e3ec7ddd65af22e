"""The wheel as users have it: in an environment of a project of their own, which has modules called as ours are."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
import yaml

from benchmark.suite.expand import suite_names
from results import __version__
from results.record import NetworkRecord
from slurm.manifest import submissions
from slurm.survey import is_alive
from tests.benchmark.conftest import TINY
from tests.patience import wait_for

ROOT = Path(__file__).parents[1]
ROOMS = ("benchmark", "methods", "results", "slurm")
TRACKERS = {"tensorboard", "wandb", "trackio"}  # extras, imported where they are asked for
needs_uv = pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(["uv", "build", "-q", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def project(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of a user's with the wheel in its environment; what the wheel depends on is taken from ours."""
    project = tmp_path_factory.mktemp("project")
    for name in ("results/__init__.py", "methods.py", "benchmark/__init__.py", "slurm/__init__.py", "random.py"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("raise RuntimeError('the user\\'s own')\n")
    (project / "tiny.yaml").write_text(TINY)
    python = project / ".venv" / "bin" / "python"
    author = ("-c", "user.name=user", "-c", "user.email=user@example.org")
    for command in (
        ["git", "init", "-q"],
        ["git", "add", "-A"],
        ["git", *author, "commit", "-q", "-m", "A project"],
        ["uv", "venv", "-q", "--python", sys.executable, ".venv"],
        ["uv", "pip", "install", "-q", "--no-deps", "--python", str(python), str(wheel)],
    ):
        subprocess.run(command, cwd=project, check=True)
    # A line of a .pth file is looked in last, and .pth files in there, such as that of our checkout, are not read.
    (packages,) = (project / ".venv" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return project


def call(project: Path, *arguments: str, program: str = "spherebench") -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    command = [str(project / ".venv" / "bin" / program), *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_uv
def test_the_wheel_holds_what_the_command_reads_and_no_more(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files", *ROOMS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    expected = {name for name in tracked.splitlines() if not name.startswith("results/reference/")}
    assert {name for name in names if not name.startswith("spherebench-")} == expected


@needs_uv
def test_the_command_and_its_jobs_run_in_a_users_own_project(project: Path) -> None:
    assert [row["suite"] for row in json.loads(call(project, "suites", "--format", "json"))] == suite_names()
    call(project, "compare", str(ROOT / "results" / "reference" / "digits"))
    one = ("--set", "method=vicreg", "--set", "evaluation.probes=knn", "--out", "runs")
    call(project, "submit", "tiny.yaml", "--cluster", "local", *one)
    (submission,) = submissions(project / "runs")
    (worker,) = submission.jobs
    try:
        wait_for(lambda: list((project / "runs").glob("*/measurements/*.json")) or not is_alive(worker))
    finally:
        call(project, "cancel", "runs")
        wait_for(lambda: not is_alive(worker), what="the worker's end")
    (path,) = (project / "runs").glob("*/network.json")
    record = NetworkRecord.read(path)
    assert (record.status, record.suite) == ("done", "tiny")
    assert record.provenance.commit is None


@needs_uv
def test_the_commit_of_the_repository_around_an_environment_is_none_of_ours(project: Path) -> None:
    code = "from benchmark.runtime.provenance import _commit; print(_commit())"
    assert call(project, "-P", "-c", code, program="python") == "(None, None)\n"


def test_every_package_that_is_imported_is_a_dependency() -> None:
    imported: set[str] = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                imported.add(node.module.partition(".")[0])
    outside = imported - set(sys.stdlib_module_names) - set(ROOMS) - TRACKERS - {"timm", "datasets"}  # of extras
    required = [text for text in requires("spherebench") or () if "extra ==" not in text]
    declared = {re.split(r"[^\w.-]", text)[0].lower() for text in required}
    homes = packages_distributions()
    assert {name for name in outside if not {home.lower() for home in homes[name]} & declared} == set()


def test_the_version_is_one_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert newest is not None
    assert project["dynamic"] == ["version"]  # of the room that is there whether or not anything is installed
    assert {citation["version"], newest[1], version("spherebench")} == {__version__}
    assert (citation["license"], citation["title"].partition(":")[0]) == (project["license"], project["name"])
    assert {"cff-version", "message", "authors"} <= citation.keys()
