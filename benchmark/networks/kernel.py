"""The kind ``kernel``: embeddings solved in closed form for a fixed kernel, and what they are held against.

Fitted on the training images' rows, or views of them; labels are not looked at. Views are made before the clock starts.
The maps are in :mod:`benchmark.networks.kernel_maps`, which loads scikit-learn: seconds that a suite without kernels
does not need.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import load_file, save
from torch import Tensor

from benchmark.data import DataSet, DataSpec, ImageSet, Points
from benchmark.networks.base import WEIGHTS_NAME, Batches, Frozen, Job, Made, Network
from benchmark.networks.regime import (
    Basis,
    Eigenmaps,
    OnViews,
    Regime,
    RelatedNeighbours,
    RelatedViews,
    kernel_title,
    resolve_loss,
)
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import key
from benchmark.runtime.signals import Interrupted
from benchmark.runtime.spec import SettingError
from results.record import Cost, write_atomically

if TYPE_CHECKING:
    from benchmark.networks.kernel_maps import KernelMap
    from methods.regime.views import Augmentation

Rows = NDArray[np.float64]

# Strengths in parts of the images' side, so that they mean the same on 8 and on 28 pixels.
TRANSLATION, BLUR = 1 / 8, 1 / 16
ROTATION_DEGREES, ZOOM = 15.0, 1.1


def plain_rows(images: ImageSet) -> Rows:
    """Every image as one row: pixels in [0, 1], or the points as they are."""
    if isinstance(images, Points):
        return images.rows
    pixels = _images(images)
    return pixels.reshape(len(pixels), -1)


def views_of(images: ImageSet, regime: OnViews, seed: int) -> tuple[Rows, NDArray[np.int64]]:
    """(views, image number of each): ``n_views`` of every image, drawn by the seed; without augmentation its copies."""
    if regime.augmentation == "none":
        rows = plain_rows(images)
        return np.repeat(rows, regime.n_views, axis=0), np.repeat(np.arange(len(rows)), regime.n_views)
    from methods.regime import make_views

    stack = _images(images)
    augmentation = _augmentation(regime.augmentation, stack.shape[1])
    return make_views(stack, augmentation, regime.n_views, seed=key(seed, "kernel regime", "views"))


def _augmentation(name: str, side: int) -> Augmentation:
    from methods.regime import Affine, Blur, Compose

    affine = Affine(TRANSLATION * side, ROTATION_DEGREES, ZOOM)
    known: dict[str, Augmentation] = {
        "translation": Affine(translation=TRANSLATION * side),
        "rotation": Affine(rotation=ROTATION_DEGREES),
        "zoom": Affine(zoom=ZOOM),
        "blur": Blur(BLUR * side),
        "affine": affine,
        "mixed": Compose((affine, Blur(BLUR * side))),
    }
    return known[name]


def _images(images: ImageSet) -> Rows:
    """(N, H, W) of grey images, (N, H, W, C) of others, in [0, 1]."""
    if images.pixels is None:
        raise UserError("images lie in files; kernel methods need data that is held in memory")
    stack = images.pixels.permute(0, 2, 3, 1).double().numpy() / 255
    return stack[..., 0] if stack.shape[-1] == 1 else stack


class KernelNetwork(Network):
    """What every method of the kernel regime has. The seed draws views, landmarks and random features."""

    kind: Literal["kernel"] = "kernel"
    seed: int = Field(0, ge=0)
    data: DataSpec
    regime: Regime

    offers: ClassVar[frozenset[str]] = frozenset({"features", "rows", "kernel"})  # the inner products of its features
    trained: ClassVar[int] = 1  # a closed form sees the data once
    # The settings that concern it: of views, and where a graph of neighbours is asked for.
    regimes: ClassVar[tuple[type[Basis], type[Basis]]]

    @classmethod
    def regime_class(cls, settings: Mapping[str, Any]) -> type[Basis]:
        """The settings that concern it, by the relation that is asked for."""
        of_views, of_neighbours = cls.regimes
        return of_neighbours if settings.get("relation") == "neighbours" else of_views

    @property
    def title(self) -> str:
        return kernel_title(self.method)

    def resolved(self) -> Self:
        return self.model_copy(update={"regime": self.regime.resolved()})

    def check(self, data: DataSet, process: Process) -> None:
        """Rows in memory, of points only where no views are made of them."""
        points, pixels = isinstance(data.train, Points), data.train.pixels
        if pixels is None and not points:
            raise UserError(f"data.source {data.name}: lies in files; kernel methods need data that is held in memory")
        if points and isinstance(self.regime, OnViews) and self.regime.augmentation != "none":
            raise UserError(
                f"regime.relation: is views, and data.source {data.name} holds points, of which no views are made; "
                "give relation neighbours"
            )
        size = self.data.image_size
        if size is not None and pixels is not None and size != pixels.shape[-1]:
            raise UserError(f"data.image_size: is {size}, kernel methods see the images as they are stored")
        neighbours = getattr(self.regime, "n_neighbors", None)
        if neighbours is not None and neighbours >= len(data.train):
            raise UserError(f"regime.n_neighbors: is {neighbours}, must be below the {len(data.train)} rows")

    def make(self, data: DataSet, job: Job) -> Made:
        """Fit it on the main process; the others wait, and end as it does where somebody asked it to."""
        cost, stopped = Cost(), ""
        if job.process.is_main:
            try:
                with job.requests.at_once():
                    fitted, cost = self._fitted(data)
                with full_disk_told(job.folder):
                    write_atomically(job.folder / WEIGHTS_NAME, save(fitted.arrays()))
            except Interrupted as error:
                stopped = str(error)
        cost, stopped = job.process.broadcast((cost, stopped))
        if stopped:
            raise Interrupted(stopped)
        return Made(cost)

    def _fitted(self, data: DataSet) -> tuple[KernelMap, Cost]:
        rows_ND, image_N = self.rows(data.train)
        tracemalloc.start()
        began = time.perf_counter()
        try:
            fitted = self.fit(rows_ND, image_N)
            seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return fitted, Cost(peak_bytes_step=peak, memory_counter="numpy arrays", train_seconds=seconds)

    def rows(self, images: ImageSet) -> tuple[Rows, NDArray[np.int64]]:
        """What it is fitted on: the images' views, or their rows as they are, and the image of each."""
        if isinstance(self.regime, OnViews):
            return views_of(images, self.regime, self.seed)
        rows_ND = plain_rows(images)
        return rows_ND, np.arange(len(rows_ND))

    def fit(self, rows_ND: Rows, image_N: NDArray[np.int64]) -> KernelMap:
        """The map from rows to embeddings."""
        from benchmark.networks import kernel_maps

        return kernel_maps.fit(self, rows_ND, image_N)

    @property
    def random_state(self) -> int:
        """Of the basis."""
        return key(self.seed, "kernel regime", "basis") % 2**32

    def is_kept(self, folder: Path) -> bool:
        return (folder / WEIGHTS_NAME).exists()

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenKernel:
        from benchmark.networks import kernel_maps

        path = folder / WEIGHTS_NAME
        try:
            fitted = kernel_maps.KernelMap.of(load_file(path), kernel_maps.make_kernel(self.regime.kernel))
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no such file; it was not kept, or cleaned away") from error
        except Exception as error:
            raise UserError(f"{path}: is damaged: {error}") from error
        return FrozenKernel(fitted, self.trained, partial(kernel_maps.base_map, self))


