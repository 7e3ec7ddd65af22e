"""The kernel regime's networks: what enters their digests, what they learn, what they leave, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from benchmark.cli import Commands
from benchmark.data import DataSet, DataSpec, ImageSet, Points, load
from benchmark.networks import kernel_maps
from benchmark.networks.base import WEIGHTS_NAME, Job, Network
from benchmark.networks.kernel import (
    CLOSED_FORMS,
    KERNEL_METHODS,
    FrozenKernel,
    KernelNetwork,
    KernelSpec,
    OnNoise,
    OnViews,
    kernel_methods_table,
    plain_rows,
)
from benchmark.networks.kernel_maps import KernelMap, rows_of
from benchmark.networks.kinds import parse_network
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Interrupted, Requests
from benchmark.runtime.spec import Execution
from benchmark.suite.expand import Suite, load_suite
from methods.regime import ESTIMATORS
from methods.regime.base import KernelSSL, RankWarning
from tests.benchmark.conftest import Command

TINY = """
description: the kernel regime, for tests
defaults:
  data: {source: digits, tune_fraction: 0.2, limit: 100}
  embedding_dim: 8
  evaluation: {probes: [fewshot_svm, knn, spectrum, kernel_picture], knn_k: [5], draws: 2, labels_per_class: [1]}
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
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("regime") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load(DataSpec(source="digits", tune_fraction=0.2, limit=100), Path("nowhere"))


def network(path: Path, method: str, *assignments: str) -> Network:
    found = (cell.run.network for cell in load_suite(str(path), assignments).cells)
    return next(own for own in found if own.method == method)


def kernel_network(path: Path, method: str, *assignments: str) -> KernelNetwork:
    found = network(path, method, *assignments)
    assert isinstance(found, KernelNetwork)
    return found


def job(folder: Path) -> Job:
    return Job(folder, Process(CPU), Requests(), Execution())


def fitted(made: KernelNetwork, data: DataSet) -> KernelMap:
    return kernel_maps.fit(made, *rows_of(data.train, made.regime, made.seed))


def test_what_a_network_would_train_with_enters_no_closed_form(suite_file: Path) -> None:
    other = ("backbone.width=16", "batch_size=32", "optimizer.base_lr=1.0", "epochs=7", "precision=bf16")
    assert network(suite_file, "kernel_spectral", *other) == network(suite_file, "kernel_spectral")
    assert network(suite_file, "vicreg", *other).digest != network(suite_file, "vicreg").digest


def test_the_kernel_regimes_settings_enter_no_trained_network(suite_file: Path) -> None:
    for method in ("vicreg", "raw_pixels"):
        made = network(suite_file, method)
        assert "regime" not in made.model_dump()
        assert network(suite_file, method, "regime.ridge=0.5").digest == made.digest


def test_a_base_kernel_is_one_network_whatever_the_loss_is_tuned_to(suite_file: Path) -> None:
    tuned = ("regime.ridge=0.5", "regime.n_views=9", "regime.augmentation=blur", "embedding_dim=3")
    assert network(suite_file, "base_kernel", *tuned) == network(suite_file, "base_kernel")
    assert network(suite_file, "base_kernel", "regime.kernel.gamma=0.5") != network(suite_file, "base_kernel")


# Of the section `regime`: which methods a key concerns.
CONCERNS = {
    "kernel.name=laplacian": set(KERNEL_METHODS),
    "kernel.gamma=0.3": set(KERNEL_METHODS),
    "basis=uniform": set(KERNEL_METHODS),
    "basis_size=30": set(KERNEL_METHODS),
    "n_views=3": {*CLOSED_FORMS, "base_kernel_augmented", "kernel_pca"},
    "augmentation=blur": {*CLOSED_FORMS, "base_kernel_augmented", "kernel_pca"},
    "ridge=0.3": set(CLOSED_FORMS),
    "center=false": set(CLOSED_FORMS),
    "extension_ridge=0.1": {*CLOSED_FORMS, "laplacian_eigenmaps"},
    "n_neighbors=6": {"laplacian_eigenmaps"},
}


