"""The kernel regime in the harness: what enters a hash, what a run leaves, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.data import load
from benchmark.networks.kernel import base_features, fit
from benchmark.networks.kernel_rows import plain_rows, views_of
from benchmark.running.sweep import execute_suite
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import Suite, load_suite
from benchmark.suite.run import Execution, Run
from results.kernels import Picture
from results.record import KERNEL_NAME, Record
from results.regime import read_spectrum

TINY = """
description: the kernel regime, for tests
defaults:
  data: {source: digits, tune_fraction: 0.2, limit: 150}
  embedding_dim: 8
  evaluation: {probes: [fewshot_svm, fewshot, fewshot_ridge, knn], knn_k: [5], draws: 2, labels_per_class: [1]}
  regime: {basis_size: 40, n_views: 4, n_neighbors: 5, kernel: {gamma: 0.1}}
  epochs: 1
  batch_size: 64
  augmentation: grey
  backbone: {name: small_cnn, width: 8}
  projector: {hidden: 16}
  optimizer: {name: adamw, base_lr: 4e-3, warmup_epochs: 1}
methods:
  kernel_simclr: {regime: {n_views: 2}, loss: {tol: 0.1, max_iter: 10}}
  laplacian_eigenmaps: {regime: {extension_ridge: 1e-3}}
grid:
  method: [kernel_spectral, kernel_vicreg, kernel_barlow_twins, kernel_simclr, vicreg]
  seed: [0]
baselines: [base_kernel, base_kernel_augmented, kernel_pca, laplacian_eigenmaps, raw_pixels]
"""
FITTED = {"kernel_spectral", "kernel_vicreg", "kernel_barlow_twins", "kernel_simclr", "kernel_pca"}


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("regime") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def runs(suite_file: Path, spherebench) -> Path:
    """The tiny suite's runs folder."""
    folder = suite_file.parent / "runs"
    result = spherebench("run", suite_file, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


def _suite(path: Path, *assignments: str) -> Suite:
    return load_suite(str(path), assignments)


def _run(path: Path, method: str, *assignments: str) -> Run:
    return next(cell.run for cell in _suite(path, *assignments).cells if cell.run.method == method)


def _executed(suite: Suite, folder: Path) -> dict[str, Record]:
    """The records of a suite that is carried out here, without tables and plots."""
    process = Process(torch.device("cpu"))
    assert execute_suite(suite, folder, process, Requests(), retry=False, report=lambda text: None)
    return _records(folder)


def _records(folder: Path) -> dict[str, Record]:
    records = [Record.read(path) for path in folder.glob("*/record.json")]
    return {record.run["method"]: record for record in records}


def _figures(record: Record) -> dict[str, float]:
    return {metric.name: metric.value for metric in record.metrics}


def test_what_a_network_would_train_with_enters_no_closed_form(suite_file: Path) -> None:
    other = ("backbone.width=16", "batch_size=32", "optimizer.base_lr=1.0", "epochs=7", "precision=bf16")
    assert _run(suite_file, "kernel_spectral", *other) == _run(suite_file, "kernel_spectral")
    assert _run(suite_file, "vicreg", *other).digest != _run(suite_file, "vicreg").digest


def test_the_kernel_regimes_settings_enter_no_trained_run(suite_file: Path) -> None:
    for method in ("vicreg", "raw_pixels"):
        run = _run(suite_file, method)
        assert run.regime is None
        assert "regime" not in run.model_dump()
        assert _run(suite_file, method, "regime.ridge=0.5").digest == run.digest


def test_a_base_kernel_is_one_run_whatever_the_loss_is_tuned_to(suite_file: Path) -> None:
    tuned = ("regime.ridge=0.5", "regime.n_views=9", "regime.augmentation=blur", "embedding_dim=3")
    assert _run(suite_file, "base_kernel", *tuned) == _run(suite_file, "base_kernel")
    assert _run(suite_file, "base_kernel", "regime.kernel.gamma=0.5") != _run(suite_file, "base_kernel")


@pytest.mark.parametrize("method", ["kernel_spectral", "base_kernel", "laplacian_eigenmaps", "kernel_simclr"])
def test_a_run_survives_json(suite_file: Path, method: str) -> None:
    run = _run(suite_file, method)
    assert "backbone" not in run.model_dump()
    again = Run.model_validate_json(run.model_dump_json())
    assert again == run
    assert again.resolved().digest == run.digest


def test_every_row_is_measured_alike(runs: Path) -> None:
    records = _records(runs)
    assert {record.status for record in records.values()} == {"done"}
    assert len(records) == 10
    for method, record in records.items():
        few = {metric.protocol["probe"] for metric in record.metrics if metric.metric == "fewshot_top1"}
        assert {"svm C=10", "kernel ridge alpha=0.3"} <= few, method
        assert {metric.protocol["split"] for metric in record.metrics} == {"test"}
        assert all(0.1 < metric.value <= 1 for metric in record.metrics)
    for method in FITTED:
        assert records[method].cost.memory_counter == "numpy arrays"
        assert records[method].cost.peak_bytes_step > 40 * 40 * 8
        assert len(read_spectrum(runs / records[method].id)) == 8
        assert sum(read_spectrum(runs / records[method].id)) == pytest.approx(1, abs=1e-2)


def test_tables_and_the_figures_that_the_records_hold(runs: Path) -> None:
    written = {path.stem for path in (runs / "plots").glob("*.png")}
    assert written == {"few_labels", "spectrum", "loss_curves"}
    table = (runs / "tables" / "accuracy.md").read_text()
    assert "Kernel spectral contrastive" in table
    assert "Base kernel, labelled views" in table


def test_the_same_run_twice_gives_the_same_figures(runs: Path, suite_file: Path, tmp_path: Path) -> None:
    again = _executed(_suite(suite_file, "method=kernel_spectral"), tmp_path)
    for method in ("kernel_spectral", "kernel_pca"):
        assert _figures(again[method]) == _figures(_records(runs)[method]), method


def test_the_seed_changes_views_and_landmarks(suite_file: Path) -> None:
    first, second = (_run(suite_file, "kernel_spectral", f"seed={seed}") for seed in (0, 1))
    data = load(first.data, Execution())
    assert not np.array_equal(views_of(data.train, first)[0], views_of(data.train, second)[0])
    rows = plain_rows(data.test)[:5]
    assert not np.allclose(fit(first, data).embedding.transform(rows), fit(second, data).embedding.transform(rows))


def test_kernel_pca_on_the_exact_basis_is_scikit_learns(suite_file: Path) -> None:
    from sklearn.decomposition import KernelPCA

    run = _run(suite_file, "kernel_pca", "regime.basis=exact")
    assert run.regime is not None
    plain = run.regime.model_copy(update={"n_views": 1, "augmentation": "none"})
    run = run.model_copy(update={"regime": plain})
    data = load(run.data, Execution())
    rows, new = plain_rows(data.train), plain_rows(data.test)[:20]
    theirs = KernelPCA(8, kernel="rbf", gamma=0.1).fit(rows).transform(new)
    ours = fit(run, data).embedding.transform(new)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-8)


