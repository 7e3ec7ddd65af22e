"""Transfer: the frozen features of a data set under multinomial logistic regression, its ridge chosen by validation.

The protocol of Kornblith, Shlens & Le (CVPR 2019), as SimCLR has it: 45 ridges, evenly spaced in their logarithms
between 1e-6 and 1e5, each tried on the validation images; with the best the classifier is fitted again, to training and
validation images together. Of few labels (1 and 10 per class, as LeJEPA reports them) it is chosen in the same way,
draw by draw, and the few images alone are fitted to. A ridge λ stands beside the loss's sum over images, features are
centred and of mean square 1: the papers do not say.

Processes share the rows of every fit, and what was found is kept from time to time: a run that ends goes on from there.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from benchmark.data import DataSet
from benchmark.probes.base import Count, Figures, Found, Probe, Shape, Split, register
from benchmark.probes.classifiers import few_label_draws
from benchmark.probes.multinomial import Fitted, Regression, Scaling, fits, planned_bytes
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.errors import UserError
from results.record import DRAWS, Metric, ProtocolValue

STRONGEST, WEAKEST = 1e5, 1e-6
_TOP1, _PER_CLASS = "transfer_top1", "transfer_mean_per_class"  # whichever the data set is published by


@register
class Transfer(Probe):
    """Top-1 accuracy on few and on all labels; the mean over classes of each class's, where it is published so."""

    name = "transfer"

    transfer_shots: tuple[Count, ...] = Field((1, 10), min_length=1, description="labels per class of each draw")
    transfer_all: bool = Field(True, description="and all labels")
    transfer_ridges: int = Field(45, ge=2, description="that are tried on the tune split, between 1e5 and 1e-6")
    draws: int = Field(10, ge=1)

    def check(self, data: DataSet, split: Split) -> None:
        """Raise :class:`UserError` where no image is left to choose the ridge by."""
        if split == "tune":
            raise UserError("evaluation.split: is tune, which transfer chooses its ridge by, must be test for it")
        if not len(data.tune):
            raise UserError(f"data.tune_fraction: must leave transfer images of {data.name} to choose its ridge by")

    def most(self, labels_N: NDArray[np.int64]) -> dict[str, int]:
        return {"transfer_shots": int(np.unique(labels_N, return_counts=True)[1].min())}

    def figures(self) -> Figures:
        shots: list[int | str] = [*self.transfer_shots, *(["all"] if self.transfer_all else [])]
        return [(name, {"shots": count}) for name in (_TOP1, _PER_CLASS) for count in shots]

    def planned_bytes(self, shape: Shape) -> int:
        return shape.bytes + planned_bytes(shape.labelled + shape.tune, shape.features, shape.classes)

    def measure(self, subject: Subject) -> Found:
        self.check(subject.data, subject.split)
        bank, tune, queries = subject.bank(), subject.tune(), subject.queries()
        labels_N = bank.labels.cpu().numpy()
        shots = self.measurable("transfer_shots", labels_N)
        with subject.requests.at_once():  # of many draws this alone takes seconds
            drawn = [torch.from_numpy(rows) for few in shots for rows in few_label_draws(labels_N, few, self.draws)]
        ridges = np.geomspace(STRONGEST, WEAKEST, self.transfer_ridges).tolist()
        search = _Search(bank, tune, queries, subject, ridges)
        found = search.all_of([*drawn, *([None] if self.transfer_all else [])])
        if not subject.process.is_main:
            return Found()
        own: dict[int | str, list[tuple[float, float]]] = {}
        for place, few in enumerate(shots):
            own[few] = found[place * self.draws :][: self.draws]
        if self.transfer_all:
            own["all"] = found[-1:]
        metrics, draws, chosen = [], {}, {}
        for count, fitted in own.items():
            protocol: dict[str, ProtocolValue] = {"shots": count, **({} if count == "all" else {"draws": self.draws})}
            protocol |= {"probe": f"logistic, ridge of {self.transfer_ridges} by tune", **subject.place()}
            values = [value for value, _ in fitted]
            sd = (statistics.stdev(values) if len(fitted) > 1 else 0.0) if count != "all" else None
            name = _PER_CLASS if subject.data.per_class else _TOP1
            metric = Metric(metric=name, protocol=protocol, value=statistics.mean(values), sd=sd)
            metrics.append(metric)
            chosen[metric.name] = [ridge for _, ridge in fitted]
            if count != "all":
                draws[metric.name] = values
        return Found(metrics, {DRAWS: draws, "ridges": chosen})


