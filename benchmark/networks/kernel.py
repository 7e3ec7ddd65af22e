"""The kind ``kernel``: embeddings solved in closed form for a fixed kernel, and what they are held against.

Fitted on the training images' rows, or views of them; labels are not looked at. Views are made before the clock starts.
Views and maps are in :mod:`benchmark.networks.kernel_maps`, which loads scikit-learn: seconds that a suite without
kernels does not need.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from safetensors.numpy import load_file, save
from torch import Tensor

from benchmark.data import DataSet, DataSpec, ImageSet, Points
from benchmark.networks.base import WEIGHTS_NAME, Diverged, Frozen, Job, Made, Network
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Interrupted
from benchmark.runtime.spec import SettingError, Spec
from results.record import Cost, write_atomically

if TYPE_CHECKING:
    from benchmark.networks.kernel_maps import KernelMap

Rows = NDArray[np.float64]

# Methods with a loss, and the loss's own options; behind the prefix, the estimator in methods.regime.ESTIMATORS.
CLOSED_FORMS: dict[str, dict[str, Any]] = {
    "kernel_spectral": {"target": "adjacency"},
    "kernel_vicreg": {"beta": 0.05},
    "kernel_barlow_twins": {},
    "kernel_simclr": {"tol": 1e-4, "max_iter": 200, "n_init": 1},
}
# Every method and its name in tables. The last four are rows to compare with, which learn nothing from the relation
# among views; the first two of them fit nothing at all.
KERNEL_METHODS = {
    "kernel_spectral": "Kernel spectral contrastive",
    "kernel_vicreg": "Kernel VICReg",
    "kernel_barlow_twins": "Kernel Barlow Twins",
    "kernel_simclr": "Kernel SimCLR",
    "base_kernel": "Base kernel",
    "base_kernel_augmented": "Base kernel, labelled views",
    "kernel_pca": "Kernel PCA",
    "laplacian_eigenmaps": "Laplacian eigenmaps",
}
_PARAMETERS = {"rbf": {"gamma"}, "laplacian": {"gamma"}, "polynomial": {"gamma", "degree"}, "ntk": {"depth"}}


class KernelSpec(Spec):
    """The base kernel. ``gamma`` None: 1 / (D · variance of the pixels), for the polynomial kernel 1 / D."""

    name: Literal["rbf", "laplacian", "polynomial", "ntk"] = "rbf"
    gamma: float | None = Field(None, gt=0)
    degree: int | None = Field(None, ge=1, description="of the polynomial; None: 3")
    depth: int | None = Field(None, ge=1, description="hidden layers of the NTK's network; None: 3")

    @model_validator(mode="after")
    def _own_parameters(self) -> KernelSpec:
        for parameter in ("gamma", "degree", "depth"):
            if getattr(self, parameter) is not None and parameter not in _PARAMETERS[self.name]:
                raise ValueError(f"{parameter} is no parameter of the kernel {self.name}")
        return self

    def resolved(self) -> KernelSpec:
        """With the defaults that are plain numbers filled in."""
        own = _PARAMETERS[self.name] & {"degree", "depth"}
        return self.model_copy(update={name: 3 for name in own if getattr(self, name) is None})


class Basis(Spec):
    """A base kernel and the basis that its features are taken on: all that a base kernel has."""

    kernel: KernelSpec = KernelSpec()
    basis: Literal["exact", "uniform", "k-means++", "rpcholesky", "fourier"] = "rpcholesky"
    basis_size: int | None = Field(500, ge=1, description="landmarks or random features; none with basis exact")

    def resolved(self) -> Self:
        """With defaults filled in. Raises :class:`SettingError` where something is missing or not allowed."""
        if self.basis != "exact" and self.basis_size is None:
            raise SettingError("regime.basis_size", f"must be given for basis {self.basis}")
        if self.basis == "fourier" and self.kernel.name not in ("rbf", "laplacian"):
            raise SettingError(
                "regime.basis", f"is fourier, which the kernel {self.kernel.name} has not; give landmarks"
            )
        if self.basis == "fourier" and self.basis_size is not None and self.basis_size % 2:
            raise SettingError("regime.basis_size", f"is {self.basis_size}, must be even for basis fourier")
        size = None if self.basis == "exact" else self.basis_size
        return self.model_copy(update={"kernel": self.kernel.resolved(), "basis_size": size})


class Several(Spec):
    """Of several rows an image."""

    n_views: int = Field(16, ge=1, description="views of each image, all related to each other")


class Views(Several):
    """Of views of images, and how they are made."""

    augmentation: Literal["none", "translation", "rotation", "zoom", "blur", "affine", "mixed"] = "affine"


class OnViews(Basis, Views):
    """A base kernel on views."""


class OnNoise(Basis, Several):
    """Of points and noise, whose positive-pair kernel is known: :mod:`methods.regime.chains`."""

    noise: float = Field(gt=0, description="of a view: deviation of the angle on a circle, or of each coordinate")


class Ridged(Spec):
    """What regularises a loss, and whether its embedding is centred."""

    ridge: float = Field(1e-2, ge=0, lt=1, description="of the RKHS norm, relative: see methods.regime")
    time: float | None = Field(None, gt=0, description="at which gradient flow is stopped, relative; None: at its end")
    extension_ridge: float = Field(0.0, ge=0)
    center: bool = True

    @model_serializer(mode="wrap")
    def _untimed(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a ``time`` that is None: networks keep the digests that they had before there was one."""
        fields: dict[str, Any] = dump(self)
        return {name: value for name, value in fields.items() if name != "time" or value is not None}