def test_the_base_kernel_on_the_exact_basis_is_the_kernel(suite_file: Path) -> None:
    from sklearn.metrics.pairwise import rbf_kernel

    run = _run(suite_file, "base_kernel", "regime.basis=exact")
    data = load(run.data, Execution())
    rows = plain_rows(data.train)
    phi = base_features(run, data).transform(rows)
    np.testing.assert_allclose(phi @ phi.T, rbf_kernel(rows, gamma=0.1), atol=1e-8)


def test_the_right_neighbourhood_untangles_the_spirals(tmp_path: Path) -> None:
    _executed(load_suite("regime_spirals", ["method=kernel_spectral"]), tmp_path)
    few: dict[object, float] = {}
    for path in tmp_path.glob("*/record.json"):
        record = Record.read(path)
        svm = next(metric for metric in record.metrics if metric.name.startswith("fewshot_top1[labels_per_class=1,"))
        spectral = record.run["method"] == "kernel_spectral"
        few[record.run["regime"]["n_neighbors"] if spectral else record.title] = svm.value
        picture = Picture.read(path.parent)
        assert picture is not None
        assert picture.induced.shape == picture.base.shape
        assert path.with_name(KERNEL_NAME).stat().st_size < 30_000
    assert few[5] > 0.9
    assert max(value for row, value in few.items() if row != 5) < few[5] - 0.2


@pytest.mark.parametrize(
    ("suite", "assignments", "said"),
    [
        ("tiny", ["regime.rigde=1"], "regime.rigde: unknown key; allowed are kernel"),
        ("tiny", ["regime.ridge=1.0"], "regime.ridge: is 1.0"),
        ("tiny", ["regime.basis=landmarks"], "regime.basis: is 'landmarks'"),
        ("tiny", ["regime.kernel.depth=2"], "regime.kernel: depth is no parameter of the kernel rbf"),
        ("tiny", ["regime.basis_size=null"], "regime.basis_size: must be given for basis rpcholesky"),
        ("tiny", ["method=kernel_vicreg", "loss.beta=-1"], "loss: beta is -1, must be a number"),
        ("tiny", ["method=kernel_spectral", "loss.beta=0.1"], "option 'beta' is not known to kernel_spectral"),
        ("tiny", ["method=kernel_simclr", "regime.ridge=0.0"], "--set regime.ridge: is 0.0, must be positive"),
        ("tiny", ["regime.n_neighbors=null"], "regime.n_neighbors: must be given for a graph of neighbours"),
        ("tiny", ["data.image_size=16"], "kernel methods see the images as they are stored"),
        ("regime_spirals", ["regime.n_neighbors=300"], "regime.n_neighbors: is 300, must be below"),
        ("regime_spirals", ["regime.relation=views"], "regime.relation: is views"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_written(
    suite_file: Path, tmp_path: Path, spherebench, suite: str, assignments: list[str], said: str
) -> None:
    sets = [part for assignment in assignments for part in ("--set", assignment)]
    name = suite_file if suite == "tiny" else suite
    result = spherebench("run", name, "--out", tmp_path / "out", *sets)
    assert result.exit_code == 2, result.output
    assert said in result.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_a_network_cannot_be_trained_on_points(suite_file: Path, tmp_path: Path, spherebench) -> None:
    sets = ["--set", "data.source=spirals", "--set", "data.limit=null", "--set", "method=vicreg"]
    text = suite_file.read_text().partition("baselines:")[0]
    plain = tmp_path / "plain.yaml"
    plain.write_text(text)
    result = spherebench("run", plain, "--out", tmp_path / "out", *sets)
    assert result.exit_code == 2
    assert "holds points, not images; vicreg needs images" in result.output.replace("\n", " ")
