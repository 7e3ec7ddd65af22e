"""From a :class:`DataSpec` to a :class:`DataSet`: read what is stored, hold out the tune split, cut to the limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.images import DataSet, ImageSet
from benchmark.data.own import read_folder, read_npz
from benchmark.data.published import READERS
from benchmark.data.sources import check_source
from benchmark.data.splits import hold_out, stratified
from benchmark.data.stored import Stored

if TYPE_CHECKING:
    # The Run validates its source by this package: importing it here for real would be a circle.
    from benchmark.suite.run import DataSpec, Execution


def load(spec: DataSpec, execution: Execution) -> DataSet:
    """Read a data set and split it; the same spec gives the same images in the same order, whatever the seed.

    The tune split is a stratified ``tune_fraction`` of the labelled training images; imagenet20 has one of its own.
    ``limit`` keeps a stratified part of the training images. Raises :class:`UserError` where the data is missing
    (saying where it was looked for and how to get it) or unusable.
    """
    stored = _read(spec.source, Path(execution.data_root), execution.download)
    labelled, tune = _hold_out(stored, spec.tune_fraction)
    labelled = _limited(labelled, spec.limit)
    train = labelled if stored.unlabelled is None else _limited(stored.unlabelled, spec.limit)
    return DataSet(
        name=spec.source,
        train=train,
        labelled=labelled,
        tune=tune,
        test=stored.test,
        classes=stored.classes,
        channels=len(stored.mean),
        image_size=spec.image_size or stored.image_size,
        mean=stored.mean,
        std=stored.std,
    )


def _read(source: str, root: Path, download: bool) -> Stored:
    check_source(source)
    if source.startswith("npz:"):
        return read_npz(Path(source.removeprefix("npz:")))
    if source.startswith("folder:"):
        return read_folder(Path(source.removeprefix("folder:")))
    return READERS[source](root, download)


def _hold_out(stored: Stored, fraction: float) -> tuple[ImageSet, ImageSet]:
    """The labelled training images without the tune split, and the tune split."""
    if stored.tune is not None:
        return stored.train, stored.tune
    inside, outside = hold_out(stored.train.labels, fraction)
    return stored.train.subset(outside), stored.train.subset(inside)


def _limited(images: ImageSet, limit: int | None) -> ImageSet:
    if limit is None or limit >= len(images):
        return images
    return images.subset(stratified(images.labels, limit)[0])
