"""Transfer: the solver against scikit-learn's, the ridge that validation chooses, the figure of each data set."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from benchmark.probes import multinomial, transfer
from benchmark.probes.classifiers import few_label_draws
from benchmark.probes.multinomial import Fitted, Regression, Scaling
from benchmark.probes.subject import Features, Subject
from benchmark.probes.transfer import Transfer, accuracy
from benchmark.runtime.errors import UserError
from benchmark.runtime.memory import PeakMemory
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Interrupted, Requests
from tests.benchmark import ranks
from tests.benchmark.probes.subjects import ALONE, CLASSES, of_features, striped

RIDGES = (1e3, 1.0, 1e-2)


def clouds(size: int, seed: int, dim: int = 12, spread: float = 1.0) -> Features:
    """Gaussian clouds whose coordinates are of very different lengths, away from the origin."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % CLASSES
    x_NF = 2 * torch.eye(CLASSES, dim)[labels] + spread * torch.randn(size, dim, generator=draws)
    return Features(x_NF * torch.logspace(1, -2, dim) + 3, labels)


def path(rows: Features, process: Process = ALONE) -> tuple[Regression, list[Fitted]]:
    """Fits over ``RIDGES``, each begun at the one before."""
    regression = Regression([rows], Scaling.of(rows.x), process, lambda: None)
    found = [Fitted.nothing(CLASSES, rows.x.shape[1], len(rows), rows.x.device)]
    for ridge in RIDGES:
        found.append(regression.fit(ridge, found[-1]))
    return regression, found[1:]


