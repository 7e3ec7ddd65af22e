"""Logistic regression: scaling, convergence, and the draws of few labels."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from benchmark.probes.classifiers import FewShot, Logistic, Problem, few_label_draws
from benchmark.probes.subject import Features
from benchmark.runtime.errors import UserError
from tests.benchmark.probes.subjects import of_features

CLASSES = 3


def blobs(size: int, seed: int, spread: float = 1.0) -> Features:
    """Three Gaussian classes in four dimensions, in random order."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (size,), generator=draws)
    centres_CD = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])
    return Features(centres_CD[labels] + spread * torch.randn(size, 4, generator=draws), labels)


def exact_accuracy(problem: Problem, c: float) -> float:
    """The same model by its definition: Σ cross-entropy + ‖W‖² / 2C, the intercept free, minimised by scipy."""
    x_MD, one_hot_MC = problem.bank, np.eye(CLASSES)[problem.bank_labels]

    def split(flat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return flat[CLASSES:].reshape(-1, CLASSES), flat[:CLASSES]

    def objective(flat: NDArray[np.float64]) -> float:
        weights_DC, bias_C = split(flat)
        scores_MC = log_softmax(x_MD @ weights_DC + bias_C, axis=1)
        return float(-(one_hot_MC * scores_MC).sum() + np.square(weights_DC).sum() / (2 * c))

    best = minimize(objective, np.zeros(CLASSES * (1 + x_MD.shape[1])), tol=1e-10)
    weights_DC, bias_C = split(best.x)
    predicted = (problem.queries @ weights_DC + bias_C).argmax(axis=1)
    return float((predicted == problem.queries_labels).mean())


def test_accuracy_is_that_of_the_exact_minimum() -> None:
    problem = Problem.of(blobs(60, 0, spread=1.5), blobs(200, 1, spread=1.5))
    for c in (0.01, 1.0, 100.0):
        assert problem.accuracy(c) == exact_accuracy(problem, c)


def test_separable_features_converge_without_a_warning() -> None:
    problem = Problem.of(blobs(60, 0, spread=0.1), blobs(60, 1, spread=0.1))
    assert problem.accuracy(1e4) == 1.0  # a warning would be an error


def test_scaling_is_by_the_bank_and_of_unit_mean_square() -> None:
    bank, queries = blobs(80, 0), blobs(20, 1)
    problem = Problem.of(Features(5 * bank.x + 3, bank.labels), Features(5 * queries.x + 3, queries.labels))
    np.testing.assert_allclose(problem.bank.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.square(problem.bank).mean(), 1)
    plain = Problem.of(bank, queries)
    np.testing.assert_allclose(problem.queries, plain.queries, atol=1e-5)
    ratio = plain.bank.std(axis=0) / bank.x.numpy().std(axis=0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)  # one scale for all features


def test_constant_features_are_no_better_than_chance() -> None:
    bank = Features(torch.ones(9, 2), torch.arange(9) % CLASSES)
    assert Problem.of(bank, bank).accuracy(1.0) == 1 / CLASSES


def test_draws_are_balanced_and_within_their_class() -> None:
    labels = blobs(60, 0).labels.numpy()
    for rows in few_label_draws(labels, per_class=4, draws=5):
        assert len(set(rows.tolist())) == 4 * CLASSES
        assert np.bincount(labels[rows]).tolist() == [4] * CLASSES


def test_draws_are_the_same_whatever_was_drawn_before_and_differ_from_each_other() -> None:
    labels = blobs(60, 0).labels.numpy()
    first = [rows.tolist() for rows in few_label_draws(labels, 4, 5)]
    torch.rand(17)
    assert [rows.tolist() for rows in few_label_draws(labels, 4, 5)] == first
    assert [rows.tolist() for rows in few_label_draws(labels, 4, 2)] == first[:2]
    assert len({tuple(sorted(rows)) for rows in first}) == 5


def test_a_draw_of_fewer_labels_is_part_of_the_larger_one() -> None:
    labels = blobs(60, 0).labels.numpy()
    for few, many in zip(few_label_draws(labels, 1, 3), few_label_draws(labels, 5, 3), strict=True):
        assert set(few.tolist()) < set(many.tolist())


def test_few_labels_are_mean_and_deviation_over_draws(tmp_path: Path) -> None:
    subject = of_features(blobs(60, 0), blobs(40, 1), tmp_path)
    problem = Problem.of(subject.bank(), subject.queries())
    values = [problem.accuracy(1.0, rows) for rows in few_label_draws(problem.bank_labels, 2, 4)]
    measured = FewShot(labels_per_class=(2,), draws=4).measure(subject)
    (found,) = measured.metrics
    assert (found.value, found.sd) == (statistics.mean(values), statistics.stdev(values))
    assert measured.details == {"draws": {found.name: values}}
    (one,) = FewShot(labels_per_class=(2,), draws=1).measure(subject).metrics
    assert (one.value, one.sd) == (values[0], 0.0)


def test_more_labels_than_a_class_has_are_left_out_and_nothing_left_is_refused(tmp_path: Path) -> None:
    bank = blobs(60, 0)
    smallest = int(torch.bincount(bank.labels).min())
    subject = of_features(bank, bank, tmp_path)
    with pytest.warns(UserWarning, match=rf"labels_per_class: \[{smallest + 1}\] left out above {smallest}"):
        found = FewShot(labels_per_class=(smallest + 1, smallest), draws=1).measure(subject)
    assert [metric.protocol["labels_per_class"] for metric in found.metrics] == [smallest]
    with pytest.raises(UserError, match=rf"labels_per_class: is \[{smallest + 1}\], must be at most {smallest}"):
        FewShot(labels_per_class=(smallest + 1,), draws=1).measure(subject)


def test_the_features_of_other_probes_are_left_as_they_are(tmp_path: Path) -> None:
    bank, queries = (Features(some.x.double(), some.labels) for some in (blobs(30, 0), blobs(30, 1)))
    before = bank.x.clone(), queries.x.clone()
    (metric,) = Logistic().measure(of_features(bank, queries, tmp_path)).metrics
    assert metric.value == Problem.of(bank, queries).accuracy(1.0)
    assert torch.equal(bank.x, before[0])
    assert torch.equal(queries.x, before[1])
