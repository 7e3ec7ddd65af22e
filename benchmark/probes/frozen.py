"""The probes that need nothing but features: of a network, of pixels, or of a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmark.probes import gram
from benchmark.probes.features import Features
from benchmark.probes.knn import weighted_knn
from benchmark.probes.logistic import Problem, over_draws
from benchmark.suite.run import EvaluationSpec
from results.record import Metric, ProtocolValue

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FrozenProbes:
    """Features of the labelled images and of the evaluated ones; ``place`` ends every protocol.

    ``views`` > 1: the bank holds so many rows of each labelled image, one after the other. An image that is drawn
    brings all of them.
    """

    bank: Features
    queries: Features
    spec: EvaluationSpec
    classes: int
    place: dict[str, ProtocolValue]
    views: int = 1

    @cached_property
    def problem(self) -> Problem:
        """The features scaled, in float64."""
        return Problem.of(self.bank, self.queries)

    def knn(self) -> Iterator[Metric]:
        """Weighted kNN, a figure for every k that the bank allows."""
        temperature = self.spec.knn_temperature
        found = weighted_knn(self.bank, self.queries, ks=self.spec.knn_k, temperature=temperature, classes=self.classes)
        for k, value in found.items():
            protocol = {"k": k, "T": temperature, "similarity": "cosine", **self.place}
            yield Metric(metric="knn_top1", protocol=protocol, value=value)

    def logistic(self) -> Iterator[Metric]:
        """Logistic regression on all labels."""
        c = self.spec.logistic_c
        yield Metric(metric="logistic_top1", protocol={"C": c, **self.place}, value=self.problem.accuracy(c))

    def fewshot(self) -> Iterator[Metric]:
        """Logistic regression on few labels."""
        c = self.spec.logistic_c
        yield from self._few_labels(f"logistic C={c:g}", lambda rows: self.problem.accuracy(c, rows))

    def fewshot_svm(self) -> Iterator[Metric]:
        """A support vector machine on few labels, with the kernel of the features' inner products."""
        yield from self._few_labels(f"svm C={gram.SVM_C:g}", lambda rows: gram.svm_accuracy(self.problem, rows))

    def fewshot_ridge(self) -> Iterator[Metric]:
        """Kernel ridge regression on few labels."""
        probe = f"kernel ridge alpha={gram.RIDGE_ALPHA:g}"
        yield from self._few_labels(probe, lambda rows: gram.ridge_accuracy(self.problem, rows))

    def _few_labels(self, probe: str, accuracy: Callable[[Indices], float]) -> Iterator[Metric]:
        labels_M = self.problem.bank_labels[:: self.views]
        for labels in sorted(set(self.spec.labels_per_class)):
            found = over_draws(labels_M, labels, self.spec.draws, lambda images: accuracy(self._rows(images)))
            if found is not None:
                protocol = {"labels_per_class": labels, "draws": self.spec.draws, "probe": probe, **self.place}
                yield Metric(metric="fewshot_top1", protocol=protocol, value=found.mean, sd=found.sd)

    def _rows(self, images: Indices) -> Indices:
        return (images[:, None] * self.views + np.arange(self.views)).ravel()
