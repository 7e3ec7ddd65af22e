"""Which images: the part of a network's and of a measurement's settings that names a data set, and reading it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from benchmark.data.datasets import SOURCES, check_source, read_named
from benchmark.data.decoding import VERSION
from benchmark.data.hf import Table
from benchmark.data.images import DataSet, ImageSet, Indices, stratified
from benchmark.data.listings import kept_listing
from benchmark.data.own import content_of, read_own
from benchmark.runtime.errors import UserError
from benchmark.runtime.paths import absolute, in_job, is_of_job, typed
from benchmark.runtime.spec import Spec, digest_of


class DataSpec(Spec):
    """A data set, its tune split and its size. The tune split is held out of training and of the probes' training."""

    source: str = Field(description="digits, cifar10, ..., npz:PATH, folder:PATH, hf:NAME_OR_PATH")
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
        """Data of one's own with their whole path, as a user typed it (:mod:`benchmark.runtime.paths`), and digest.

        A named data set that has a digest of its own is the same data as an npz file of these arrays.
        Raises :class:`UserError` where they cannot be read.
        """
        kind, colon, text = self.source.partition(":")
        if not colon:
            return self.model_copy(update={"content": SOURCES[kind].content})
        place = typed(text, f"data.source {self.source}")
        is_path = kind != "hf" or Table.of(place).is_path
        source = f"{kind}:{absolute(place) if is_path else place}"
        return self.model_copy(update={"source": source, "content": content_of(source)})

    def check_content(self) -> None:
        """Raise :class:`UserError` where data of one's own are others by now than those that were asked for."""
        if self.content is not None and (found := content_of(self.source)) not in (None, self.content):
            raise UserError(
                f"data.source {self.source}: holds other data ({found}) than were asked for ({self.content})"
            )

    @property
    def several_labels(self) -> bool:
        """Whether an image may be of several classes."""
        return self.source in SOURCES and SOURCES[self.source].several_labels

    def canonical(self) -> dict[str, Any]:
        """What a digest covers: data of one's own by their content, wherever they lie; of files, the decoding."""
        decoded = self.source.startswith(("folder:", "hf:")) or getattr(SOURCES.get(self.source), "decoded", False)
        own = self.model_dump(mode="json", exclude={"content" if self.content is None else "source"})
        return own | {"decoding": VERSION} if decoded else own

    @property
    def digest(self) -> str:
        """Hex digest of the canonical form."""
        return digest_of(self.canonical())


def load(spec: DataSpec, root: Path, *, download: bool = False, listings: Path | None = None) -> DataSet:
    """Read a data set and split it; the same spec gives the same images in the same order, whatever the seed.

    The tune split is a stratified ``tune_fraction`` of the labelled training images, empty where that is 0; imagenet20
    has one of its own. Named data sets lie under ``root``; ``limit`` keeps a stratified part of the training images.
    What folders hold is listed once and kept in ``listings``, for as long as they stay as they are.
    Raises :class:`UserError` where the data is missing (saying where it was looked for and how to get it) or unusable.
    """
    if ":" in spec.source:
        # A copy that each job makes of its own may be half of what was submitted.
        place = in_job(spec.source, f"data.source {spec.source}")
        if is_of_job(spec.source):
            spec.check_content()
        read = partial(read_own, spec.source)
    else:
        read, place = partial(read_named, spec.source, root, download), root.resolve() / spec.source
    if listings is None:
        stored = read()
    else:
        key = f"{VERSION} {spec.content} {place}"
        stored = kept_listing(listings / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz", read)
    labelled, tune = stored.train, stored.tune
    if tune is None:
        inside, outside = hold_out(labelled.labels, spec.tune_fraction, stored.class_names)
        labelled, tune = labelled.subset(outside), labelled.subset(inside)
    labelled = _limited(labelled, spec.limit)
    return DataSet(
        name=spec.source,
        train=labelled if stored.unlabelled is None else _limited(stored.unlabelled, spec.limit),
        labelled=labelled,
        tune=tune,
        test=stored.test,
        classes=stored.classes,
        channels=len(stored.mean),
        image_size=spec.image_size or stored.image_size,
        mean=stored.mean,
        std=stored.std,
        class_names=stored.class_names,
        left_out=stored.left_out,
        per_class=spec.source in SOURCES and SOURCES[spec.source].per_class,
    )


def hold_out(labels: NDArray[np.int64], fraction: float, class_names: Sequence[str] = ()) -> tuple[Indices, Indices]:
    """A stratified ``fraction`` of the images, and the others; a class of few may have none of its own in the first.

    Raises :class:`UserError` naming a class that is left none to train on.
    """
    inside, outside = stratified(labels, round(fraction * len(labels)))
    if len(lost := np.setdiff1d(labels, labels[outside])):
        name = class_names[lost[0]] if class_names else lost[0]
        count = np.sum(labels == lost[0])
        raise UserError(f"data.tune_fraction {fraction} leaves class {name}, of {count} images, none for training")
    return inside, outside


def _limited(images: ImageSet, limit: int | None) -> ImageSet:
    if limit is None or limit >= len(images):
        return images
    if limit < (classes := len(np.unique(images.labels))):
        raise UserError(f"data.limit: is {limit}, must be at least the number of classes, which is {classes}")
    return images.subset(stratified(images.labels, limit)[0])
