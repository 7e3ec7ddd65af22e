"""The committed records are of the suites as they stand, and say what is shown of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest

from benchmark.suite.config import lookup, merge
from benchmark.suite.expand import Suite, load_suite, read_suite, suite_path
from benchmark.suite.tune import choose, scores, tuning_suite
from results.record import Metric, matches
from results.runs import Records, read_runs
from results.summary import half_width

REFERENCE = Path(__file__).parents[1] / "results" / "reference"
KERNEL_SUITES = (
    *("regime_digits", "regime_mnist", "regime_ridge_rank", "regime_ridge_time", "regime_spirals", "regime_width"),
    *("regime_chain", "regime_augmentations"),
)


@cache
def _candidates(name: str) -> Suite:
    """Every candidate of `spherebench tune NAME`."""
    return tuning_suite(read_suite(suite_path(name)), {}, name=name, where=f"{name}.yaml")


def _records(suite: Suite, folder: Path) -> list[Records]:
    """What is recorded of every run of a suite, in its order."""
    found = {records.network.id: records for records in read_runs([folder])}
    return [found[cell.run.id] for cell in suite.cells]


@cache
def _reference(name: str) -> list[Records]:
    """What is committed of every run of a suite."""
    return _records(load_suite(name), REFERENCE / name)


def _metrics(records: Sequence[Records]) -> Iterator[tuple[Records, Metric]]:
    for record in records:
        for measurement in record.measurements:
            for metric in measurement.metrics:
                yield record, metric


@pytest.mark.parametrize("name", ["cifar10_small", "digits", *KERNEL_SUITES])
def test_every_run_is_done_each_entry_of_a_table_at_one_clean_commit(name: str) -> None:
    records = _reference(name)
    everything = [*(own.network for own in records), *(found for own in records for found in own.measurements)]
    assert {record.status for record in everything} == {"done"}
    assert {record.provenance.dirty for record in everything} == {False}
    commits: dict[tuple[str, int | None], set[str | None]] = {}
    for own in records:
        entry = commits.setdefault((own.network.axes["method"], own.network.axes.get("embedding_dim")), set())
        entry.update(found.provenance.commit for found in own.measurements)
    assert {len(entry) for entry in commits.values()} == {1}
    assert {metric.protocol["split"] for _, metric in _metrics(records)} == {"test"}


def _chosen(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The suite's settings by method, and what the committed records of its tuning choose."""
    file = read_suite(suite_path(name))
    assert file.tune is not None
    return file.methods, choose(scores(_candidates(name), file.tune, REFERENCE / f"{name}-tune"))


@pytest.mark.parametrize("name", ["cifar10_small", "digits"])
def test_the_hyperparameters_are_what_tuning_chose(name: str) -> None:
    methods, chosen = _chosen(name)
    assert methods == chosen


@pytest.mark.parametrize(("name", "count"), [("regime_digits", 12), ("regime_mnist", 8)])
def test_the_kernel_regimes_hyperparameters_are_what_tuning_chose(name: str, count: int) -> None:
    methods, chosen = _chosen(name)
    assert len(chosen) == count
    assert merge(methods, chosen) == methods


@pytest.mark.parametrize("name", ["cifar10_small", "digits", "regime_digits", "regime_mnist"])
def test_tuning_looked_at_the_tune_split_only(name: str) -> None:
    records = _records(_candidates(name), REFERENCE / f"{name}-tune")
    assert {metric.protocol["split"] for _, metric in _metrics(records)} == {"tune"}


def test_few_labels_beat_the_raw_pixels_and_the_untrained_network_but_for_vicreg_at_the_largest_dimension() -> None:
    accuracy: dict[tuple[str, int | None, int | str], list[float]] = {}
    for record, metric in _metrics(_reference("digits")):
        if metric.metric == "fewshot_top1" and metric.protocol["features"] != "embedding":
            network = record.network.network
            key = network["method"], network.get("embedding_dim"), metric.protocol["labels_per_class"]
            accuracy.setdefault(key, []).append(metric.value)
    assert sum(value < 0.6 for value in accuracy["vicreg", 1024, 1]) == 3
    for (method, dim, labels), values in accuracy.items():
        if method not in ("raw_pixels", "untrained") and (method, dim) != ("vicreg", 1024) and labels in (1, 5):
            for baseline in ("raw_pixels", "untrained"):
                assert min(values) > max(accuracy[baseline, None, labels]), (method, dim, labels)


