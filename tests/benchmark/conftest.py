"""A suite small enough to be run in a test: real digits, a small network, seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from benchmark.cli import main
from results import outputs
from results.report import page

TINY = """
description: a suite for tests
defaults:
  data: {source: digits, tune_fraction: 0.2, limit: 256}
  augmentation: grey
  backbone: {name: small_cnn, width: 8}
  projector: {hidden: 16}
  epochs: 2
  batch_size: 64
  optimizer: {name: adamw, base_lr: 4e-3, warmup_epochs: 1}
  evaluation: {probes: [fewshot, knn, embedding], knn_k: [5], draws: 2}
execution: {checkpoint_seconds: 0, log_every: 1}
grid:
  method: [sfrik_l2, vicreg]
  embedding_dim: [16]
  seed: [0]
tune:
  metric: knn_top1
  embedding_dim: 16
  candidates:
    sfrik_l2: {loss.align_weight: [0.5, 1.0]}
    vicreg: {optimizer.base_lr: [1e-3, 4e-3]}
"""

Command = Callable[..., Result]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The path of the tiny suite."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends with its tables: figures and the page take three times as long as a tiny training."""

    def write(folders: object, path: Path) -> Path:
        path.touch()
        return path

    monkeypatch.setattr(outputs, "plots", SimpleNamespace(write=lambda *_: []))
    monkeypatch.setattr(outputs, "page", SimpleNamespace(NAME=page.NAME, write=write))


@pytest.fixture(scope="session")
def spherebench() -> Command:
    """The command line, called in this process: ``spherebench("run", suite, "--out", folder)``."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)

    return call


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, spherebench: Command) -> Path:
    """The tiny suite's runs folder, made without a disturbance; the suite file lies beside it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.yaml").write_text(TINY)
    result = spherebench("run", folder / "tiny.yaml", "--out", folder / "runs")
    assert result.exit_code == 0, result.output
    return folder / "runs"
