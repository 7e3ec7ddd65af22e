"""Few labels of each class, over several draws of them: logistic regression, and classifiers of the kernel literature.

A support vector machine and kernel ridge regression see features through their inner products only. Kernels are of
features centred over the bank and scaled by one number that makes k(x, x) equal 1 on average over the bank, so that
their constants mean the same for every kernel and every network.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from benchmark.probes.base import Found, Probe, register
from benchmark.probes.logistic import Problem
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import one_thread
from benchmark.runtime.seeds import generator
from results.record import Metric

Rows = NDArray[np.int64]

# Few labels are separable in any feature space: close to a hard margin.
SVM_C = 10.0
# The same for every method; between 0.1 and 1 few-label accuracy on digits' tune split moves by about a point.
RIDGE_ALPHA = 0.3


class _FewLabels(Probe):
    """Top-1 accuracy of one classifier, mean and deviation over draws, by the number of labels of each class."""

    needs: ClassVar[frozenset[str]] = frozenset({"rows"})

    labels_per_class: tuple[int, ...] = Field((1, 5, 10), min_length=1)
    draws: int = Field(10, ge=1)

    def classifier(self) -> tuple[str, Callable[[Problem, Rows], float]]:
        """What the protocol calls it, and its accuracy on the queries, trained on some rows of the bank."""
        raise NotImplementedError

    def seen(self, subject: Subject, features: Features) -> tuple[Features, str]:
        """What it sees of the frozen network's features, and what the protocol calls that."""
        return features, subject.network.name

    def measure(self, subject: Subject) -> Found:
        """On the main process. More labels than some class has are left out: they cannot be measured."""
        bank, queries = subject.bank(), subject.queries()
        if not subject.process.is_main:
            return Found()
        with subject.frozen(), subject.requests.at_once():
            (bank, _), (queries, name) = self.seen(subject, bank), self.seen(subject, queries)
            return Found(list(self._metrics(subject, Problem.of(bank, queries), name)))

    def _metrics(self, subject: Subject, problem: Problem, features: str) -> Iterator[Metric]:
        probe, accuracy = self.classifier()
        views = subject.network.views
        labels_M = problem.bank_labels[::views]
        smallest = int(np.unique(labels_M, return_counts=True)[1].min())
        shots = [labels for labels in sorted(set(self.labels_per_class)) if 1 <= labels <= smallest]
        if not shots:
            asked = list(self.labels_per_class)
            raise UserError(f"evaluation.labels_per_class: is {asked}, the smallest class has {smallest} images")
        for labels in shots:
            values = [
                accuracy(problem, (images[:, None] * views + np.arange(views)).ravel())
                for images in few_label_draws(labels_M, labels, self.draws)
            ]
            protocol = {"labels_per_class": labels, "draws": self.draws, "probe": probe, **subject.place(features)}
            sd = statistics.stdev(values) if self.draws > 1 else 0.0
            yield Metric(metric="fewshot_top1", protocol=protocol, value=statistics.mean(values), sd=sd)


@register
class FewShot(_FewLabels):
    """Logistic regression."""

    name: ClassVar[str] = "fewshot"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    logistic_c: float = Field(1.0, gt=0, description="inverse ridge of scikit-learn's logistic regression")

    def classifier(self) -> tuple[str, Callable[[Problem, Rows], float]]:
        """With this inverse ridge."""
        return f"logistic C={self.logistic_c:g}", lambda problem, rows: problem.accuracy(self.logistic_c, rows)


@register
class FewShotEmbedding(FewShot):
    """The same on what the loss saw."""

    name: ClassVar[str] = "fewshot_embedding"
    needs: ClassVar[frozenset[str]] = frozenset({"embedding"})

    def seen(self, subject: Subject, features: Features) -> tuple[Features, str]:
        """Through the projector."""
        return subject.embedded(features), "embedding"


@register
class FewShotSVM(_FewLabels):
    """A support vector machine with the kernel of the features' inner products."""

    name: ClassVar[str] = "fewshot_svm"

    def classifier(self) -> tuple[str, Callable[[Problem, Rows], float]]:
        """scikit-learn's, one against one."""
        return f"svm C={SVM_C:g}", svm_accuracy


@register
class FewShotRidge(_FewLabels):
    """Kernel ridge regression on centred one-hot labels."""

    name: ClassVar[str] = "fewshot_ridge"

    def classifier(self) -> tuple[str, Callable[[Problem, Rows], float]]:
        """The largest score wins."""
        return f"kernel ridge alpha={RIDGE_ALPHA:g}", ridge_accuracy


def svm_accuracy(problem: Problem, rows: Rows) -> float:
    """Of scikit-learn's support vector machine, one against one, trained on the bank's ``rows``, on the queries."""
    from sklearn.svm import SVC

    K_MM, K_NM = _kernels(problem, rows)
    with one_thread():
        machine = SVC(C=SVM_C, kernel="precomputed").fit(K_MM, problem.bank_labels[rows])
        return float((machine.predict(K_NM) == problem.queries_labels).mean())


def ridge_accuracy(problem: Problem, rows: Rows) -> float:
    """Of kernel ridge regression on centred one-hot labels, f(x) = k_x (K + αI)⁻¹ (Y − Ȳ) + Ȳ; the largest wins."""
    K_MM, K_NM = _kernels(problem, rows)
    classes, label_M = np.unique(problem.bank_labels[rows], return_inverse=True)
    Y_MC = np.eye(len(classes))[label_M]
    K_MM.flat[:: len(K_MM) + 1] += RIDGE_ALPHA
    with one_thread():
        scores_NC = K_NM @ np.linalg.solve(K_MM, Y_MC - Y_MC.mean(axis=0)) + Y_MC.mean(axis=0)
    return float((classes[scores_NC.argmax(axis=1)] == problem.queries_labels).mean())


def _kernels(problem: Problem, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # A Problem's features have mean square 1: the squared norm of a row is their number, on average.
    some_MD = problem.bank[rows] / problem.bank.shape[1]
    return problem.bank[rows] @ some_MD.T, problem.queries @ some_MD.T


def few_label_draws(labels_M: NDArray[np.int64], per_class: int, draws: int) -> Iterator[Rows]:
    """The rows of each draw: ``per_class`` of every class.

    A draw depends on its index and on the number of images only, so it is the same for every method and seed; the
    draw with 5 labels a class contains the one with 1.
    """
    classes = np.unique(labels_M)
    for draw in range(draws):
        order = torch.randperm(len(labels_M), generator=generator("fewshot", draw)).numpy()
        yield np.concatenate([order[labels_M[order] == label][:per_class] for label in classes])