def _by_svm(name: str, labels: int) -> list[tuple[dict[str, Any], float]]:
    """Each network of a suite with its few-label accuracy by the support vector machine."""
    wanted = f"fewshot_top1[labels_per_class={labels},draws=10,probe=svm C=10]"
    return [
        (record.network.network, metric.value)
        for record, metric in _metrics(_reference(name))
        if matches(metric, wanted)
    ]


# Sixteen views on digits; on MNIST 2,000 images, the augmentations mixed.
_SHOWN: dict[str, dict[str, Any]] = {
    "regime_digits": {"regime.n_views": 16},
    "regime_mnist": {"data.limit": 2000, "regime.augmentation": "mixed"},
}


@pytest.mark.parametrize(("name", "kernel"), [*((name, "rbf") for name in _SHOWN), ("regime_digits", "ntk")])
@pytest.mark.parametrize("labels", [1, 5])
def test_the_induced_kernel_beats_its_base_kernel_by_intervals_that_do_not_touch(
    name: str, kernel: str, labels: int
) -> None:
    values: dict[str, list[float]] = {}
    for run, value in _by_svm(name, labels):
        seen = {path: setting for path, setting in _SHOWN[name].items() if not _is_of_views(path, run)}
        of_kernel = run["kind"] == "kernel" and run["regime"]["kernel"]["name"] == kernel
        if of_kernel and all(lookup(run, path) == setting for path, setting in seen.items()):
            values.setdefault(run["method"], []).append(value)
    seeds = read_suite(suite_path(name)).grid["seed"]
    assert len(values["base_kernel"]) == len(values["kernel_spectral"]) == len(seeds)
    ends = {method: (mean(own) - _half_width(own), mean(own) + _half_width(own)) for method, own in values.items()}
    for other in {"base_kernel", "kernel_pca"} & ends.keys():
        assert ends["kernel_spectral"][0] > ends[other][1]


@pytest.mark.parametrize("labels", [1, 5])
@pytest.mark.parametrize("method", ["kernel_spectral", "kernel_vicreg", "kernel_barlow_twins"])
def test_under_each_loss_the_infinite_network_is_behind_the_rbf_kernel_with_every_seed(
    method: str, labels: int
) -> None:
    values: dict[str, dict[int, float]] = {"rbf": {}, "ntk": {}}
    for run, value in _by_svm("regime_digits", labels):
        if run["method"] == method and run["regime"]["n_views"] == 16:
            values[run["regime"]["kernel"]["name"]][run["seed"]] = value
    assert len(values["rbf"]) == len(values["ntk"]) == 5
    assert all(values["ntk"][seed] < value for seed, value in values["rbf"].items())


def _is_of_views(path: str, run: dict[str, Any]) -> bool:
    """Whether a setting is of views, and the run has none."""
    return run["method"] == "base_kernel" and path.startswith("regime.")


def _half_width(values: list[float]) -> float:
    return float(half_width(np.array([stdev(values)]), np.array([len(values)]))[0])


@pytest.mark.parametrize(("labels", "margin"), [(1, 0.05), (5, 0.01)])
def test_without_ridge_and_rank_limit_the_induced_kernel_falls_below_the_base_kernel(
    labels: int, margin: float
) -> None:
    cells: dict[tuple[float, int], list[float]] = {}
    base = []
    for run, value in _by_svm("regime_ridge_rank", labels):
        if run["method"] == "base_kernel":
            base.append(value)
        else:
            cells.setdefault((run["regime"]["ridge"], run["embedding_dim"]), []).append(value)
    ranks = {rank for _, rank in cells}
    assert max(cells[0.0, max(ranks)]) < min(base) - margin
    best = max(cells, key=lambda cell: mean(cells[cell]))
    assert best[0] > 0
    assert min(cells[best]) > max(base)


