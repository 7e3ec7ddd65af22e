"""The names of methods and baselines in tables. Loads no training code."""

from __future__ import annotations

from benchmark.networks.kernel_spec import kernel_title
from methods import registry

_BASELINES = {"raw_pixels": "Raw pixels", "untrained": "Untrained network"}


def title(method: str) -> str:
    """A method's or baseline's name in tables."""
    return _BASELINES.get(method) or kernel_title(method) or registry.get(method).title