@pytest.mark.parametrize("change", CONCERNS)
def test_a_setting_enters_the_digests_of_the_methods_that_it_concerns(suite_file: Path, change: str) -> None:
    changed = {
        method
        for method in KERNEL_METHODS
        if network(suite_file, method, f"regime.{change}").digest != network(suite_file, method).digest
    }
    assert changed == CONCERNS[change]


def test_a_relation_of_neighbours_has_neighbours_and_no_views(suite_file: Path) -> None:
    plain = network(suite_file, "kernel_spectral", "regime.relation=neighbours")
    regime = plain.model_dump()["regime"]
    assert regime["n_neighbors"] == 5
    assert not {"n_views", "augmentation"} & regime.keys()
    assert parse_network(plain.model_dump(mode="json")) == plain
    pca = network(suite_file, "kernel_pca", "regime.relation=neighbours")
    assert set(pca.model_dump()["regime"]) == {"kernel", "basis", "basis_size"}
    assert parse_network(pca.model_dump(mode="json")) == pca


def test_a_relation_of_noise_has_noise_and_no_augmentation(suite_file: Path) -> None:
    noisy = ("regime.relation=noise", "regime.noise=0.3", "data.source=circle", "data.tune_fraction=0.0")
    plain = network(suite_file, "kernel_spectral", *noisy)
    regime = plain.model_dump()["regime"]
    assert (regime["noise"], regime["n_views"]) == (0.3, 4)
    assert not {"n_neighbors", "augmentation"} & regime.keys()
    assert plain.offers == {"features", "rows", "kernel", "views", "chain"}
    for method in KERNEL_METHODS:
        made = network(suite_file, method, *noisy)
        assert parse_network(made.model_dump(mode="json")) == made
    with pytest.raises(UserError, match=r"regime\.noise: "):
        network(suite_file, "kernel_spectral", "regime.relation=noise")


def test_noise_turns_points_on_circles_and_moves_others(data: DataSet) -> None:
    torus = load(DataSpec(source="torus", tune_fraction=0.0, limit=50), Path("nowhere")).train
    rows, image_N = rows_of(torus, OnNoise(n_views=3, noise=0.1), 0)
    np.testing.assert_allclose((rows.reshape(150, 2, 2) ** 2).sum(axis=2), 1)
    np.testing.assert_array_equal(image_N, np.repeat(np.arange(50), 3))
    seen, still = (np.arctan2(own[:, 1::2], own[:, ::2]) for own in (rows, plain_rows(torus)[image_N]))
    deviations = np.angle(np.exp(1j * (seen - still))).std(axis=0)
    np.testing.assert_allclose(deviations, [0.1, 0.2], rtol=0.25)
    points = Points(np.random.default_rng(0).normal(size=(80, 2)), np.zeros(80, dtype=np.int64))
    rows, image_N = rows_of(points, OnNoise(n_views=4, noise=0.5), 0)
    assert (rows - points.rows[image_N]).std() == pytest.approx(0.5, rel=0.1)


def test_defaults_that_are_plain_numbers_are_in_the_digest() -> None:
    assert KernelSpec(name="polynomial").resolved() == KernelSpec(name="polynomial", degree=3)
    assert KernelSpec(name="ntk").resolved() == KernelSpec(name="ntk", depth=3)
    assert KernelSpec(name="rbf").resolved() == KernelSpec()


def test_every_method_is_listed_with_its_defaults() -> None:
    rows = {row["method"]: row for row in kernel_methods_table()}
    assert list(rows) == list(KERNEL_METHODS)
    assert rows["kernel_simclr"]["defaults"] == "tol=0.0001, max_iter=200, n_init=1"
    assert rows["kernel_pca"]["defaults"] == ""


KERNELS = {
    "rbf": ("regime.kernel.gamma=0.1",),
    "rbf, its bandwidth from the data": ("regime.kernel.gamma=null",),
    "laplacian": ("regime.kernel.name=laplacian", "regime.kernel.gamma=null"),
    "polynomial": ("regime.kernel.name=polynomial", "regime.kernel.gamma=null", "regime.kernel.degree=2"),
    "polynomial of a scale": ("regime.kernel.name=polynomial", "regime.kernel.gamma=0.01"),
    "ntk": ("regime.kernel.name=ntk", "regime.kernel.gamma=null", "regime.kernel.depth=2"),
}
BASES = ("exact", "uniform", "k-means++", "rpcholesky", "fourier")