class ClosedForm(KernelNetwork):
    """A loss over related rows, solved for the kernel."""

    method: Literal["kernel_spectral", "kernel_vicreg", "kernel_barlow_twins", "kernel_simclr"]
    loss: dict[str, Any] = Field(default_factory=dict, description="the method's options, resolved")
    embedding_dim: int | None = Field(None, ge=2, description="None: every direction that lowers the loss")
    regime: RelatedViews | RelatedNeighbours = Field(discriminator="relation")
    regimes = (RelatedViews, RelatedNeighbours)

    def resolved(self) -> Self:
        if self.method == "kernel_simclr" and self.regime.ridge == 0:
            raise SettingError("regime.ridge", "is 0.0, must be positive for kernel_simclr: without it z grows forever")
        return super().resolved().model_copy(update={"loss": resolve_loss(self.method, self.loss)})


class KernelPCA(KernelNetwork):
    """The leading principal components of the base kernel's features: of all views, where others relate views."""

    method: Literal["kernel_pca"]
    embedding_dim: int = Field(ge=2)
    regime: Basis | OnViews
    regimes = (OnViews, Basis)


class LaplacianEigenmaps(KernelNetwork):
    """Eigenvectors of a graph of neighbours, carried to new rows."""

    method: Literal["laplacian_eigenmaps"]
    embedding_dim: int = Field(ge=2)
    regime: Eigenmaps
    regimes = (Eigenmaps, Eigenmaps)


class BaseKernel(KernelNetwork):
    """The base kernel itself, on a basis of the images' rows."""

    method: Literal["base_kernel"]
    regime: Basis
    regimes = (Basis, Basis)
    trained = 0


class AugmentedBaseKernel(KernelNetwork):
    """The base kernel, whose classifiers learn from labelled views: several rows an image, so no features of it."""

    method: Literal["base_kernel_augmented"]
    regime: OnViews
    regimes = (OnViews, OnViews)
    offers = frozenset({"rows", "kernel"})
    trained = 0

    def resolved(self) -> Self:
        if self.regime.n_views == 1:
            raise SettingError("regime.n_views", "must be 2 or more for base_kernel_augmented, and the relation views")
        return super().resolved()

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenKernel:
        """With the views of labelled images."""
        fitted = super().load(folder, data, device)
        return replace(fitted, views=self.regime.n_views, learned_from=lambda images: self.rows(images)[0])


@dataclass(frozen=True, eq=False)
class FrozenKernel(Frozen):
    """A fitted map of rows; the kernel is z(x)ᵀz(y)."""

    map: KernelMap
    epochs: int
    base: Callable[[Rows], KernelMap]  # φ on a basis of such rows, for pictures
    views: int = 1
    learned_from: Callable[[ImageSet], Rows] = plain_rows
    name: str = "kernel"

    def extract(self, images: ImageSet, batches: Batches) -> Tensor:
        """z (N, d) in float64."""
        return self._mapped(plain_rows(images))

    def bank(self, images: ImageSet, batches: Batches) -> Tensor:
        return self._mapped(self.learned_from(images))

    def _mapped(self, rows_ND: Rows) -> Tensor:
        numbers = self.map.input_dim
        if rows_ND.shape[1] != numbers:
            raise UserError(f"its kernel is of rows of {numbers} numbers, these images have {rows_ND.shape[1]}")
        return torch.from_numpy(self.map.transform(rows_ND))
