"""Classifiers on the main process: weighted nearest neighbours, and those that a solver finds, on all or on few labels.

A support vector machine and kernel ridge regression see features through their inner products only. Kernels are of
features centred over the bank and scaled by one number that makes k(x, x) equal 1 on average over the bank, so that
their constants mean the same for every kernel and every network.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from benchmark.probes.base import Count, Figures, Found, Probe, register
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.process import one_thread
from benchmark.runtime.seeds import generator
from results.record import DRAWS, Metric, ProtocolValue

Rows = NDArray[np.int64]

# With scikit-learn's default tolerance, 1e-4, a few of 500 test images still change class when it is tightened;
# between 1e-6 and 1e-8 none does.
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 10_000
# Few labels are separable in any feature space: close to a hard margin.
SVM_C = 10.0
# The same for every method; between 0.1 and 1 few-label accuracy on digits' tune split moves by about a point.
RIDGE_ALPHA = 0.3
# Similarities held at once: 256 MiB in float32.
SIMILARITIES = 2**26


@register
class KNN(Probe):
    """Weighted kNN by cosine similarity: a figure for every k that is not larger than the bank."""

    name = "knn"

    knn_k: tuple[Count, ...] = Field((10, 20, 100, 200), min_length=1)
    knn_temperature: float = Field(0.07, gt=0)

    def most(self, labels_N: NDArray[np.int64]) -> dict[str, int]:
        return {"knn_k": len(labels_N)}

    def figures(self) -> Figures:
        return [("knn_top1", {"k": k}) for k in self.knn_k]

    def measure(self, subject: Subject) -> Found:
        bank, queries = subject.bank(), subject.queries()
        if not subject.process.is_main:
            return Found()
        classes, check = subject.data.classes, subject.requests.check
        ks = self.measurable("knn_k", bank.labels.cpu().numpy())
        found = weighted_knn(bank, queries, ks, self.knn_temperature, classes, check)
        tail = {"T": self.knn_temperature, "similarity": "cosine", **subject.place()}
        return Found([Metric(metric="knn_top1", protocol={"k": k, **tail}, value=value) for k, value in found.items()])


def weighted_knn(
    bank: Features, queries: Features, ks: Sequence[int], temperature: float, classes: int, check: Callable[[], None]
) -> dict[int, float]:
    """Accuracy by k, all of ``ks`` from one exact pass over the similarities; ``check`` is called after each tile.

    A query q has the class with the largest vote  Σ_{i in the k nearest} exp(cos(q, x_i) / T) [y_i = class]
    (Wu et al., CVPR 2018, section 3.4; the same in DINO and in SFRIK's evaluation). A k larger than the bank is left
    out: it cannot be measured. Equal votes go to the lower class. Rows are divided by their norms in the tiles, so that
    no normalised copy of the bank is held.
    """
    ks = sorted({k for k in ks if k <= len(bank)})
    if not ks:
        return {}
    norms_M, norms_N = (features.x.norm(dim=1).clamp_(min=1e-12) for features in (bank, queries))
    right = dict.fromkeys(ks, 0)
    tile = max(1, SIMILARITIES // len(bank))
    for start in range(0, len(queries), tile):
        rows = slice(start, start + tile)
        cosines_NK, nearest_NK = nearest(queries.x[rows], norms_N[rows], bank.x, norms_M, ks[-1])
        # Relative to the nearest, a factor common to all of a query's votes: some weight is 1, whatever T.
        weights_NK = ((cosines_NK - cosines_NK[:, :1]) / temperature).exp()
        labels_NK, votes_NC, counted = bank.labels[nearest_NK], weights_NK.new_zeros(len(weights_NK), classes), 0
        for k in ks:  # ascending: the votes grow from the k before
            votes_NC.scatter_add_(1, labels_NK[:, counted:k], weights_NK[:, counted:k])
            right[k] += int((votes_NC.argmax(dim=1) == queries.labels[rows]).sum())
            counted = k
        check()
    return {k: count / len(queries) for k, count in right.items()}


def nearest(q_NF: Tensor, norms_N: Tensor, x_MF: Tensor, norms_M: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosine and row (N, k) of the ``k`` rows of ``x_MF`` nearest to each query, nearest first."""
    cosines_NM = ((q_NF / norms_N[:, None]) @ x_MF.T).div_(norms_M)
    values_NK, indices_NK = cosines_NM.topk(k)
    return values_NK, indices_NK


@dataclass(frozen=True, eq=False)
class Problem:
    """Scaled features of the bank (M, D) and of the queries (N, D), float64, with their labels."""

    bank: NDArray[np.float64]
    bank_labels: Rows
    queries: NDArray[np.float64]
    queries_labels: Rows

    @classmethod
    def of(cls, bank: Features, queries: Features) -> Self:
        """Centre every feature and divide all of them by one scale, both taken over the bank without its labels.

        The scale makes the mean square of a feature 1, so that C means the same for every network. One scale and not
        one a feature: that would blow up a border pixel that is hardly ever lit, and cost raw pixels 9 points of
        few-label accuracy on digits.
        """
        # One copy each, worked on in place: ImageNet's bank in float64 is 21 GB.
        bank_MD, queries_ND = (some.x.cpu().to(torch.float64, copy=True).numpy() for some in (bank, queries))
        mean_D = bank_MD.mean(axis=0)
        bank_MD -= mean_D
        queries_ND -= mean_D
        scale = np.sqrt(np.vdot(bank_MD, bank_MD) / bank_MD.size) or 1.0  # constant features stay zero
        bank_MD /= scale
        queries_ND /= scale
        return cls(bank_MD, bank.labels.cpu().numpy(), queries_ND, queries.labels.cpu().numpy())

    def accuracy(self, c: float, rows: Rows | slice = slice(None)) -> float:
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

    def kernels(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Inner products of the bank's ``rows`` (M, M) and of the queries with them (N, M)."""
        # The mean square of a feature is 1: the squared norm of a row is their number, on average.
        some_MD = self.bank[rows] / self.bank.shape[1]
        return self.bank[rows] @ some_MD.T, self.queries @ some_MD.T


@register
class Logistic(Probe):
    """scikit-learn's multinomial logistic regression, with all labels."""

    name = "logistic"

    logistic_c: float = Field(1.0, gt=0, description="inverse ridge of scikit-learn's logistic regression")

    def figures(self) -> Figures:
        return [("logistic_top1", {})]

    def measure(self, subject: Subject) -> Found:
        bank, queries = subject.bank(), subject.queries()
        if not subject.process.is_main:
            return Found()
        with subject.requests.at_once():
            value = Problem.of(bank, queries).accuracy(self.logistic_c)
        protocol = {"C": self.logistic_c, **subject.place()}
        return Found([Metric(metric="logistic_top1", protocol=protocol, value=value)])


class _FewLabels(Probe):
    """Top-1 accuracy of one classifier, mean and deviation over draws, by the number of labels of each class."""

    needs = frozenset({"rows"})
    classifier: ClassVar[str]  # what the protocol calls it, options in braces

    labels_per_class: tuple[Count, ...] = Field((1, 5, 10), min_length=1)
    draws: int = Field(10, ge=1)

    def most(self, labels_N: Rows) -> dict[str, int]:
        return {"labels_per_class": int(np.unique(labels_N, return_counts=True)[1].min())}

    def figures(self) -> Figures:
        own: dict[str, ProtocolValue] = {"probe": self.classifier.format(**dict(self))}
        if "embedding" in self.needs:
            own["features"] = "embedding"
        return [("fewshot_top1", {"labels_per_class": labels, **own}) for labels in self.labels_per_class]

    def accuracy(self, problem: Problem, rows: Rows) -> float:
        """On the queries, trained on some rows of the bank."""
        raise NotImplementedError

    def measure(self, subject: Subject) -> Found:
        bank, queries = subject.bank(), subject.queries()
        if not subject.process.is_main:
            return Found()
        on_embedding = "embedding" in self.needs
        with subject.frozen(), subject.requests.at_once():
            if on_embedding:
                bank, queries = subject.embedded(bank), subject.embedded(queries)
            place = subject.place("embedding" if on_embedding else None)
            problem, views = Problem.of(bank, queries), subject.network.views
            labels_M = problem.bank_labels[::views]
            tail = {"draws": self.draws, "probe": self.classifier.format(**dict(self)), **place}
            metrics, by_draw = [], {}
            for labels in self.measurable("labels_per_class", labels_M):
                values = [
                    self.accuracy(problem, (images[:, None] * views + np.arange(views)).ravel())
                    for images in few_label_draws(labels_M, labels, self.draws)
                ]
                told = {"value": statistics.mean(values), "sd": statistics.stdev(values) if self.draws > 1 else 0.0}
                metrics.append(Metric(metric="fewshot_top1", protocol={"labels_per_class": labels, **tail}, **told))
                by_draw[metrics[-1].name] = values
        return Found(metrics, {DRAWS: by_draw})


@register
class FewShot(_FewLabels):
    """Logistic regression."""

    name = "fewshot"
    needs = frozenset({"features"})
    classifier = "logistic C={logistic_c:g}"

    logistic_c: float = Field(1.0, gt=0, description="inverse ridge of scikit-learn's logistic regression")

    def accuracy(self, problem: Problem, rows: Rows) -> float:
        return problem.accuracy(self.logistic_c, rows)


@register
class FewShotEmbedding(FewShot):
    """The same on what the loss saw, through the projector."""

    name = "fewshot_embedding"
    needs = frozenset({"embedding"})


@register
class FewShotSVM(_FewLabels):
    """scikit-learn's support vector machine, one against one, with the kernel of the features' inner products."""

    name = "fewshot_svm"
    classifier = f"svm C={SVM_C:g}"

    def accuracy(self, problem: Problem, rows: Rows) -> float:
        from sklearn.svm import SVC

        K_MM, K_NM = problem.kernels(rows)
        with one_thread():
            machine = SVC(C=SVM_C, kernel="precomputed").fit(K_MM, problem.bank_labels[rows])
            return float((machine.predict(K_NM) == problem.queries_labels).mean())


@register
class FewShotRidge(_FewLabels):
    """Kernel ridge regression on centred one-hot labels, f(x) = k_x (K + αI)⁻¹ (Y − Ȳ) + Ȳ; the largest wins."""

    name = "fewshot_ridge"
    classifier = f"kernel ridge alpha={RIDGE_ALPHA:g}"

    def accuracy(self, problem: Problem, rows: Rows) -> float:
        K_MM, K_NM = problem.kernels(rows)
        classes, label_M = np.unique(problem.bank_labels[rows], return_inverse=True)
        Y_MC = np.eye(len(classes))[label_M]
        K_MM.flat[:: len(K_MM) + 1] += RIDGE_ALPHA
        with one_thread():
            scores_NC = K_NM @ np.linalg.solve(K_MM, Y_MC - Y_MC.mean(axis=0)) + Y_MC.mean(axis=0)
        return float((classes[scores_NC.argmax(axis=1)] == problem.queries_labels).mean())


def few_label_draws(labels_M: Rows, per_class: int, draws: int) -> Iterator[Rows]:
    """The rows of each draw: ``per_class`` of every class.

    A draw depends on its index and on the number of images only, so it is the same for every method and seed; the
    draw with 5 labels per class contains the one with 1.
    """
    classes = np.unique(labels_M)
    for draw in range(draws):
        order = torch.randperm(len(labels_M), generator=generator("fewshot", draw)).numpy()
        yield np.concatenate([order[labels_M[order] == label][:per_class] for label in classes])