def _saved() -> Iterator[Any]:
    """Every basis with every method, and with every kernel, by one of the methods."""
    for basis, method, kernel in product(BASES, KERNEL_METHODS, KERNELS):
        has = basis != "fourier" or kernel.startswith(("rbf", "laplacian"))
        if has and (kernel == "rbf" or method == "kernel_vicreg"):
            settings = (f"regime.basis={basis}", *KERNELS[kernel])
            yield pytest.param(method, settings, id=f"{method}-{basis}-{kernel}")


@pytest.mark.parametrize(("method", "settings"), _saved())
def test_what_is_saved_is_what_was_fitted(
    suite_file: Path, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, settings: tuple[str]
) -> None:
    """Also the estimator's own transform, of which the map is a part."""
    fitted_estimators: list[KernelSSL] = []

    def noting(kind: type[KernelSSL]) -> Any:
        def make(*arguments: Any, **options: Any) -> KernelSSL:
            fitted_estimators.append(kind(*arguments, **options))
            return fitted_estimators[-1]

        return make

    noted = {name: noting(kind) for name, kind in ESTIMATORS.items()}
    monkeypatch.setattr(kernel_maps, "ESTIMATORS", noted)
    made = kernel_network(suite_file, method, *settings, "regime.n_views=2")
    some = replace(data, train=data.train.subset(np.arange(40)))
    rows_ND = plain_rows(data.test)[:30]
    expected = fitted(made, some).transform(rows_ND)
    if method in CLOSED_FORMS:
        np.testing.assert_allclose(expected, fitted_estimators[0].transform(rows_ND), rtol=0, atol=1e-12)
    result = made.make(some, job(tmp_path))
    assert result.cost.memory_counter == "numpy arrays"
    assert made.is_kept(tmp_path)
    loaded = made.load(tmp_path, some, CPU)
    assert np.array_equal(loaded.map.transform(rows_ND), expected)
    queries = loaded.extract(data.test)
    assert queries.dtype == torch.float64
    assert np.array_equal(queries[:30].numpy(), loaded.map.transform(plain_rows(data.test))[:30])


def test_a_rank_that_the_ridge_lowers_is_expected(suite_file: Path, data: DataSet) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ridged = kernel_network(suite_file, "kernel_barlow_twins", "regime.ridge=0.5")
        assert len(fitted(ridged, data).shift) < 8
    assert not told


def test_a_warning_that_comes_again_is_printed_once() -> None:
    @click.command()
    def twice() -> None:
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("the rank is low", RankWarning, stacklevel=1)

    result = CliRunner().invoke(Commands(commands={"twice": twice}), ["twice"])
    assert result.output.count("warning: the rank is low") == 1


def test_labelled_views_are_learned_from_and_images_measured(suite_file: Path, data: DataSet, tmp_path: Path) -> None:
    made = kernel_network(suite_file, "base_kernel_augmented")
    made.make(data, job(tmp_path))
    loaded = made.load(tmp_path, data, CPU)
    assert isinstance(loaded, FrozenKernel)
    bank = loaded.bank(data.labelled)
    assert loaded.views == 4
    assert len(bank) == 4 * len(data.labelled)
    views, image_N = rows_of(data.labelled, made.regime, made.seed)
    assert image_N.tolist() == [number for number in range(len(data.labelled)) for _ in range(4)]
    assert torch.equal(bank, torch.from_numpy(loaded.map.transform(views)))
    assert len(loaded.extract(data.test)) == len(data.test)


@pytest.mark.parametrize("method", ["kernel_spectral", "base_kernel"])
def test_one_row_an_image_is_learned_from_elsewhere(
    suite_file: Path, data: DataSet, tmp_path: Path, method: str
) -> None:
    made = kernel_network(suite_file, method)
    made.make(data, job(tmp_path))
    loaded = made.load(tmp_path, data, CPU)
    assert loaded.views == 1
    assert loaded.epochs == (0 if method == "base_kernel" else 1)
    bank = loaded.bank(data.labelled)
    assert torch.equal(bank, loaded.extract(data.labelled))