@pytest.mark.parametrize("labels", [1, 5])
def test_stopped_in_time_barlow_twins_needs_no_ridge(labels: int) -> None:
    cells: dict[tuple[float, float | None], list[float]] = {}
    base = []
    for run, value in _by_svm("regime_ridge_time", labels):
        if run["method"] == "base_kernel":
            base.append(value)
        else:
            cells.setdefault((run["regime"]["ridge"], run["regime"].get("time")), []).append(value)
    assert min(cells[0.0, 10.0]) > max(base) > max(cells[0.0, None])
    assert min(cells[0.1, None]) > max(base)
    assert abs(mean(cells[0.1, 100.0]) - mean(cells[0.1, None])) < 0.005


def test_the_distance_from_the_kernel_regime_falls_about_as_the_root_of_the_width() -> None:
    from results.collect import collect
    from results.regime_width import exponents
    from results.summary import summarise

    found = exponents(summarise(collect([REFERENCE / "regime_width"])), "digits")
    assert len(found) == 3 * 2 * 2
    assert all(-0.8 < exponent < -0.35 for exponent in found.values()), found


def test_the_right_neighbourhood_untangles_the_spirals() -> None:
    spectral = {
        run["regime"]["n_neighbors"]: value
        for run, value in _by_svm("regime_spirals", 1)
        if run["method"] == "kernel_spectral"
    }
    assert spectral[5] > 0.9 > 0.7 > max(spectral[2], spectral[40])


def _recovered(source: str, **settings: Any) -> dict[str, list[float]]:
    """By method, what each seed recovered on fresh views, of the RBF kernel's networks with these settings."""
    found: dict[str, list[float]] = {}
    for record, metric in _metrics(_reference("regime_chain")):
        run = record.network.network
        wanted = {"data.source": source, "regime.kernel.name": "rbf", **settings}
        if matches(metric, "recovery[views=fresh]") and all(lookup(run, key) == value for key, value in wanted.items()):
            found.setdefault(run["method"], []).append(metric.value)
    return found


@pytest.mark.parametrize("source", ["torus", "mnist_plane"])
def test_with_more_images_the_spectral_loss_recovers_more_than_the_base_kernel_has(source: str) -> None:
    for noise in (0.2, 0.4, 0.6):
        few, more = (_recovered(source, **{"regime.noise": noise, "data.limit": limit}) for limit in (50, 800))
        for method in ("kernel_spectral", "kernel_vicreg"):
            assert min(more[method]) > max(few[method]), (method, noise)
            assert min(more[method]) > max(more["kernel_pca"]), (method, noise)


def test_on_the_torus_barlow_twins_finds_what_kernel_pca_finds() -> None:
    """Four of the six functions, the first harmonics of both circles, however many images there are."""
    for limit in (200, 800):
        found = _recovered("torus", **{"regime.noise": 0.4, "data.limit": limit})
        for method in ("kernel_pca", "kernel_barlow_twins"):
            assert np.abs(np.array(found[method]) - 4 / 6).max() < 0.03


def test_what_views_agree_on_in_fewer_dimensions_has_the_higher_accuracy() -> None:
    """A finding: over these augmentations the complexity falls as accuracy grows, by an interval that leaves 0 out."""
    from results.collect import collect
    from results.expectations import correlations, table
    from results.formats import join
    from results.summary import summarise

    folder = REFERENCE / "regime_augmentations"
    summary = summarise(collect([folder]))
    found = {(own["title"], own["measure"], own["shots"]): own for own in correlations(summary, "mnist")}
    for title in ("Kernel spectral contrastive", "Kernel VICReg"):
        assert found[title, "augmentation_complexity", 1]["high"] < 0
        assert found[title, "augmentation_complexity", 1]["n"] == 7
    assert join(table(summary), "md") == (folder / "tables" / "expectations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["cifar10_small", "digits", *KERNEL_SUITES])
def test_the_committed_tables_are_made_from_the_committed_records(name: str) -> None:
    from results.collect import collect
    from results.formats import join
    from results.summary import summarise
    from results.tables import accuracy

    made = join(accuracy(summarise(collect([REFERENCE / name]))), "md")
    assert made == (REFERENCE / name / "tables" / "accuracy.md").read_text(encoding="utf-8")
