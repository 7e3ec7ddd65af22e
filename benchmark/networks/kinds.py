"""The kinds of network that there are. A new kind is a module of its own, and a line here."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from benchmark.networks.base import Network
from benchmark.networks.kernel import AugmentedBaseKernel, BaseKernel, ClosedForm, KernelPCA, LaplacianEigenmaps
from benchmark.networks.simple import Pixels, RandomInit
from benchmark.networks.trained import Trained
from benchmark.networks.weights import Weights

_Kernel = Annotated[
    ClosedForm | KernelPCA | LaplacianEigenmaps | BaseKernel | AugmentedBaseKernel, Field(discriminator="method")
]
AnyNetwork = Annotated[Trained | _Kernel | Pixels | RandomInit | Weights, Field(discriminator="kind")]

# In the order in which `spherebench methods` and messages list what they are called.
KINDS: tuple[type[Network], ...] = (
    Trained,
    Pixels,
    RandomInit,
    ClosedForm,
    BaseKernel,
    AugmentedBaseKernel,
    KernelPCA,
    LaplacianEigenmaps,
)
"""Kinds that a suite's ``method`` names; weights have rows of their own."""

_adapter: TypeAdapter[Any] = TypeAdapter(AnyNetwork)


def method_names() -> tuple[str, ...]:
    """Everything that ``method`` and ``baselines`` may say."""
    return tuple(name for kind in KINDS for name in kind.methods())


def kind_of(method: str) -> type[Network]:
    """The kind that a method is of. Raises ``ValueError`` listing what there is."""
    for kind in KINDS:
        if method in kind.methods():
            return kind
    raise ValueError(f"method {method!r} is not known; there are {', '.join(method_names())}")


def parse_network(fields: dict[str, Any]) -> Network:
    """A network from its settings as a record holds them. Raises ``ValidationError`` where they are none."""
    network: Network = _adapter.validate_json(json.dumps(fields))
    return network