class RelatedViews(OnViews, Ridged):
    """A loss over the views of an image."""

    relation: Literal["views"] = "views"


class RelatedNoise(OnNoise, Ridged):
    """A loss over points that are one image but for noise."""

    relation: Literal["noise"] = "noise"


class RelatedNeighbours(Basis, Ridged):
    """A loss over each row's nearest neighbours."""

    relation: Literal["neighbours"] = "neighbours"
    n_neighbors: int = Field(ge=1, description="of a row in the graph of neighbours")


class Eigenmaps(Basis):
    """Laplacian eigenmaps: a graph of neighbours, and the ridge of their extension."""

    n_neighbors: int = Field(ge=1, description="of a row in the graph of neighbours")
    extension_ridge: float = Field(0.0, ge=0)


Regime = RelatedViews | RelatedNoise | RelatedNeighbours | Eigenmaps | OnViews | OnNoise | Basis
ALL_KEYS = frozenset(name for kind in get_args(Regime) for name in kind.model_fields)


def plain_rows(images: ImageSet) -> Rows:
    """Every image as one row: pixels in [0, 1], or the points as they are."""
    if isinstance(images, Points):
        return images.rows
    pixels = image_stack(images)
    return pixels.reshape(len(pixels), -1)


def check_rows(data: DataSet, numbers: int | None = None) -> None:
    """Raise :class:`UserError` where its images are no rows in memory, or not of so many numbers."""
    images = data.test
    rows_N = images.rows if isinstance(images, Points) else images.pixels
    if rows_N is None:
        raise UserError(f"data.source {data.name}: lies in files; kernel methods need data that is held in memory")
    if numbers not in (None, found := math.prod(rows_N.shape[1:])):
        raise UserError(f"data.source {data.name}: its rows are of {found} numbers; this network sees {numbers}")


def image_stack(images: ImageSet) -> Rows:
    """(N, H, W) of grey images, (N, H, W, C) of others, in [0, 1]."""
    assert images.pixels is not None
    stack = images.pixels.permute(0, 2, 3, 1).double().numpy() / 255
    return stack[..., 0] if stack.shape[-1] == 1 else stack


class FittedOnRows(Network):
    """What is fitted on rows held in memory, by the main process. The seed makes its draws."""

    seed: int = Field(0, ge=0)
    data: DataSpec

    offers: ClassVar[frozenset[str]] = frozenset({"features", "rows", "kernel"})  # the inner products of its features
    leaves_weights: ClassVar[bool] = True
    # What ``regime`` holds, by the relation that is asked for.
    regimes: ClassVar[Mapping[str, type[Spec]]]

    def make(self, data: DataSet, job: Job) -> Made:
        """Fit it on the main process; the others wait, and end as it does where somebody asked it to."""
        cost = Cost()
        ended: Interrupted | Diverged | None = None
        if job.process.is_main:
            try:
                with job.requests.at_once():
                    arrays, cost = self.fitted(data)
                with full_disk_told(job.folder):
                    write_atomically(job.folder / WEIGHTS_NAME, save(arrays))
            except (Interrupted, Diverged) as error:
                ended = error
        cost, ended = job.process.broadcast((cost, ended))
        if ended is not None:
            raise ended
        return Made(cost)

    def fitted(self, data: DataSet) -> tuple[dict[str, NDArray[Any]], Cost]:
        """What is kept of it, fitted on the training images. Raises :class:`Diverged`."""
        raise NotImplementedError


def kept(folder: Path) -> dict[str, NDArray[Any]]:
    """The arrays in a network's folder. Raises :class:`UserError` where they are not there, or damaged."""
    path = folder / WEIGHTS_NAME
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; it was not kept, or cleaned away") from error
    except Exception as error:
        raise UserError(f"{path}: is damaged: {error}") from error