def test_arrays_that_are_gone_or_damaged_are_one_sentence(suite_file: Path, data: DataSet, tmp_path: Path) -> None:
    made = kernel_network(suite_file, "base_kernel")
    with pytest.raises(UserError, match=r"weights\.safetensors: there is no such file"):
        made.load(tmp_path, data, CPU)
    made.make(data, job(tmp_path))
    content = (tmp_path / WEIGHTS_NAME).read_bytes()
    for damaged in (content[:-100], b"", content[:10]):
        (tmp_path / WEIGHTS_NAME).write_bytes(damaged)
        with pytest.raises(UserError, match=r"weights\.safetensors: is damaged"):
            made.load(tmp_path, data, CPU)


def test_the_same_network_twice_is_the_same(suite_file: Path, data: DataSet, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        kernel_network(suite_file, "kernel_vicreg").make(data, job(tmp_path / name))
    assert (tmp_path / "first" / WEIGHTS_NAME).read_bytes() == (tmp_path / "second" / WEIGHTS_NAME).read_bytes()


def test_the_seed_changes_views_and_landmarks(suite_file: Path, data: DataSet) -> None:
    first, second = (kernel_network(suite_file, "kernel_spectral", f"seed={seed}") for seed in (0, 1))
    assert isinstance(first.regime, OnViews)
    assert not np.array_equal(rows_of(data.train, first.regime, 0)[0], rows_of(data.train, first.regime, 1)[0])
    rows = plain_rows(data.test)[:5]
    assert not np.allclose(fitted(first, data).transform(rows), fitted(second, data).transform(rows))
    base = [kernel_network(suite_file, "base_kernel", f"seed={seed}") for seed in (0, 1)]
    landmarks = [fitted(own, data).arrays()["landmarks"] for own in base]
    assert not np.array_equal(*landmarks)


@pytest.mark.parametrize("augmentation", ["none", "translation", "rotation", "zoom", "blur", "affine", "mixed"])
def test_views_are_of_their_images(data: DataSet, augmentation: Any) -> None:
    regime = OnViews(n_views=3, augmentation=augmentation)
    some = data.train.subset(np.arange(6))
    rows, image_N = rows_of(some, regime, 0)
    assert rows.shape == (18, 64)
    assert image_N.tolist() == [number for number in range(6) for _ in range(3)]
    assert -1e-9 <= rows.min() <= rows.max() <= 1 + 1e-9
    plain = plain_rows(some)
    assert (augmentation == "none") == np.array_equal(rows, np.repeat(plain, 3, axis=0))


def test_kernel_pca_on_the_exact_basis_is_scikit_learns(suite_file: Path, data: DataSet) -> None:
    from sklearn.decomposition import KernelPCA

    made = kernel_network(suite_file, "kernel_pca", "regime.basis=exact", "regime.relation=neighbours")
    rows, new = plain_rows(data.train), plain_rows(data.test)[:20]
    theirs = KernelPCA(8, kernel="rbf", gamma=0.1).fit(rows).transform(new)
    np.testing.assert_allclose(np.abs(fitted(made, data).transform(new)), np.abs(theirs), atol=1e-8)


def test_the_base_kernel_on_the_exact_basis_is_the_kernel(suite_file: Path, data: DataSet) -> None:
    from sklearn.metrics.pairwise import rbf_kernel

    made = kernel_network(suite_file, "base_kernel", "regime.basis=exact")
    rows = plain_rows(data.train)
    phi = fitted(made, data).transform(rows)
    np.testing.assert_allclose(phi @ phi.T, rbf_kernel(rows, gamma=0.1), atol=1e-8)


def test_laplacian_eigenmaps_on_the_exact_basis_interpolate_the_eigenvectors(suite_file: Path, data: DataSet) -> None:
    from methods.regime.graphs import knn_graph, normalised_adjacency

    made = kernel_network(
        suite_file, "laplacian_eigenmaps", "regime.basis=exact", "regime.extension_ridge=1e-12", "embedding_dim=3"
    )
    rows = plain_rows(data.train)
    z_Nd = fitted(made, data).transform(rows)
    A_NN = normalised_adjacency(knn_graph(rows, 5))
    values, vectors = np.linalg.eigh(A_NN.toarray())
    expected = vectors[:, ::-1][:, 1:4]
    centred = expected - expected.mean(axis=0)
    found = z_Nd / np.linalg.norm(z_Nd, axis=0)
    cosines = np.abs((found * centred).sum(axis=0)) / np.linalg.norm(centred, axis=0)
    np.testing.assert_allclose(cosines, 1, atol=1e-4)
    assert values[-1] == pytest.approx(1)


def test_what_interrupts_the_fit_is_passed_on(suite_file: Path, data: DataSet, tmp_path: Path) -> None:
    made = kernel_network(suite_file, "kernel_simclr")
    asked = job(tmp_path)
    asked.requests.ask(suite=False)
    with pytest.raises(Interrupted):
        made.make(data, asked)
    assert not made.is_kept(tmp_path)


class Elsewhere(Process):
    """The second of two processes, which is told what the first one says."""

    def broadcast(self, value: Any) -> Any:
        assert value is not None
        return value[0], Interrupted("stopped there")


def test_a_process_that_waits_ends_as_the_one_that_fits(suite_file: Path, data: DataSet, tmp_path: Path) -> None:
    waiting = replace(job(tmp_path), process=Elsewhere(CPU, rank=1, world_size=2))
    with pytest.raises(Interrupted, match="stopped there"):
        kernel_network(suite_file, "kernel_spectral").make(data, waiting)


@pytest.fixture(scope="module")
def measured(suite_file: Path, spherebench: Command) -> Result:
    """The tiny suite's kernel networks and baselines, fitted and measured by the command."""
    result: Result = spherebench("run", suite_file, "--out", suite_file.parent / "runs")
    assert result.exit_code == 0, result.output
    return result


def test_every_kernel_network_is_measured(measured: Result, suite_file: Path) -> None:
    from results.record import MeasurementRecord

    records = [MeasurementRecord.read(path) for path in (suite_file.parent / "runs").glob("*/measurements/*.json")]
    assert {record.status for record in records} == {"done"}
    spectra = {
        record.network.partition("-")[0]: record.details["eigenvalues"]
        for record in records
        if record.probe == "spectrum"
    }
    assert set(spectra) == set(KERNEL_METHODS)
    for method, eigenvalues in spectra.items():
        assert eigenvalues == sorted(eigenvalues, reverse=True)
        assert len(eigenvalues) == (40 if method.startswith("base_kernel") else 8)
        assert sum(eigenvalues) == pytest.approx(1, abs=1e-2)
    few = {record.network.partition("-")[0] for record in records if record.probe == "fewshot_svm"}
    assert few == {*KERNEL_METHODS, "vicreg", "raw_pixels"}


@pytest.mark.parametrize(
    ("suite", "assignments", "said"),
    [
        ("tiny", ["regime.rigde=1"], "regime.rigde: unknown key; allowed are"),
        ("tiny", ["regime.ridge=1.0"], "regime.ridge: is 1.0"),
        ("tiny", ["regime.basis=landmarks"], "regime.basis: is 'landmarks'"),
        ("tiny", ["regime.kernel.depth=2"], "regime.kernel: depth is no parameter of the kernel rbf"),
        ("tiny", ["regime.basis_size=null"], "regime.basis_size: must be given for basis rpcholesky"),
        ("tiny", ["method=kernel_vicreg", "loss.beta=-1"], "loss: beta is -1, must be a number"),
        ("tiny", ["method=kernel_spectral", "loss.beta=0.1"], "option 'beta' is not known to kernel_spectral"),
        ("tiny", ["method=kernel_spectral", "loss.target=x"], "target is 'x', must be adjacency or normalised"),
        ("tiny", ["method=kernel_simclr", "loss.max_iter=0"], "max_iter is 0, must be a whole number of at least 1"),
        ("tiny", ["method=kernel_simclr", "regime.ridge=0.0"], "--set regime.ridge: is 0.0, must be positive"),
        (
            "tiny",
            ["method=kernel_simclr", "regime.time=2"],
            "--set regime.time: is 2, must be left out for kernel_simclr",
        ),
        ("tiny", ["regime.n_neighbors=null"], "regime.n_neighbors: must be given for a graph of neighbours"),
        ("tiny", ["regime.n_views=1"], "regime.n_views: is 1, must be 2 or more for kernel_spectral"),
        ("tiny", ["regime.relation=neighbours", "regime.n_views=1"], "must be 2 or more for base_kernel_augmented"),
        ("tiny", ["regime.basis_size=7"], "embedding_dim: is 8, must be at most regime.basis_size, 7"),
        ("tiny", ["regime.basis=fourier", "regime.basis_size=41"], "regime.basis_size: is 41, must be even for basis"),
        (
            "tiny",
            ["regime={basis: fourier, kernel: {name: ntk, gamma: null}}"],
            "is fourier, which the kernel ntk has not",
        ),
        ("tiny", ["method=kernel_vicreg", "loss.beta=1e999"], "loss: beta is inf, must be a number"),
        ("tiny", ["data.limit=9"], "data.limit: is 9, must be at least the number of classes, which is 10"),
        (
            "regime_spirals",
            ["regime.basis_size=400", "embedding_dim=400"],
            "embedding_dim: is 400, must be below the 300",
        ),
        ("tiny", ["data.image_size=16"], "kernel methods see the images as they are stored"),
        ("regime_spirals", ["regime.n_neighbors=400"], "regime.n_neighbors: is 400, must be below"),
        ("regime_spirals", ["regime.relation=views"], "regime.relation: is views"),
        ("tiny", ["regime.relation=friends"], "regime.relation: is 'friends', must be one of views, neighbours, noise"),
        (
            "tiny",
            ["regime.relation=noise", "regime.noise=0.1"],
            "regime.relation: is noise, on points, and data.source",
        ),
        ("regime_chain", ["regime.noise=0"], "regime.noise: is 0, should be greater than 0"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_written(
    suite_file: Path, tmp_path: Path, spherebench: Command, suite: str, assignments: list[str], said: str
) -> None:
    sets = [part for assignment in assignments for part in ("--set", assignment)]
    name = suite_file if suite == "tiny" else suite
    result = spherebench("run", name, "--out", tmp_path / "out", *sets)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_a_kernel_needs_data_in_memory(suite_file: Path, data: DataSet) -> None:
    from benchmark.data import FileImages

    made = kernel_network(suite_file, "base_kernel")
    images = FileImages(np.array([b"a.png"]), np.array([0]))
    in_files = replace(data, train=images, test=images)
    with pytest.raises(UserError, match="lies in files; kernel methods need data that is held in memory"):
        made.check(in_files, Process(CPU))


def test_the_right_neighbourhood_untangles_the_spirals(tmp_path: Path) -> None:
    from benchmark.running.runner import execute_suite
    from results.record import MeasurementRecord, NetworkRecord

    settings = ["method=kernel_spectral", "evaluation.probes=[fewshot_svm, kernel_picture]"]
    suite = load_suite("regime_spirals", settings)
    assert execute_suite(suite, tmp_path, Process(CPU), Requests(), retry=False, report=lambda text: None)
    few: dict[object, float] = {}
    for path in tmp_path.glob("*/network.json"):
        record = NetworkRecord.read(path)
        measured = [MeasurementRecord.read(own) for own in path.parent.glob("measurements/*.json")]
        (svm,) = (own for own in measured if own.probe == "fewshot_svm")
        (picture,) = (own for own in measured if own.probe == "kernel_picture")
        spectral = record.network["method"] == "kernel_spectral"
        one_label = next(own for own in svm.metrics if own.protocol["labels_per_class"] == 1)
        few[record.network["regime"]["n_neighbors"] if spectral else record.title] = one_label.value
        assert np.shape(picture.details["induced"]) == np.shape(picture.details["base"]) == (72, 72)
        assert len(picture.details["points"]) == len(picture.details["labels"]) == len(suite_points(suite))
    assert few[5] > 0.9
    assert max(value for row, value in few.items() if row != 5) < few[5] - 0.2


def suite_points(suite: Suite) -> ImageSet:
    return load(suite.cells[0].run.measurements[0].data, Path("nowhere")).train