class _Search:
    """Fits over the ridges, one set of rows after the other, each with the figure of the ridge that did best."""

    def __init__(
        self, bank: Features, tune: Features, queries: Features, subject: Subject, ridges: Sequence[float]
    ) -> None:
        self._bank, self._tune, self._queries, self._subject, self._ridges = bank, tune, queries, subject, ridges
        self._scaling = Scaling.of(bank.x)
        self._found: list[tuple[float, float]] = []
        # Of the fit under way: the tune split's figure at every ridge so far, the last classifiers and the best.
        self._scores: list[float] = []
        self._last: list[Fitted] = []
        self._best: Fitted | None = None

    def all_of(self, wanted: Sequence[Tensor | None]) -> list[tuple[float, float]]:
        """The figure and the ridge of every fit, to some rows of the bank or (None) to all images, on all processes."""
        if (state := self._subject.resumed()) is not None:
            self._found, self._scores = state["found"], state["scores"]
            self._last = [Fitted(*held) for held in state["last"]]
            self._best = Fitted(*state["best"]) if state["best"] else None
        total = len(wanted) * len(self._ridges)
        with self._subject.kept(self._save) as step_done:
            for rows in wanted[len(self._found) :]:
                bank = self._bank
                some = bank if rows is None else Features(bank.x[rows], bank.labels[rows])
                self._found.append(self._fit(some, step_done, refit=rows is None, total=total))
                self._scores, self._last, self._best = [], [], None
        return self._found

    def _fit(self, some: Features, step_done: Callable[[], None], *, refit: bool, total: int) -> tuple[float, float]:
        """Ridges from the strongest, each fit begun where the last two lead; of equally good ones the strongest."""
        regression = self._regression([some])
        left = self._ridges[len(self._scores) :]
        for fitted in fits(regression, left, self._subject.data.classes, self._last):
            score = self._figure(fitted, self._tune)
            if score > max(self._scores, default=-1.0):
                self._best = replace(fitted, pairs=())
            self._scores.append(score)
            self._last = [*self._last[-1:], fitted]
            self._subject.tell("ridges", len(self._found) * len(self._ridges) + len(self._scores), total)
            step_done()
        best, ridge = self._best, self._ridges[self._scores.index(max(self._scores))]
        assert best is not None
        if refit:
            best = self._regression([some, self._tune]).fit(ridge, best)
        return self._figure(best, self._queries), ridge

    def _regression(self, parts: Sequence[Features]) -> Regression:
        return Regression(parts, self._scaling, self._subject.process, self._subject.check)

    def _figure(self, fitted: Fitted, images: Features) -> float:
        predicted_N = fitted.predict(images.x, self._scaling)
        return accuracy(predicted_N, images.labels, per_class=self._subject.data.per_class)

    def _save(self) -> None:
        last, best = (
            [(fitted.weight, fitted.bias, fitted.curvature, [*fitted.pairs]) for fitted in some]
            for some in (self._last, [self._best] if self._best else [])
        )
        held = {"found": self._found, "scores": self._scores, "last": last, "best": best[0] if best else None}
        self._subject.save(len(self._found) * len(self._ridges) + len(self._scores), held)


def accuracy(predicted_N: Tensor, labels_N: Tensor, *, per_class: bool) -> float:
    """The share of images whose class is predicted; or of each class's images, averaged over the classes there are."""
    hits_N = predicted_N == labels_N
    if not per_class:
        return int(hits_N.sum()) / len(hits_N)
    images_C = torch.bincount(labels_N)
    hits_C = torch.bincount(labels_N[hits_N], minlength=len(images_C))
    return float((hits_C[images_C > 0].double() / images_C[images_C > 0]).mean())