@pytest.mark.parametrize(("size", "dim"), [(90, 12), (9, 40)])
@pytest.mark.parametrize(("tolerance", "error"), [(1e-12, 1e-6), (multinomial._TOLERANCE, 1e-3)])
def test_it_is_scikit_learns_solution_at_every_ridge(
    size: int, dim: int, tolerance: float, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To any tolerance; and by the one that it has, to a part of the objective that changes no figure."""
    monkeypatch.setattr(multinomial, "_TOLERANCE", tolerance)
    rows, others = clouds(size, 0, dim), clouds(200, 1, dim)
    scaling = Scaling.of(rows.x)
    assert float(scaling(rows.x).square().mean()) == pytest.approx(1)
    regression, found = path(rows)
    for ridge, fitted in zip(RIDGES, found, strict=True):
        theirs = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=10_000).fit(scaling(rows.x).numpy(), rows.labels)
        solution = Fitted(torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_), fitted.curvature)
        assert regression.objective(ridge, fitted) == pytest.approx(regression.objective(ridge, solution), rel=error)
        same = torch.from_numpy(theirs.predict(scaling(others.x).numpy())) == fitted.predict(others.x, scaling)
        assert same.double().mean() > 0.99


def test_where_a_fit_begins_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multinomial, "_TOLERANCE", 1e-12)
    regression, found = path(clouds(90, 0))
    begin = Fitted.nothing(CLASSES, 12, 90, torch.device("cpu"))
    for ridge, fitted in zip(RIDGES, found, strict=True):
        cold = regression.fit(ridge, begin)
        assert regression.objective(ridge, cold) == pytest.approx(regression.objective(ridge, fitted), rel=1e-5)


def test_large_problems_in_half_the_memory_end_at_the_same_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    regression, found = path(clouds(90, 0))
    monkeypatch.setattr(multinomial, "_DOUBLE", 0)
    low, low_found = path(clouds(90, 0))
    assert (low.basis_FR.dtype, regression.basis_FR.dtype) == (torch.float32, torch.float64)
    for ridge, fitted, other in zip(RIDGES, found, low_found, strict=True):
        assert regression.objective(ridge, other) == pytest.approx(regression.objective(ridge, fitted), rel=1e-4)


def test_it_holds_no_copy_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multinomial, "_ROWS", 256)
    rows = clouds(20_000, 0, 64)
    with PeakMemory(rows.x, rows.labels) as memory:
        path(rows)
    assert memory.peak_bytes < rows.x.nbytes / 2


def test_constant_features_say_nothing() -> None:
    rows = Features(torch.ones(12, 4), torch.arange(12) % CLASSES)
    _, found = path(rows)
    assert len(set(found[-1].predict(rows.x, Scaling.of(rows.x)).tolist())) == 1


def several(this: Process, out: Path) -> None:
    """More rows than are worked on at once."""
    _, found = path(clouds(61, 0), this)
    torch.save([fitted.weight for fitted in found], out / f"{this.rank}.pt")


@pytest.mark.parametrize("world", [2, 3])
def test_processes_that_share_the_rows_find_what_one_does(world: int, tmp_path: Path) -> None:
    assert ranks.together(world, partial(several, out=tmp_path)) == [0] * world
    own = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    for fitted, *others in zip(path(clouds(61, 0))[1], *own, strict=True):
        assert all(torch.equal(weight_CF, others[0]) for weight_CF in others)
        torch.testing.assert_close(others[0], fitted.weight, rtol=1e-3, atol=1e-4)


# ---- the probe


def subject_of(folder: Path, bank: Features, tune: Features, queries: Features, **changed: Any) -> Subject:
    subject = of_features(bank, queries, folder, **changed)
    object.__setattr__(subject.data, "tune", striped().tune)
    subject._made["tune", "bicubic"] = tune
    return subject


def measured(folder: Path, probe: Transfer, *features: Features) -> tuple[dict[Any, float], dict[str, Any]]:
    found = probe.measure(subject_of(folder, *features))
    return {metric.protocol["shots"]: metric.value for metric in found.metrics}, found.details


def test_it_hears_a_request_while_it_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(tmp_path, clouds(45, 0), clouds(60, 1), clouds(60, 2), requests=Requests())

    def drawn(*given: object) -> None:
        subject.requests.ask(suite=True)
        pytest.fail("it went on")

    monkeypatch.setattr(transfer, "few_label_draws", drawn)
    with pytest.raises(Interrupted):
        Transfer().measure(subject)


def test_the_ridge_is_the_one_that_does_best_on_the_tune_split_and_all_images_are_fitted_to_with_it(
    tmp_path: Path,
) -> None:
    bank, tune, queries = (clouds(size, seed, spread=3.0) for size, seed in ((45, 0), (60, 1), (300, 2)))
    values, details = measured(tmp_path, Transfer(transfer_ridges=9, draws=2), bank, tune, queries)
    scaling, scores = Scaling.of(bank.x), {}
    for ridge in np.geomspace(1e5, 1e-6, 9):
        model = LogisticRegression(C=1 / ridge, tol=1e-8, max_iter=10_000)
        scores[ridge] = model.fit(scaling(bank.x).numpy(), bank.labels).score(scaling(tune.x).numpy(), tune.labels)
    (name,) = [name for name in details["ridges"] if "shots=all" in name]
    (chosen,) = details["ridges"][name]
    assert scores[chosen] == max(scores.values()) > min(scores.values())
    both_NF, labels = torch.cat([scaling(bank.x), scaling(tune.x)]).numpy(), torch.cat([bank.labels, tune.labels])
    model = LogisticRegression(C=1 / chosen, tol=1e-8, max_iter=10_000).fit(both_NF, labels)
    assert values["all"] == pytest.approx(model.score(scaling(queries.x).numpy(), queries.labels), abs=0.01)


def test_of_equally_good_ridges_the_strongest_is_taken(tmp_path: Path) -> None:
    bank, tune = clouds(60, 0, spread=0.01), clouds(30, 1, spread=0.01)
    values, details = measured(tmp_path, Transfer(transfer_ridges=5, draws=2), bank, tune, tune)
    assert values == {1: 1, 10: 1, "all": 1}
    assert {ridge for chosen in details["ridges"].values() for ridge in chosen} == {1e5}


def test_few_labels_are_the_draws_of_the_few_label_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, seen = clouds(45, 0), []

    def noted(parts: Any, *given: Any) -> Regression:
        seen.append([len(part) for part in parts])
        drawn.append(parts[0].x)
        return Regression(parts, *given)

    drawn: list[torch.Tensor] = []
    monkeypatch.setattr("benchmark.probes.transfer.Regression", noted)
    probe = Transfer(transfer_shots=(2,), transfer_ridges=3, draws=3)
    found = probe.measure(subject_of(tmp_path, bank, clouds(9, 1), clouds(9, 2)))
    assert seen == [[6]] * 3 + [[45], [45, 9]]
    for x_NF, rows in zip(drawn, few_label_draws(bank.labels.numpy(), 2, 3), strict=False):
        assert torch.equal(x_NF, bank.x[torch.from_numpy(rows)])
    few, every = found.metrics
    assert found.details["draws"][few.name] == pytest.approx([few.value] * 3, abs=1)
    assert few.value == pytest.approx(np.mean(found.details["draws"][few.name]))
    common = {"probe": "logistic, ridge of 3 by tune", "features": "given", "split": "test"}
    assert few.protocol == {"shots": 2, "draws": 3, **common}
    assert every.protocol == {"shots": "all", **common}
    assert (few.metric, every.sd) == ("transfer_top1", None)


def test_the_mean_over_classes_counts_a_class_of_few_as_one_of_many(tmp_path: Path) -> None:
    labels = torch.tensor([0, 0, 0, 0, 2, 3])
    predicted = torch.tensor([0, 0, 0, 2, 2, 1])
    assert accuracy(predicted, labels, per_class=False) == 4 / 6
    assert accuracy(predicted, labels, per_class=True) == pytest.approx((3 / 4 + 1 + 0) / 3)
    subject = subject_of(tmp_path, clouds(30, 0), clouds(9, 1), clouds(31, 2))
    object.__setattr__(subject.data, "per_class", True)
    found = Transfer(transfer_ridges=2, draws=2).measure(subject)
    assert {metric.metric for metric in found.metrics} == {"transfer_mean_per_class"}


def test_without_images_to_choose_by_it_is_refused_before_anything_is_trained() -> None:
    data = striped()
    Transfer().check(data, "test")
    with pytest.raises(UserError, match=r"evaluation.split: is tune, which transfer chooses its ridge by"):
        Transfer().check(data, "tune")
    object.__setattr__(data, "tune", data.tune.subset(np.arange(0)))
    with pytest.raises(UserError, match=r"data.tune_fraction: must leave transfer images of stripes to choose"):
        Transfer().check(data, "test")
