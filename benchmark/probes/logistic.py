"""Logistic regression on frozen features: on all labels, and on a few of each class."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.probes.features import Features
from benchmark.probes.threads import one_thread
from benchmark.runtime.seeds import generator

# With scikit-learn's default tolerance, 1e-4, a few of 500 test images still change class when it is tightened;
# between 1e-6 and 1e-8 none does.
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 10_000


@dataclass(frozen=True, eq=False)
class Problem:
    """Scaled features of the bank (M, D) and of the queries (N, D), float64, with their labels."""

    bank: NDArray[np.float64]
    bank_labels: NDArray[np.int64]
    queries: NDArray[np.float64]
    queries_labels: NDArray[np.int64]

    @classmethod
    def of(cls, bank: Features, queries: Features) -> Problem:
        """Centre every feature and divide all of them by one scale, both taken over the bank without its labels.

        The scale makes the mean square of a feature 1, so that C means the same for every network. One scale and not
        one a feature: that would blow up a border pixel that is hardly ever lit, and cost raw pixels 9 points of
        few-label accuracy on digits.
        """
        bank_MD, queries_ND = (features.x.cpu().double().numpy() for features in (bank, queries))
        mean_D = bank_MD.mean(axis=0)
        bank_MD, queries_ND = bank_MD - mean_D, queries_ND - mean_D
        scale = np.sqrt(np.square(bank_MD).mean()) or 1.0  # constant features stay zero
        return cls(bank_MD / scale, bank.labels.cpu().numpy(), queries_ND / scale, queries.labels.cpu().numpy())

    def accuracy(self, c: float, rows: NDArray[np.int64] | slice = slice(None)) -> float:
        """Of multinomial logistic regression with inverse ridge ``c`` on the bank's ``rows``, on the queries."""
        # Here, since importing scikit-learn takes seconds that a job which is preempted in training would waste.
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=c, tol=_TOLERANCE, max_iter=_MAX_ITERATIONS)
        bank_MD, queries_ND = self.bank[rows], self.queries
        if len(bank_MD) < bank_MD.shape[1]:
            # With a ridge the weights lie in the span of the M rows: M coordinates there say all that D do.
            span_DM, _ = np.linalg.qr(bank_MD.T)
            bank_MD, queries_ND = bank_MD @ span_DM, queries_ND @ span_DM
        # Problems this small are slower on several threads, which wait for each other, and torch's for them.
        with one_thread():
            model.fit(bank_MD, self.bank_labels[rows])
        return float((model.predict(queries_ND) == self.queries_labels).mean())


@dataclass(frozen=True)
class FewLabels:
    """Mean and standard deviation (n - 1) of the accuracy over draws; 0 where there is one draw."""

    mean: float
    sd: float


def few_labels(problem: Problem, labels_per_class: int, *, c: float, draws: int) -> FewLabels | None:
    """Logistic regression on ``labels_per_class`` labels of every class, over several draws of them.

    None where some class has fewer labelled images: it cannot be measured.
    """
    return over_draws(problem.bank_labels, labels_per_class, draws, lambda rows: problem.accuracy(c, rows))


def over_draws(
    labels_M: NDArray[np.int64], labels_per_class: int, draws: int, accuracy: Callable[[NDArray[np.int64]], float]
) -> FewLabels | None:
    """Any classifier's ``accuracy`` of the rows it is given to learn from, over the same draws of them."""
    if np.unique(labels_M, return_counts=True)[1].min() < labels_per_class:
        return None
    values = [accuracy(rows) for rows in few_label_draws(labels_M, labels_per_class, draws)]
    return FewLabels(statistics.mean(values), statistics.stdev(values) if draws > 1 else 0.0)


def few_label_draws(labels_M: NDArray[np.int64], per_class: int, draws: int) -> Iterator[NDArray[np.int64]]:
    """The rows of each draw: ``per_class`` of every class.

    A draw depends on its index and on the number of images only, so it is the same for every method and seed; the
    draw with 5 labels a class contains the one with 1.
    """
    classes = np.unique(labels_M)
    for draw in range(draws):
        order = _permutation(len(labels_M), draw)
        yield np.concatenate([order[labels_M[order] == label][:per_class] for label in classes])


def _permutation(size: int, draw: int) -> NDArray[np.int64]:
    order: Tensor = torch.randperm(size, generator=generator("fewshot", draw))
    return order.numpy()