class KernelNetwork(FittedOnRows):
    """What every method of the kernel regime has. The seed draws views, landmarks and random features."""

    kind: Literal["kernel"] = "kernel"
    regime: Regime

    trained: ClassVar[int] = 1  # a closed form sees the data once
    gives: ClassVar[frozenset[str]] = Network.offers

    @property
    def title(self) -> str:
        own = KERNEL_METHODS[self.method]
        return f"{own}, NTK" if self.regime.kernel.name == "ntk" else own

    @property
    def offers(self) -> frozenset[str]:  # type: ignore[override]  # what it is made of is for its settings to say
        """Also a ``kernel``, its features' inner products; ``views`` of images, and the ``chain`` that makes them."""
        regime: Spec = self.regime
        views = {"views"} if isinstance(regime, Several) else set()
        chain = {"chain"} if isinstance(regime, OnNoise) else set()
        return self.gives | {"kernel", *views, *chain}

    def resolved(self) -> Self:
        """Raises :class:`SettingError` where more directions are asked for than the basis has."""
        regime, dim = self.regime.resolved(), getattr(self, "embedding_dim", None)
        if dim is not None and regime.basis_size is not None and dim > regime.basis_size:
            raise SettingError("embedding_dim", f"is {dim}, must be at most regime.basis_size, {regime.basis_size}")
        return self.model_copy(update={"regime": regime})

    def check(self, data: DataSet, process: Process) -> None:
        """Rows in memory, of points only where no views are made of them."""
        size = self.data.image_size
        if isinstance(data.train, Points):
            if isinstance(self.regime, OnViews) and self.regime.augmentation != "none":
                raise UserError(
                    f"regime.relation: is views, and data.source {data.name} holds points, of which no views are made; "
                    "give relation neighbours or noise"
                )
        elif isinstance(self.regime, OnNoise):
            raise UserError(
                f"regime.relation: is noise, on points, and data.source {data.name} holds images; give relation views"
            )
        check_rows(data)
        if data.train.pixels is not None and size not in (None, data.train.pixels.shape[-1]):
            raise UserError(f"data.image_size: is {size}, kernel methods see the images as they are stored")
        neighbours = getattr(self.regime, "n_neighbors", None)
        if neighbours is not None and neighbours >= len(data.train):
            raise UserError(f"regime.n_neighbors: is {neighbours}, must be below the {len(data.train)} rows")
        rows = len(data.train) * (self.regime.n_views if isinstance(self.regime, Several) else 1)
        if (dim := getattr(self, "embedding_dim", None)) is not None and dim >= rows:
            raise UserError(f"embedding_dim: is {dim}, must be below the {rows} rows")

    def fitted(self, data: DataSet) -> tuple[dict[str, NDArray[Any]], Cost]:
        from benchmark.networks import kernel_maps

        rows_ND, image_N = kernel_maps.rows_of(data.train, self.regime, self.seed)
        tracemalloc.start()
        began = time.perf_counter()
        try:
            fitted = kernel_maps.fit(self, rows_ND, image_N)
            seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return fitted.arrays(), Cost(peak_bytes_step=peak, memory_counter="numpy arrays", train_seconds=seconds)

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenKernel:
        from benchmark.networks import kernel_maps

        arrays = kept(folder)
        try:
            fitted = kernel_maps.KernelMap.of(arrays, kernel_maps.make_kernel(self.regime.kernel))
        except KeyError as error:
            raise UserError(f"{folder / WEIGHTS_NAME}: is damaged: {error} is missing") from error
        return FrozenKernel(
            fitted,
            self.trained,
            partial(kernel_maps.base_map, self),
            seed=self.seed,
            made=partial(kernel_maps.rows_of, regime=self.regime) if isinstance(self.regime, Several) else None,
            noise=self.regime.noise if isinstance(self.regime, OnNoise) else None,
        )


class ClosedForm(KernelNetwork):
    """A loss over related rows, solved for the kernel."""

    method: Literal["kernel_spectral", "kernel_vicreg", "kernel_barlow_twins", "kernel_simclr"]
    loss: dict[str, Any] = Field(default_factory=dict, description="the method's options, resolved")
    embedding_dim: int | None = Field(None, ge=2, description="None: every direction that lowers the loss")
    regime: RelatedViews | RelatedNeighbours | RelatedNoise = Field(discriminator="relation")
    regimes = {"views": RelatedViews, "neighbours": RelatedNeighbours, "noise": RelatedNoise}

    def resolved(self) -> Self:
        """Raises ``ValueError`` for an option that is not the loss's own, or a value that is not allowed."""
        if self.method == "kernel_simclr" and self.regime.ridge == 0:
            raise SettingError("regime.ridge", "is 0.0, must be positive for kernel_simclr: without it z grows forever")
        if self.method == "kernel_simclr" and self.regime.time is not None:
            raise SettingError("regime.time", f"is {self.regime.time:g}, must be left out for kernel_simclr: see ridge")
        if isinstance(self.regime, Several) and self.regime.n_views == 1:
            raise SettingError("regime.n_views", f"is 1, must be 2 or more for {self.method}, which relates views")
        return super().resolved().model_copy(update={"loss": loss_options(self.method, self.loss)})


