"""A method that is compared, and how it turns a user's options into the keyword arguments of its loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .kernels.kernel import MAKERS, Makers, RotationInvariantKernel, kernel_parameters, make_kernel
from .kernels.legendre import check_dimension
from .losses.base import Loss, check_views
from .options import check_option
from .pairing import Pairing

SIM_COEFF = "published_sim_coeff"  # c of the published c · mse_loss, the mean over N and D: align_weight = c / D


@dataclass(frozen=True)
class Method:
    """A named loss, its source, its options, their defaults and where those come from.

    defaults: option -> value, in this project's convention (the alignment sums over the D coordinates), or
    `published_sim_coeff` where the published coefficient is what should stay when D changes.
    origin: option -> where its default comes from.
    textbook: the published equation in plain torch, textbook(views, *, pairing, **options); None where there is none.
    draws: whether the loss draws: it then takes a `seed`, which a training loop gives anew at each step.
    published_form: the form of the published code where it goes through the D x D matrix and ours may choose.
    squared: whether `align_weight` weighs a mean squared distance of embeddings, so that SIM_COEFF converts to it.
    kernels: where there is an option `kernel`, what it may name; each kernel's parameters are options beside it.
    """

    name: str
    title: str
    source: str
    loss: Callable[..., Loss]
    defaults: Mapping[str, Any]
    origin: Mapping[str, str]
    textbook: Callable[..., Tensor] | None = None
    published_form: str | None = None
    kernels: Makers = field(default_factory=lambda: MAKERS)
    draws: bool = False
    squared: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "defaults", MappingProxyType(dict(self.defaults)))
        object.__setattr__(self, "origin", MappingProxyType(dict(self.origin)))

    def allowed(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The options this method takes; with a kernel by name among them, that kernel's parameters too."""
        names = list(self._defaults(options))
        if SIM_COEFF in names or (self.squared and "align_weight" in names):
            names += ["align_weight", SIM_COEFF]
        if "kernel" in names:
            names += kernel_parameters(self._kernel(options), self.kernels)
        return tuple(dict.fromkeys(names))

    def resolve(self, options: Mapping[str, Any], embedding_dim: int) -> dict[str, Any]:
        """The loss's keyword arguments for these options at this D, as plain JSON values: what is written down.

        Raises ValueError, in one sentence, on an unknown option or kernel, a value out of range, or both conventions of
        the alignment at once.
        """
        check_dimension(embedding_dim)
        self.check(options)
        resolved = {**self._defaults(options), **options}
        if "align_weight" in options:
            resolved.pop(SIM_COEFF, None)
        elif SIM_COEFF in resolved:
            resolved["align_weight"] = resolved.pop(SIM_COEFF) / embedding_dim
        if "kernel" in resolved:  # two points tell whether it makes a loss at this D
            self.loss([torch.eye(2, embedding_dim)] * 2, **resolved)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in resolved.items()}

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError as `resolve` where the options would not do at any D."""
        allowed = self.allowed(options)
        for name, value in options.items():
            if name not in allowed:
                raise ValueError(
                    f"method {self.name!r} has no option {name!r}: it takes {', '.join(allowed) or 'none'}"
                )
            check_option(self.name, name, value)
        if SIM_COEFF in options and "align_weight" in options:
            raise ValueError(f"method {self.name!r}: give align_weight or {SIM_COEFF} (align_weight times D), not both")

    def __call__(
        self,
        views: Sequence[Tensor],
        *,
        pairing: Pairing | None = None,
        form: str = "auto",
        group: dist.ProcessGroup | None = None,
        **options: Any,
    ) -> Loss:
        """The loss of these views under these options, over the method's defaults. Raises ValueError as `resolve`."""
        check_views(views)
        resolved = self.resolve(options, views[0].shape[1])
        return self.loss(views, pairing=pairing, form=form, group=group, **resolved)

    def _defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults but for those that are parameters of other kernels than the one chosen."""
        if "kernel" not in self.defaults:
            return dict(self.defaults)
        every = {name for kernel in self.kernels for name in kernel_parameters(kernel, self.kernels)}
        others = every.difference(kernel_parameters(self._kernel(options), self.kernels))
        return {name: value for name, value in self.defaults.items() if name not in others}

    def _kernel(self, options: Mapping[str, Any]) -> str:
        name = options.get("kernel", self.defaults["kernel"])
        if not isinstance(name, str) or name not in self.kernels:
            raise ValueError(f"method {self.name!r}: kernel must be {', '.join(self.kernels)}, not {name!r}")
        return name


def split_kernel(
    resolved: Mapping[str, Any], dim: int, makers: Makers = MAKERS
) -> tuple[RotationInvariantKernel, dict[str, Any]]:
    """The kernel that these options describe, and the options that are not its own."""
    own = kernel_parameters(resolved["kernel"], makers)
    kernel = make_kernel(resolved["kernel"], dim, makers, **{name: resolved[name] for name in own if name in resolved})
    return kernel, {name: value for name, value in resolved.items() if name not in (*own, "kernel")}
