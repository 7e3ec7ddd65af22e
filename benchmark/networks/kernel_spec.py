"""The settings of a Run in the kernel regime, and the names of what is run there."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from benchmark.runtime.spec import SettingError, Spec

# Methods with a loss: name -> (title, the estimator in methods.regime.ESTIMATORS, the loss's own options).
CLOSED_FORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "kernel_spectral": ("Kernel spectral contrastive", "spectral", {"target": "adjacency"}),
    "kernel_vicreg": ("Kernel VICReg", "vicreg", {"beta": 0.05}),
    "kernel_barlow_twins": ("Kernel Barlow Twins", "barlow_twins", {}),
    "kernel_simclr": ("Kernel SimCLR", "simclr", {"tol": 1e-4, "max_iter": 200, "n_init": 1}),
}
# Rows to compare with, which learn nothing from the relation among views.
KERNEL_BASELINES = {
    "base_kernel": "Base kernel",
    "base_kernel_augmented": "Base kernel, labelled views",
    "kernel_pca": "Kernel PCA",
    "laplacian_eigenmaps": "Laplacian eigenmaps",
}
KERNEL_METHODS = (*CLOSED_FORMS, *KERNEL_BASELINES)
# Of these, the ones that fit nothing at all.
BASE_KERNELS = ("base_kernel", "base_kernel_augmented")

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


class RegimeSpec(Spec):
    """How an embedding is fitted in closed form; the output dimension is the Run's ``embedding_dim``."""

    kernel: KernelSpec = KernelSpec()
    relation: Literal["views", "neighbours"] = Field("views", description="what is related to what")
    n_views: int = Field(16, ge=1, description="views of each image, all related to each other")
    augmentation: AugmentationName = "affine"
    n_neighbors: int | None = Field(None, ge=1, description="of a row in the graph of neighbours")
    basis: Literal["exact", "uniform", "k-means++", "rpcholesky", "fourier"] = "rpcholesky"
    basis_size: int | None = Field(500, ge=1, description="landmarks or random features; none with basis exact")
    ridge: float = Field(1e-2, ge=0, lt=1, description="of the RKHS norm, relative: see methods.regime")
    extension_ridge: float = Field(0.0, ge=0)
    center: bool = True

    def resolved(self, method: str) -> RegimeSpec:
        """Without what does not concern ``method``, so that it enters no hash.

        Raises :class:`SettingError` where something that does is missing or not allowed.
        """
        neutral: dict[str, Any] = {"kernel": self.kernel.resolved()}
        if self.basis == "exact":
            neutral["basis_size"] = None
        elif self.basis_size is None:
            raise SettingError("regime.basis_size", f"must be given for basis {self.basis}")
        spec = self.model_copy(update=neutral | self._neutral(method))
        if (spec.relation == "neighbours" or method == "laplacian_eigenmaps") and spec.n_neighbors is None:
            raise SettingError("regime.n_neighbors", "must be given for a graph of neighbours")
        if method == "kernel_simclr" and spec.ridge == 0:
            raise SettingError("regime.ridge", "is 0.0, must be positive for kernel_simclr: without it z grows forever")
        if method == "base_kernel_augmented" and spec.n_views == 1:
            raise SettingError("regime.n_views", "must be 2 or more for base_kernel_augmented, and the relation views")
        return spec

    def _neutral(self, method: str) -> dict[str, Any]:
        single: dict[str, Any] = {"n_views": 1, "augmentation": "none"}
        no_loss: dict[str, Any] = {"relation": "views", "ridge": 0.0, "center": True}
        if method == "base_kernel":
            return {**single, **no_loss, "n_neighbors": None, "extension_ridge": 0.0}
        if method == "laplacian_eigenmaps":
            return {**single, **no_loss, "relation": "neighbours"}
        if method in ("base_kernel_augmented", "kernel_pca"):
            plain = single if self.relation == "neighbours" else {}
            return {**plain, **no_loss, "n_neighbors": None, "extension_ridge": 0.0}
        return single if self.relation == "neighbours" else {"n_neighbors": None}


def resolve_loss(method: str, options: dict[str, Any]) -> dict[str, Any]:
    """A closed form's options over its defaults. Raises ``ValueError`` for one that is not its own."""
    if method in KERNEL_BASELINES:
        return {}
    defaults = CLOSED_FORMS[method][2]
    for name, value in options.items():
        if name not in defaults:
            allowed = ", ".join(defaults) or "none"
            raise ValueError(f"option {name!r} is not known to {method}; allowed are {allowed}")
        _check_option(name, value)
    return defaults | options


def _check_option(name: str, value: Any) -> None:
    if name == "target":
        if value not in ("adjacency", "normalised"):
            raise ValueError(f"target is {value!r}, must be adjacency or normalised")
    elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name} is {value!r}, must be a number of at least 0")
    elif name in ("max_iter", "n_init") and (not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} is {value!r}, must be a whole number of at least 1")


def kernel_title(method: str) -> str | None:
    """A method's name in tables; None where it is none of the kernel regime."""
    return CLOSED_FORMS[method][0] if method in CLOSED_FORMS else KERNEL_BASELINES.get(method)


def kernel_methods_table() -> list[dict[str, str]]:
    """One row a method of the kernel regime, as `spherebench methods` lists the others."""
    rows = [(name, title, options) for name, (title, _, options) in CLOSED_FORMS.items()]
    rows += [(name, title, {}) for name, title in KERNEL_BASELINES.items()]
    return [
        {
            "method": name,
            "title": title,
            "defaults": ", ".join(f"{option}={value}" for option, value in options.items()),
            "source": "Kiani et al. 2022, section regime of a Run",
        }
        for name, title, options in rows
    ]