def loss_options(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a closed form's loss. Raises ``ValueError`` for one that is not its own, or out of its range."""
    defaults = CLOSED_FORMS[method]
    for name, value in given.items():
        if name not in defaults:
            allowed = ", ".join(defaults) or "none"
            raise ValueError(f"option {name!r} is not known to {method}; allowed are {allowed}")
        if name == "target":
            if value not in ("adjacency", "normalised"):
                raise ValueError(f"target is {value!r}, must be adjacency or normalised")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r}, must be a number of at least 0")
        elif name in ("max_iter", "n_init") and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is {value!r}, must be a whole number of at least 1")
    return {**defaults, **given}


class KernelPCA(KernelNetwork):
    """The leading principal components of the base kernel's features: of all views, where others relate views."""

    method: Literal["kernel_pca"]
    embedding_dim: int = Field(ge=2)
    regime: Basis | OnViews | OnNoise
    regimes = {"views": OnViews, "neighbours": Basis, "noise": OnNoise}


class LaplacianEigenmaps(KernelNetwork):
    """Eigenvectors of a graph of neighbours, carried to new rows."""

    method: Literal["laplacian_eigenmaps"]
    embedding_dim: int = Field(ge=2)
    regime: Eigenmaps
    regimes = dict.fromkeys(("views", "neighbours", "noise"), Eigenmaps)


class BaseKernel(KernelNetwork):
    """The base kernel itself, on a basis of the images' rows."""

    method: Literal["base_kernel"]
    regime: Basis
    regimes = dict.fromkeys(("views", "neighbours", "noise"), Basis)
    trained = 0


class AugmentedBaseKernel(KernelNetwork):
    """The base kernel, whose classifiers learn from labelled views: several rows an image, so no features of it."""

    method: Literal["base_kernel_augmented"]
    regime: OnViews | OnNoise
    regimes = {"views": OnViews, "neighbours": OnViews, "noise": OnNoise}
    gives = frozenset({"rows"})
    trained = 0

    def resolved(self) -> Self:
        if self.regime.n_views == 1:
            raise SettingError("regime.n_views", "must be 2 or more for base_kernel_augmented, and the relation views")
        return super().resolved()

    def load(self, folder: Path, data: DataSet, device: torch.device) -> FrozenKernel:
        """With the views of labelled images."""
        from benchmark.networks.kernel_maps import rows_of

        fitted, regime = super().load(folder, data, device), self.regime
        return replace(fitted, views=regime.n_views, learned_from=lambda images: rows_of(images, regime, self.seed)[0])


@dataclass(frozen=True, eq=False)
class FrozenKernel(Frozen):
    """A fitted map of rows; the kernel is z(x)ᵀz(y)."""

    map: KernelMap
    epochs: int
    base: Callable[[Rows], KernelMap]  # φ on a basis of such rows, for pictures
    seed: int
    made: Callable[..., tuple[Rows, NDArray[np.int64]]] | None  # of images and a seed, rows and the image of each
    noise: float | None  # of these rows, where it is what they are made by
    views: int = 1
    learned_from: Callable[[ImageSet], Rows] = plain_rows
    name: str = "kernel"

    def check(self, data: DataSet) -> None:
        check_rows(data, self.map.input_dim)

    def extract(self, images: ImageSet) -> Tensor:
        """z (N, d) in float64."""
        return torch.from_numpy(self.map.transform(plain_rows(images)))

    def bank(self, images: ImageSet) -> Tensor:
        return torch.from_numpy(self.map.transform(self.learned_from(images)))

    def views_of(self, images: ImageSet, seed: int) -> tuple[Rows, NDArray[np.int64]]:
        """(views, image number of each), made as those that it was fitted on."""
        assert self.made is not None
        return self.made(images, seed=seed)


def kernel_methods_table() -> list[dict[str, str]]:
    """One row a method of the kernel regime, as `spherebench methods` lists the others."""
    return [listed(method, title, method, "Kiani et al. 2022") for method, title in KERNEL_METHODS.items()]


def listed(method: str, title: str, closed_form: str, source: str) -> dict[str, str]:
    """A row of `spherebench methods`, with the options of a closed form."""
    defaults = ", ".join(f"{name}={value}" for name, value in CLOSED_FORMS.get(closed_form, {}).items())
    return {"method": method, "title": title, "defaults": defaults, "source": f"{source}, section regime of a suite"}
