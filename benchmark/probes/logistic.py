"""Logistic regression on frozen features, with all labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from benchmark.probes.base import Found, Probe, register
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.process import one_thread
from results.record import Metric

# With scikit-learn's default tolerance, 1e-4, a few of 500 test images still change class when it is tightened;
# between 1e-6 and 1e-8 none does.
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 10_000


@register
class Logistic(Probe):
    """scikit-learn's multinomial logistic regression."""

    name: ClassVar[str] = "logistic"

    logistic_c: float = Field(1.0, gt=0, description="inverse ridge of scikit-learn's logistic regression")

    def measure(self, subject: Subject) -> Found:
        """On the main process: the solver is scikit-learn's."""
        bank, queries = subject.bank(), subject.queries()
        if not subject.process.is_main:
            return Found()
        with subject.requests.at_once():
            value = Problem.of(bank, queries).accuracy(self.logistic_c)
        protocol = {"C": self.logistic_c, **subject.place()}
        return Found([Metric(metric="logistic_top1", protocol=protocol, value=value)])


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
        # One copy each, worked on in place: ImageNet's bank in float64 is 21 GB.
        bank_MD, queries_ND = (_copy(features.x) for features in (bank, queries))
        mean_D = bank_MD.mean(axis=0)
        bank_MD -= mean_D
        queries_ND -= mean_D
        scale = np.sqrt(np.vdot(bank_MD, bank_MD) / bank_MD.size) or 1.0  # constant features stay zero
        bank_MD /= scale
        queries_ND /= scale
        return cls(bank_MD, bank.labels.cpu().numpy(), queries_ND, queries.labels.cpu().numpy())

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


def _copy(x_ND: Tensor) -> NDArray[np.float64]:
    return x_ND.cpu().to(torch.float64, copy=True).numpy()
