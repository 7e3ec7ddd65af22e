"""Every registered loss as a `torch.nn.Module`, for a training script of one's own:

    from methods.modules import SFRIK

    criterion = SFRIK(align_weight=0.5)
    loss = criterion(z0, z1)  # a scalar; two or more views' embeddings (N, D), not normalised

The classes are made from the registry: `SFRIKL1`, `SFRIKL2`, `SFRIKL3` (which is `SFRIK`), `MMD`, `AUH`, `VICReg`,
`BarlowTwins`, `SimCLR`, … and, when asked for, one of a method that is registered later. Options, defaults and their
errors are the method's, published conventions included: `VICReg(published_sim_coeff=25)`.

Half precision, a scaler and accumulated gradients need nothing further. Over processes give the `group`: each passes
its own rows, and the loss, and the gradients once DistributedDataParallel has averaged them, are those of the whole
batch. Under `torch.compile` a module is a break in the graph, as its gradient is made outside autograd.
"""

from __future__ import annotations

import hashlib
from inspect import Parameter, Signature
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from . import registry
from .losses.base import Loss, check_views
from .method import Method
from .pairing import Pairing

# Words of the registry's names that are not written with one capital letter.
_SPELLED = (
    *("SFRIK", "MMD", "AUH", "VICReg", "SimCLR", "DCL", "KSD", "KL", "SIGReg", "SUSReg", "VISReg"),
    *("FroSSL", "VNE", "MMCR"),
)
_WORDS = {word.lower(): word for word in _SPELLED}
_ALIASES = {"SFRIK": "SFRIKL3"}  # with the published weights


class LossModule(nn.Module):
    """A registered loss with its options.

    pairing: which views are aligned and which regularised; None: as the loss has it. form: primal, dual, …, or auto.
    group: the processes that share a batch. Raises ValueError as the method does, on unknown options when it is made.
    """

    method: ClassVar[Method]

    def __init__(
        self,
        *,
        pairing: Pairing | None = None,
        form: str = "auto",
        group: dist.ProcessGroup | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.method.check(options)
        self.options, self.pairing, self.form, self.group = options, pairing, form, group
        self._resolved: dict[int, dict[str, Any]] = {}  # embedding dimension -> the loss's arguments

    @torch.compiler.disable
    def forward(self, *views: Tensor) -> Tensor:
        """The loss, a scalar in float32, or float64 for float64 views."""
        return self.loss(*views).value

    def loss(self, *views: Tensor) -> Loss:
        """The loss with its named terms. A call like any other: a loss that draws draws anew."""
        check_views(views)
        dim = views[0].shape[1]
        if dim not in self._resolved:
            self._resolved[dim] = self.method.resolve(self.options, dim)
        arguments = {**self._resolved[dim], **self._drawn()}
        return self.method.loss(views, pairing=self.pairing, form=self.form, group=self.group, **arguments)

    def _drawn(self) -> dict[str, int]:
        """What a loss that draws is given at this call."""
        return {}

    def extra_repr(self) -> str:
        given = {**self.options, "pairing": self.pairing, "form": self.form}
        return ", ".join(f"{name}={value!r}" for name, value in given.items() if value not in (None, "auto"))


class DrawingLossModule(LossModule):
    """A loss that draws, in training anew at every call: by the seed and the number of the call, which is its state.

    All processes draw the same, as they make the same calls; a training that goes on from a state dict draws what it
    would have drawn. In evaluation every call draws alike, and none is counted.
    """

    def __init__(self, *, seed: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self.seed, self.calls = seed, 0

    def _drawn(self) -> dict[str, int]:
        if not self.training:
            return {"seed": _key(self.seed, "evaluation")}
        self.calls += 1
        return {"seed": _key(self.seed, self.calls - 1)}

    def get_extra_state(self) -> dict[str, int]:
        return {"seed": self.seed, "calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.seed, self.calls = state["seed"], state["calls"]

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [super().extra_repr(), f"seed={self.seed}"]))


def _key(*parts: int | str) -> int:
    """A 63-bit seed, equal on every platform."""
    digest = hashlib.blake2b("/".join(map(str, ("loss", *parts))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def class_name(method: str) -> str:
    """The class of a method: barlow_twins -> BarlowTwins."""
    return "".join(_WORDS.get(word, word.capitalize()) for word in method.split("_"))


def _module_class(method: Method) -> type[LossModule]:
    base = DrawingLossModule if method.draws else LossModule
    settings = {"pairing": None, "form": "auto", "group": None, **({"seed": 0} if method.draws else {})}

    def __init__(self: Any, **given: Any) -> None:  # noqa: N807
        base.__init__(self, **given)

    arguments = [Parameter("self", Parameter.POSITIONAL_ONLY)]
    for name, value in {**method.defaults, **settings}.items():
        arguments.append(Parameter(name, Parameter.KEYWORD_ONLY, default=value))
    vars(__init__)["__signature__"] = Signature(arguments)
    options = [f"    {name}={value!r}: {method.origin[name]}" for name, value in method.defaults.items()]
    document = "\n".join([f"{method.title}: {method.source}.", "", *options, "", base.__doc__ or ""])
    members = {"method": method, "__init__": __init__, "__doc__": document, "__module__": __name__}
    return type(class_name(method.name), (base,), members)


def __getattr__(name: str) -> Any:
    """The class of that name, made when it is first asked for."""
    methods = {class_name(method): method for method in registry.names()}
    if name in _ALIASES:
        name = _ALIASES[name]
    if name not in methods:
        known = ", ".join([*_ALIASES, *methods])
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: it has {known}")
    if name not in globals():
        globals()[name] = _module_class(registry.get(methods[name]))
    return globals()[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *_ALIASES, *map(class_name, registry.names())])
