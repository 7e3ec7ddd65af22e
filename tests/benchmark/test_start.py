"""What a command needs to begin, and what a job loads before it trains: nothing that takes seconds and can wait."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmark.cli import main
from methods import registry
from results import __version__
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
TRAINS = """
import sys
from pathlib import Path

import torch

import slurm.work
from benchmark.data import load
from benchmark.networks.base import Job
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import load_suite

suite = load_suite("digits", ["epochs=1", "optimizer.warmup_epochs=0", "data.limit=256", "batch_size=64"])
network = suite.cells[0].run.network
data = load(network.data, Path("data"))
network.make(data, Job(Path(sys.argv[1]), Process(torch.device("cpu")), Requests(), suite.execution))
print(*sorted({"torchvision", "sklearn", "scipy", "pandas", "matplotlib"} & set(sys.modules)))
"""


def test_training_on_digits_needs_neither_torchvision_nor_scikit_learn(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TRAINS, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "weights.safetensors").exists(), "it did not train"
    assert done.stdout.strip() == ""


def test_a_checkout_that_is_not_installed_tells_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    done = CliRunner().invoke(main, ["--version"])
    assert (done.exit_code, done.output) == (0, f"spherebench, version {__version__}\n")


def test_methods_are_listed_with_the_origin_of_every_default() -> None:
    rows = json.loads(CliRunner().invoke(main, ["methods", "--format", "json"]).output)
    listed = {row["method"]: row["defaults"] for row in rows}
    for method in map(registry.get, registry.names()):
        for name, value in method.defaults.items():
            assert f"{name}={value} ({method.origin[name]})" in listed[method.name]
