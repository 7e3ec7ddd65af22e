"""Weighted k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.probes.features import Features, accuracy

# Similarities held at once: 256 MiB in float32.
_SIMILARITIES = 2**26


def weighted_knn(
    bank: Features, queries: Features, *, ks: Sequence[int], temperature: float, classes: int
) -> dict[int, float]:
    """Accuracy by k, all of ``ks`` from one exact pass over the similarities.

    A query q has the class with the largest vote  Σ_{i in the k nearest} exp(cos(q, x_i) / T) [y_i = class]
    (Wu et al., CVPR 2018, section 3.4; the same in DINO and in SFRIK's evaluation). A k larger than the bank is left
    out: it cannot be measured. Equal votes go to the lower class.
    """
    ks = sorted({k for k in ks if k <= len(bank)})
    if not ks:
        return {}
    bank_MD, queries_ND = (F.normalize(features.x) for features in (bank, queries))
    predicted: dict[int, list[Tensor]] = {k: [] for k in ks}
    for chunk_ND in queries_ND.split(max(1, _SIMILARITIES // len(bank))):
        nearest = (chunk_ND @ bank_MD.T).topk(ks[-1])
        # Relative to the nearest, a factor common to all of a query's votes: some weight is 1, whatever T.
        weights_NK = ((nearest.values - nearest.values[:, :1]) / temperature).exp()
        for k, votes_NC in _votes(weights_NK, bank.labels[nearest.indices], ks, classes):
            predicted[k].append(votes_NC.argmax(dim=1))
    return {k: accuracy(torch.cat(parts), queries.labels) for k, parts in predicted.items()}


def _votes(weights_NK: Tensor, labels_NK: Tensor, ks: Sequence[int], classes: int) -> Iterator[tuple[int, Tensor]]:
    """Each k of the ascending ``ks`` with its votes (N, classes), which grow from the k before."""
    votes_NC = weights_NK.new_zeros(len(weights_NK), classes)
    taken = 0
    for k in ks:
        votes_NC.scatter_add_(1, labels_NK[:, taken:k], weights_NK[:, taken:k])
        taken = k
        yield k, votes_NC
