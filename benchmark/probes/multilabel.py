"""Classification of images that show several classes, as published for VOC 2007: a linear machine for each class.

The protocol of fair_self_supervision_benchmark (Goyal et al., ICCV 2019), as OBoW has it: LIBLINEAR's dual solver on
rows divided by ‖x‖ + 1e-5, positives counted twice, C of each class chosen by the mean average precision of three
folds. What is there but difficult to see counts as absent in learning, and not at all in testing.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmark.data import DataSet
from benchmark.probes.base import Figures, Found, Probe, Shape, Split, register
from benchmark.probes.subject import Features, Subject
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import one_thread
from results.record import Metric

PUBLISHED_C = (0.05, 0.1, 0.3, 0.5, 1.0, 3.0, 5.0, *(0.5**power for power in range(4, 20)))
_POSITIVE_WEIGHT = 2
_TOLERANCE, _MAX_ITERATIONS = 1e-4, 2000


@register
class Multilabel(Probe):
    """The mean over classes of the average precision by VOC's measure (:func:`average_precision`)."""

    name = "multilabel"
    several_labels = True

    multilabel_c: tuple[float, ...] = Field(PUBLISHED_C, min_length=1, description="of which each class has one")
    multilabel_folds: int = Field(3, ge=2, description="by which it is chosen")

    def check(self, data: DataSet, split: Split) -> None:
        """Raise :class:`UserError` where a class has too few images to be learnt, or none to be tested."""
        learnt, measured = data.labelled.present, (data.test if split == "test" else data.tune).present
        assert learnt is not None
        assert measured is not None
        few = np.flatnonzero((learnt == 1).sum(axis=0) < self.multilabel_folds)
        if len(few):
            of_class = f"{(learnt[:, few[0]] == 1).sum()} of class {data.class_name(few[0])}"
            raise UserError(
                f"evaluation.multilabel_folds: is {self.multilabel_folds}, must be at most the images of each class to "
                f"learn from, {of_class}"
            )
        if len(none := np.flatnonzero((measured == 1).sum(axis=0) == 0)):
            raise UserError(f"evaluation.split {split}: no image of {data.name} shows class {data.class_name(none[0])}")

    def figures(self) -> Figures:
        return [("multilabel_map", {})]

    def planned_bytes(self, shape: Shape) -> int:
        """Rows normalised in float64; those of all folds but one, of the other one, and LIBLINEAR's 16 bytes a number.

        LIBLINEAR's of all rows take less.
        """
        folds, learnt = self.multilabel_folds, shape.labelled + shape.tune
        fold = (learnt * (folds - 1) * (8 + 16) + learnt * 8) // folds
        return shape.bytes + (8 * (learnt + shape.measured) + fold) * shape.features

    def measure(self, subject: Subject) -> Found:
        data, queries_images = subject.data, subject.queries_images
        self.check(data, subject.split)
        x_MF, x_NF = normalised(subject.bank()), normalised(subject.queries())
        learnt, measured = data.labelled.present, queries_images.present
        assert learnt is not None
        assert measured is not None

        def of_class(label: int) -> tuple[float, float]:
            positive_M, counted_N = learnt[:, label] == 1, measured[:, label] != 0
            with subject.requests.at_once():
                c = self._chosen(x_MF, positive_M)
                scores_N = fitted(x_MF, positive_M, c).decision_function(x_NF)
            return average_precision(scores_N[counted_N], measured[counted_N, label] == 1), c

        found = subject.dealt("classes", data.classes, of_class)
        if not subject.process.is_main:
            return Found()
        choice = f"C of {len(self.multilabel_c)} by {self.multilabel_folds} folds"
        protocol = {"probe": f"linear svm, {choice}", **subject.place()}
        names = [data.class_name(label) for label in range(data.classes)]
        details = {
            "average_precision": {name: precision for name, (precision, _) in zip(names, found, strict=True)},
            "C": {name: c for name, (_, c) in zip(names, found, strict=True)},
        }
        value = float(np.mean([precision for precision, _ in found]))
        return Found([Metric(metric="multilabel_map", protocol=protocol, value=value)], details)

    def _chosen(self, x_MF: NDArray[Any], positive_M: NDArray[np.bool_]) -> float:
        """The C of the largest mean over folds of scikit-learn's average precision, the first of equal ones."""
        from sklearn.metrics import average_precision_score
        from sklearn.model_selection import StratifiedKFold

        folds = [*StratifiedKFold(self.multilabel_folds).split(x_MF, positive_M)]
        means = []
        for c in self.multilabel_c:
            scores = []
            for inside, outside in folds:
                machine = fitted(x_MF[inside], positive_M[inside], c)
                scores.append(average_precision_score(positive_M[outside], machine.decision_function(x_MF[outside])))
            means.append(np.mean(scores))
        return self.multilabel_c[int(np.argmax(means))]


def normalised(features: Features) -> NDArray[np.float64]:
    """Rows over ‖x‖ + 1e-5."""
    x_NF = features.x.cpu().double().numpy()
    return x_NF / (np.linalg.norm(x_NF, axis=1, keepdims=True) + 1e-5)


def fitted(x_MF: NDArray[Any], positive_M: NDArray[np.bool_], c: float) -> Any:
    """scikit-learn's LinearSVC. That it ends at its iterations' limit is the protocol, and no warning."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    machine = LinearSVC(
        C=c,
        class_weight={True: _POSITIVE_WEIGHT, False: 1},
        dual=True,
        tol=_TOLERANCE,
        max_iter=_MAX_ITERATIONS,
        random_state=0,  # of the order in which it goes through the rows
    )
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return machine.fit(x_MF, positive_M)


def average_precision(scores_N: NDArray[Any], positive_N: NDArray[np.bool_]) -> float:
    """The area under precision over recall, each precision the largest at that recall or a higher one.

    As VOC's development kit has it since 2010, and the published figures of VOC 2007: not the mean over eleven recalls
    that VOC 2007 itself was judged by. Of equal scores, those of images without the class rank first.
    """
    order = np.lexsort((positive_N, -scores_N))
    hits_N = positive_N[order]
    precision_N = np.cumsum(hits_N) / np.arange(1, len(hits_N) + 1)
    highest_N = np.maximum.accumulate(precision_N[::-1])[::-1]
    return float(highest_N[hits_N].mean())
