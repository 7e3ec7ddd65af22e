"""Retrieval by frozen features: whether what is most similar to an image is of its class. Nothing is trained.

The queries are the images of the split that is measured. They are looked for in the labelled training images
(``bank``, as kNN looks them up), or in that split itself, each query left out of what it is looked for in (``split``,
the protocol of metric learning: Oh Song et al., CVPR 2016, section 6). Every figure's protocol says which, as
``gallery``. Recall@1, 3, 5 and mean average precision are what arXiv 2606.17603 reports on textures; which gallery that
is we have not found, so that neither is claimed to be its protocol.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.data import DataSet
from benchmark.probes.base import Figures, Found, Probe, Split, register
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.errors import UserError
from results.record import Metric

# Similarities held at once, a hit counting as five. With what is made of them 13 bytes each, 109 MB: less than kNN's.
SIMILARITIES = 2**23


@register
class Retrieval(Probe):
    """Mean average precision and recall@k by cosine similarity, exact.

    ``queries`` in the protocol is how many count: one whose class has no image in the gallery cannot be answered, and
    is left out. Where a network gives several rows of a training image, all of them are in the gallery.
    """

    name = "retrieval"

    retrieval_k: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 3, 5), min_length=1)
    retrieval_gallery: Literal["bank", "split"] = Field(
        "bank", description="bank: the labelled training images; split: the measured images, without the query"
    )

    def check(self, data: DataSet, split: Split) -> None:
        """Raise :class:`UserError` where some k is above the images that a query is looked for in."""
        measured = data.test if split == "test" else data.tune
        self._check_k(len(measured) - 1 if self.retrieval_gallery == "split" else len(data.labelled))

    def figures(self) -> Figures:
        recall: Figures = [("retrieval_recall", {"k": k}) for k in sorted(set(self.retrieval_k))]
        return [("retrieval_map", {}), *recall]

    def measure(self, subject: Subject) -> Found:
        queries, within = subject.queries(), self.retrieval_gallery == "split"
        gallery = queries if within else subject.bank()
        self._check_k(len(gallery) - within)
        found_N2 = _ranked(queries, gallery, subject, within=within)
        if not subject.process.is_main:
            return Found()
        precision_n, first_n = found_N2[found_N2[:, 1] > 0].T
        if not len(first_n):
            raise UserError(f"retrieval: no image of split {subject.split} has another of its class to be found")
        tail = {
            "similarity": "cosine",
            "gallery": self.retrieval_gallery,
            "queries": len(first_n),
            **subject.place(),
        }
        metrics = [Metric(metric="retrieval_map", protocol=tail, value=precision_n.mean().item())]
        for k in sorted(set(self.retrieval_k)):
            recall = (first_n <= k).double().mean().item()
            metrics.append(Metric(metric="retrieval_recall", protocol={"k": k, **tail}, value=recall))
        return Found(metrics)

    def _check_k(self, images: int) -> None:
        if max(self.retrieval_k) > images:
            asked = f"evaluation.retrieval_k: is {list(self.retrieval_k)}"
            raise UserError(f"{asked}, must be at most the {images} images that a query is looked for in")


def _ranked(queries: Features, gallery: Features, subject: Subject, *, within: bool) -> Tensor:
    """What :func:`answered` finds of every query, (N, 2), on all processes."""
    most = int(torch.bincount(gallery.labels).max())
    tiles = torch.arange(len(queries)).split(max(1, SIMILARITIES // (len(gallery) + 4 * most)))
    norms_M = gallery.x.norm(dim=1).clamp_(min=1e-12)

    def of_tile(number: int) -> Tensor:
        rows_n = tiles[number].to(queries.x.device)
        asked = Features(queries.x[rows_n], queries.labels[rows_n])
        return answered(asked, gallery, norms_M, most, rows_n if within else None).cpu()

    return torch.cat(subject.dealt("tiles", len(tiles), of_tile))


def answered(queries: Features, gallery: Features, norms_M: Tensor, most: int, own_N: Tensor | None) -> Tensor:
    """Of each query its average precision and the rank of the first hit (N, 2), float64; 0, 0 where there is no hit.

    The gallery is ranked by cosine similarity to the query; the R images of its class are the hits. With the i-th hit
    at rank r_i,

        average precision = 1/R Σ_i i / r_i,        recall@k = [r_1 ≤ k],

    the first averaged over the precisions at every hit (Manning, Raghavan & Schütze, Introduction to Information
    Retrieval, section 8.4), the second one where a hit is among the first k, and not the share of hits that are
    (Oh Song et al., CVPR 2016, section 6). Of equally similar images, those of another class rank first: no order of
    the images helps, and a collapsed network finds nothing.

    ``norms_M`` are those of the gallery's rows, ``most`` the hits of the largest class, and ``own_N`` the rows of the
    gallery that are the queries themselves, to be left out. Holds a similarity of each pair, and nothing but the hits
    sorted: how many images of another class rank before a hit is counted by bisection.
    """
    hit_NM = queries.labels[:, None] == gallery.labels
    cosines_NM = (F.normalize(queries.x, dim=1) @ gallery.x.T).div_(norms_M)
    if own_N is not None:
        hit_NM.scatter_(1, own_N[:, None], False)
        cosines_NM.scatter_(1, own_N[:, None], -torch.inf)
    hits_NR = cosines_NM.masked_fill(~hit_NM, -torch.inf).topk(most).values
    # How many of the hits each image of another class is at least as similar as; a hit, of none.
    passed_NM = torch.searchsorted(hits_NR.flip(1), cosines_NM, right=True).masked_fill_(hit_NM, 0)
    counts_NR = passed_NM.new_zeros(len(hits_NR), most + 1)
    counts_NR.scatter_add_(1, passed_NM, passed_NM.new_ones(()).expand_as(passed_NM))
    # Before hit i are those that pass the last R - i + 1 or more.
    before_NR = counts_NR.flip(1).cumsum(dim=1)[:, :most]
    number_R = torch.arange(1, most + 1, device=before_NR.device)
    ranks_NR = number_R + before_NR
    total_N1 = hit_NM.sum(dim=1, keepdim=True)
    precisions_NR = (number_R / ranks_NR.double()).masked_fill_(number_R > total_N1, 0)
    precision_N = precisions_NR.sum(dim=1) / total_N1[:, 0].clamp(min=1)
    return torch.stack([precision_N, ranks_NR[:, 0] * (total_N1[:, 0] > 0)], dim=1)
