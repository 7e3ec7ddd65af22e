"""The few-label probes that see inner products only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.probes import gram
from benchmark.probes.features import Features
from benchmark.probes.frozen import FrozenProbes
from benchmark.probes.logistic import Problem
from benchmark.suite.run import EvaluationSpec

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
    machine = SVC(C=gram.SVM_C, kernel="linear").fit(problem.bank[rows] / scale, problem.bank_labels[rows])
    expected = machine.score(problem.queries / scale, problem.queries_labels)
    assert gram.svm_accuracy(problem, rows) == pytest.approx(expected)
    assert 0.5 < expected < 1


def test_ridge_is_scikit_learns(problem: Problem) -> None:
    from sklearn.kernel_ridge import KernelRidge

    rows = np.arange(1, 60, 4)
    Y = np.eye(CLASSES)[problem.bank_labels[rows]]
    scale = np.sqrt(DIM)
    model = KernelRidge(alpha=gram.RIDGE_ALPHA, kernel="linear").fit(problem.bank[rows] / scale, Y - Y.mean(axis=0))
    predicted = (model.predict(problem.queries / scale) + Y.mean(axis=0)).argmax(axis=1)
    assert gram.ridge_accuracy(problem, rows) == pytest.approx((predicted == problem.queries_labels).mean())


@pytest.mark.parametrize("accuracy", [gram.svm_accuracy, gram.ridge_accuracy])
def test_neither_sees_where_features_lie_nor_their_scale(problem: Problem, accuracy) -> None:
    moved = [Features(7 * features.x - 3, features.labels) for features in (blobs(20, 0), blobs(60, 1))]
    rows = np.arange(0, 60, 5)
    assert accuracy(Problem.of(*moved), rows) == accuracy(problem, rows)


def _probes(bank: Features, views: int = 1) -> FrozenProbes:
    spec = EvaluationSpec(draws=3, labels_per_class=(1, 2, 30))
    return FrozenProbes(bank, blobs(60, 1), spec, CLASSES, {"features": "kernel", "split": "test"}, views)


def test_a_drawn_image_brings_all_of_its_views() -> None:
    bank, seen = blobs(20, 0), []
    twice = Features(bank.x.repeat_interleave(2, dim=0), bank.labels.repeat_interleave(2))
    probes = _probes(twice, views=2)
    list(probes._few_labels("any", lambda rows: seen.append(rows) or 0.5))
    assert [len(rows) for rows in seen] == [6] * 3 + [12] * 3
    for rows in seen:
        np.testing.assert_array_equal(rows[1::2], rows[::2] + 1)
        assert (rows[::2] % 2 == 0).all()


def test_every_probe_draws_the_same_labels_and_names_itself() -> None:
    probes = _probes(blobs(20, 0))
    metrics = [*probes.fewshot(), *probes.fewshot_svm(), *probes.fewshot_ridge()]
    assert [metric.protocol["labels_per_class"] for metric in metrics] == [1, 2] * 3
    assert [metric.protocol["probe"] for metric in metrics[::2]] == [
        "logistic C=1",
        "svm C=10",
        "kernel ridge alpha=0.3",
    ]
    # One label a class: three points, of which every one of these classifiers makes nearly the same of.
    assert max(metric.value for metric in metrics[::2]) - min(metric.value for metric in metrics[::2]) < 0.1
