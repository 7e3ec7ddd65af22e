"""The few-label probes that see inner products only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.probes.base import Found
from benchmark.probes.classifiers import RIDGE_ALPHA, SVM_C, FewShot, FewShotRidge, FewShotSVM, Problem
from benchmark.probes.subject import Features
from tests.benchmark.probes.subjects import of_features

CLASSES, DIM = 3, 6


def blobs(per_class: int, seed: int) -> Features:
    """``per_class`` points around each of three corners, far from the origin."""
    random = np.random.RandomState(seed)
    labels = np.repeat(np.arange(CLASSES), per_class)
    x = 5 + 1.2 * np.eye(DIM)[labels] + 0.7 * random.randn(len(labels), DIM)
    return Features(torch.from_numpy(x), torch.from_numpy(labels))


@pytest.fixture
def problem() -> Problem:
    return Problem.of(blobs(20, 0), blobs(60, 1))


def test_the_machine_is_scikit_learns_on_unit_norms(problem: Problem) -> None:
    from sklearn.svm import SVC

    rows = np.arange(0, 60, 4)
    scale = np.sqrt(DIM)
    machine = SVC(C=SVM_C, kernel="linear").fit(problem.bank[rows] / scale, problem.bank_labels[rows])
    expected = machine.score(problem.queries / scale, problem.queries_labels)
    assert FewShotSVM().accuracy(problem, rows) == pytest.approx(expected)
    assert 0.5 < expected < 1


def test_ridge_is_scikit_learns(problem: Problem) -> None:
    from sklearn.kernel_ridge import KernelRidge

    rows = np.arange(1, 60, 4)
    Y = np.eye(CLASSES)[problem.bank_labels[rows]]
    scale = np.sqrt(DIM)
    model = KernelRidge(alpha=RIDGE_ALPHA, kernel="linear").fit(problem.bank[rows] / scale, Y - Y.mean(axis=0))
    predicted = (model.predict(problem.queries / scale) + Y.mean(axis=0)).argmax(axis=1)
    assert FewShotRidge().accuracy(problem, rows) == pytest.approx((predicted == problem.queries_labels).mean())


@pytest.mark.parametrize("accuracy", [FewShotSVM().accuracy, FewShotRidge().accuracy])
def test_neither_sees_where_features_lie_nor_their_scale(problem: Problem, accuracy) -> None:
    moved = [Features(7 * features.x - 3, features.labels) for features in (blobs(20, 0), blobs(60, 1))]
    rows = np.arange(0, 60, 5)
    assert accuracy(Problem.of(*moved), rows) == accuracy(problem, rows)


def test_a_drawn_image_brings_all_of_its_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, seen = blobs(20, 0), []
    twice = Features(bank.x.repeat_interleave(2, dim=0), bank.labels.repeat_interleave(2))
    monkeypatch.setattr(FewShotRidge, "accuracy", lambda self, problem, rows: seen.append(rows) or 0.5)
    subject = of_features(twice, blobs(60, 1), tmp_path, views=2)
    FewShotRidge(draws=3, labels_per_class=(1, 2)).measure(subject)
    assert [len(rows) for rows in seen] == [6] * 3 + [12] * 3
    for rows in seen:
        np.testing.assert_array_equal(rows[1::2], rows[::2] + 1)
        assert (rows[::2] % 2 == 0).all()


def test_every_probe_draws_the_same_labels_and_names_itself(tmp_path: Path) -> None:
    subject = of_features(blobs(20, 0), blobs(60, 1), tmp_path)
    kinds = (FewShot, FewShotSVM, FewShotRidge)
    found: list[Found] = [kind(draws=3, labels_per_class=(1, 2)).measure(subject) for kind in kinds]
    metrics = [metric for each in found for metric in each.metrics]
    assert [metric.protocol["labels_per_class"] for metric in metrics] == [1, 2] * 3
    assert [metric.protocol["probe"] for metric in metrics[::2]] == [
        "logistic C=1",
        "svm C=10",
        "kernel ridge alpha=0.3",
    ]
    # One label a class: three points, of which every one of these classifiers makes nearly the same of.
    assert max(metric.value for metric in metrics[::2]) - min(metric.value for metric in metrics[::2]) < 0.1
