"""Several labels: average precision by hand, the published search of C, what is difficult to see."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from benchmark.data import DataSet, DataSpec, FileImages, load
from benchmark.probes.multilabel import PUBLISHED_C, Multilabel, average_precision, fitted
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from tests.benchmark import layouts, ranks
from tests.benchmark.probes.subjects import Given, make_subject


def envelope(scores: list[float], positive: list[bool]) -> float:
    """The area, recall by recall: the largest precision of any cut that finds at least so many."""
    ranked = [hit for _, hit in sorted(zip(scores, positive, strict=True), key=lambda pair: (-pair[0], pair[1]))]
    cuts = [(sum(ranked[:n]), sum(ranked[:n]) / n) for n in range(1, len(ranked) + 1)]
    found = [max(precision for hits, precision in cuts if hits >= wanted) for wanted in range(1, sum(positive) + 1)]
    return sum(found) / len(found)


def test_the_average_precision_is_the_area_under_the_envelope() -> None:
    assert average_precision(np.array([4.0, 3, 2, 1]), np.array([True, False, True, True])) == (1 + 3 / 4 + 3 / 4) / 3
    random = np.random.RandomState(0)
    for _ in range(20):
        scores, positive = random.randint(6, size=17) / 2, random.rand(17) < 0.4
        positive[3] = True
        assert average_precision(scores, positive) == pytest.approx(envelope(scores.tolist(), positive.tolist()))
        order = random.permutation(17)  # equal scores do not help in any order
        assert average_precision(scores[order], positive[order]) == average_precision(scores, positive)
    for cut in (average_precision, lambda scores, positive: average_precision_score(positive, scores)):
        assert cut(np.arange(9.0), np.arange(9) > 5) == 1


def shown(size: int, seed: int, classes: int = 3) -> tuple[Features, np.ndarray]:
    """Features with a direction for every class, and which of them each image shows; a tenth are difficult."""
    random = np.random.RandomState(seed)
    present_NC = np.where(random.rand(size, classes) < 0.4, 1, -1).astype(np.int8)
    directions = np.random.RandomState(5).randn(classes, 8)
    x_NF = (present_NC == 1) @ directions + 0.8 * random.randn(size, 8)
    present_NC[random.rand(size, classes) < 0.1] = 0
    return Features(torch.from_numpy(x_NF).float(), torch.full((size,), -1)), present_NC


def subject_of(folder: Path, **changed: Any) -> tuple[Subject, dict[str, np.ndarray]]:
    bank, learnt = shown(120, 0)
    queries, measured = shown(90, 1)

    def images(present_NC: np.ndarray) -> FileImages:
        return FileImages(np.zeros(len(present_NC), "S1"), np.full(len(present_NC), -1), present_NC)

    train, test = images(learnt), images(measured)
    data = DataSet("voc07", train, train, train, test, 3, 3, 8, (0.0,) * 3, (1.0,) * 3, ("cat", "dog", "sheep"))
    subject = make_subject(Given(), data, folder, **changed)
    subject._made["labelled", "bicubic"], subject._made["test", "bicubic"] = bank, queries
    return subject, {"x": bank.x.numpy(), "learnt": learnt, "queries": queries.x.numpy(), "measured": measured}


def test_each_class_has_the_c_of_scikit_learns_cross_validation(tmp_path: Path) -> None:
    subject, given = subject_of(tmp_path)
    found = Multilabel().measure(subject)
    (metric,) = found.metrics
    rows = [given[name] / (np.linalg.norm(given[name], axis=1, keepdims=True) + 1e-5) for name in ("x", "queries")]
    for label, name in enumerate(("cat", "dog", "sheep")):
        target = np.where(given["learnt"][:, label] == 1, 1, -1)  # what is difficult is absent
        machines = [LinearSVC(C=c, class_weight={1: 2, -1: 1}, dual=True, max_iter=2000) for c in PUBLISHED_C]
        means = [
            cross_val_score(
                machine.set_params(random_state=0), rows[0], target, cv=3, scoring="average_precision"
            ).mean()
            for machine in machines
        ]
        assert found.details["C"][name] == PUBLISHED_C[int(np.argmax(means))]
        scores = machines[int(np.argmax(means))].fit(rows[0], target).decision_function(rows[1])
        counted = given["measured"][:, label] != 0  # and here not counted
        expected = envelope(scores[counted].tolist(), (given["measured"][counted, label] == 1).tolist())
        assert found.details["average_precision"][name] == pytest.approx(expected, abs=1e-6)
    assert metric.value == pytest.approx(np.mean([*found.details["average_precision"].values()]))
    assert metric.metric == "multilabel_map"
    assert metric.protocol == {"probe": "linear svm, C of 23 by 3 folds", "features": "given", "split": "test"}


def test_the_costs_and_the_machine_are_the_published_ones() -> None:
    assert PUBLISHED_C[:7] == (0.05, 0.1, 0.3, 0.5, 1.0, 3.0, 5.0)
    assert PUBLISHED_C[7:] == tuple(0.5**power for power in range(4, 20))
    machine = fitted(np.array([[0.0], [1.0]]), np.array([False, True]), 0.3)
    kept = ("penalty", "loss", "dual", "tol", "max_iter", "intercept_scaling", "class_weight")
    assert [machine.get_params()[name] for name in kept] == [
        *("l2", "squared_hinge", True, 1e-4, 2000, 1.0),
        {True: 2, False: 1},
    ]


def several(this: Process, out: Path) -> None:
    """Three classes, of which the last round has too few for all."""
    found = Multilabel(multilabel_c=(0.1, 1.0)).measure(subject_of(out, process=this)[0])
    if this.is_main:
        torch.save([found.metrics[0].value, found.details], out / "found.pt")


def test_processes_that_share_the_classes_find_what_one_does(tmp_path: Path) -> None:
    assert ranks.together(2, partial(several, out=tmp_path)) == [0, 0]
    alone = Multilabel(multilabel_c=(0.1, 1.0)).measure(subject_of(tmp_path / "alone")[0])
    assert torch.load(tmp_path / "found.pt") == [alone.metrics[0].value, alone.details]


def test_classes_of_too_few_images_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    layouts.write_voc07(tmp_path, images=24)
    data = load(DataSpec(source="voc07"), tmp_path)
    Multilabel().check(data, "test")
    with pytest.raises(UserError, match=r"multilabel_folds: is 30, must be at most the images .* 6 of class class0"):
        Multilabel(multilabel_folds=30).check(data, "test")
    nobody = replace(data, test=data.test.subset(np.array([0, 4])))
    with pytest.raises(UserError, match=r"evaluation.split test: no image of voc07 shows class class1"):
        Multilabel().check(nobody, "test")
