"""Which images: the part of a network's and of a measurement's settings that names a data set, and reading it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from benchmark.data.content import content_of
from benchmark.data.datasets import READERS, check_source
from benchmark.data.images import DataSet, ImageSet, Stored
from benchmark.data.own import read_folder, read_npz
from benchmark.data.splits import hold_out, stratified
from benchmark.runtime.spec import Spec


class DataSpec(Spec):
    """A data set, its tune split and its size. The tune split is held out of training and of the probes' training."""

    source: str = Field(description="digits, mnist, cifar10, ..., npz:PATH or folder:PATH")
    content: str | None = Field(None, description="digest of data of one's own, by which it is known; filled in")
    tune_fraction: float = Field(0.1, ge=0, lt=1, description="of the labelled training images; 0: no tune split")
    image_size: int | None = Field(None, ge=8, description="side in pixels after augmentation; None: as stored")
    limit: int | None = Field(None, ge=2, description="train on so many images, stratified, for a cut budget")

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        check_source(source)
        return source

    def identified(self) -> DataSpec:
        """With the digest of data of one's own. Raises :class:`UserError` where they cannot be read."""
        return self.model_copy(update={"content": content_of(self.source)})

    def canonical(self) -> dict[str, Any]:
        """What a digest covers: data of one's own by their content, wherever they lie."""
        fields = self.model_dump(mode="json")
        if self.content is None:
            del fields["content"]
        else:
            del fields["source"]
        return fields

    @property
    def digest(self) -> str:
        """Hex digest of the canonical form."""
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True).encode()).hexdigest()


def load(spec: DataSpec, root: Path, *, download: bool = False) -> DataSet:
    """Read a data set and split it; the same spec gives the same images in the same order, whatever the seed.

    The tune split is a stratified ``tune_fraction`` of the labelled training images, empty where that is 0; imagenet20
    has one of its own. Named data sets lie under ``root``; ``limit`` keeps a stratified part of the training images.
    Raises :class:`UserError` where the data is missing (saying where it was looked for and how to get it) or unusable.
    """
    stored = _read(spec.source, root, download)
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
    kind, colon, path = source.partition(":")
    if not colon:
        return READERS[source](root, download)
    return read_npz(Path(path)) if kind == "npz" else read_folder(Path(path))


def _hold_out(stored: Stored, fraction: float) -> tuple[ImageSet, ImageSet]:
    """The labelled training images without the tune split, and the tune split."""
    if stored.tune is not None:
        return stored.train, stored.tune
    if fraction == 0:
        return stored.train, stored.train.subset(np.empty(0, dtype=np.int64))
    inside, outside = hold_out(stored.train.labels, fraction)
    return stored.train.subset(outside), stored.train.subset(inside)


def _limited(images: ImageSet, limit: int | None) -> ImageSet:
    if limit is None or limit >= len(images):
        return images
    return images.subset(stratified(images.labels, limit)[0])
