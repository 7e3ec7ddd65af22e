"""Weighted k-nearest-neighbour classification of frozen features."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from benchmark.probes.base import Count, Found, Probe, register
from benchmark.probes.subject import Features, Subject
from results.record import Metric

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
