"""Settings of the kernel regime, a class for what concerns each method, and the names of the methods.

Imports nothing heavy, so that a suite is expanded at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from benchmark.runtime.spec import SettingError, Spec

# Methods with a loss: name -> (title, the estimator in methods.regime.ESTIMATORS, the loss's own options).
CLOSED_FORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "kernel_spectral": ("Kernel spectral contrastive", "spectral", {"target": "adjacency"}),
    "kernel_vicreg": ("Kernel VICReg", "vicreg", {"beta": 0.05}),
    "kernel_barlow_twins": ("Kernel Barlow Twins", "barlow_twins", {}),
    "kernel_simclr": ("Kernel SimCLR", "simclr", {"tol": 1e-4, "max_iter": 200, "n_init": 1}),
}
# Rows to compare with, which learn nothing from the relation among views; the first two fit nothing at all.
KERNEL_BASELINES = {
    "base_kernel": "Base kernel",
    "base_kernel_augmented": "Base kernel, labelled views",
    "kernel_pca": "Kernel PCA",
    "laplacian_eigenmaps": "Laplacian eigenmaps",
}
KERNEL_METHODS = (*CLOSED_FORMS, *KERNEL_BASELINES)

AugmentationName = Literal["none", "translation", "rotation", "zoom", "blur", "affine", "mixed"]
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
        degree = 3 if self.name == "polynomial" and self.degree is None else self.degree
        depth = 3 if self.name == "ntk" and self.depth is None else self.depth
        return self.model_copy(update={"degree": degree, "depth": depth})


class Basis(Spec):
    """A base kernel and the basis that its features are taken on: all that a base kernel has."""

    kernel: KernelSpec = KernelSpec()
    basis: Literal["exact", "uniform", "k-means++", "rpcholesky", "fourier"] = "rpcholesky"
    basis_size: int | None = Field(500, ge=1, description="landmarks or random features; none with basis exact")

    def resolved(self) -> Self:
        """With defaults filled in. Raises :class:`SettingError` where something is missing or not allowed."""
        if self.basis != "exact" and self.basis_size is None:
            raise SettingError("regime.basis_size", f"must be given for basis {self.basis}")
        size = None if self.basis == "exact" else self.basis_size
        return self.model_copy(update={"kernel": self.kernel.resolved(), "basis_size": size})


class OnViews(Basis):
    """Of views: their number and how they are made."""

    n_views: int = Field(16, ge=1, description="views of each image, all related to each other")
    augmentation: AugmentationName = "affine"


class Ridged(Spec):
    """The two ridges of a loss, and whether its embedding is centred."""

    ridge: float = Field(1e-2, ge=0, lt=1, description="of the RKHS norm, relative: see methods.regime")
    extension_ridge: float = Field(0.0, ge=0)
    center: bool = True


class RelatedViews(OnViews, Ridged):
    """A loss over the views of an image."""

    relation: Literal["views"] = "views"


class RelatedNeighbours(Basis, Ridged):
    """A loss over each row's nearest neighbours."""

    relation: Literal["neighbours"] = "neighbours"
    n_neighbors: int = Field(ge=1, description="of a row in the graph of neighbours")


class Eigenmaps(Basis):
    """Laplacian eigenmaps: a graph of neighbours, and the ridge of their extension."""

    n_neighbors: int = Field(ge=1, description="of a row in the graph of neighbours")
    extension_ridge: float = Field(0.0, ge=0)


Regime = RelatedViews | RelatedNeighbours | Eigenmaps | OnViews | Basis
ALL_KEYS = frozenset(name for kind in get_args(Regime) for name in kind.model_fields)


def resolve_loss(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A closed form's options over its defaults. Raises ``ValueError`` for one that is not its own."""
    defaults = CLOSED_FORMS[method][2]
    for name, value in options.items():
        if name not in defaults:
            allowed = ", ".join(defaults) or "none"
            raise ValueError(f"option {name!r} is not known to {method}; allowed are {allowed}")
        _check_option(name, value)
    return {**defaults, **options}


def _check_option(name: str, value: Any) -> None:
    if name == "target":
        if value not in ("adjacency", "normalised"):
            raise ValueError(f"target is {value!r}, must be adjacency or normalised")
    elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name} is {value!r}, must be a number of at least 0")
    elif name in ("max_iter", "n_init") and (not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} is {value!r}, must be a whole number of at least 1")


def kernel_title(method: str) -> str:
    """A method's name in tables."""
    return CLOSED_FORMS[method][0] if method in CLOSED_FORMS else KERNEL_BASELINES[method]


def kernel_methods_table() -> list[dict[str, str]]:
    """One row a method of the kernel regime, as `spherebench methods` lists the others."""
    options = {method: CLOSED_FORMS[method][2] if method in CLOSED_FORMS else {} for method in KERNEL_METHODS}
    return [
        {
            "method": method,
            "title": kernel_title(method),
            "defaults": ", ".join(f"{name}={value}" for name, value in defaults.items()),
            "source": "Kiani et al. 2022, section regime of a suite",
        }
        for method, defaults in options.items()
    ]
