"""Losses of a peer, lightly, where it is installed: measured beside ours as they come, with their own defaults."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

NAME = "lightly"


def _loss(name: str, **options: Any) -> Any:
    return getattr(importlib.import_module("lightly.loss"), name)(**options)


LOSSES: dict[str, Callable[[], Any]] = {
    "simclr": partial(_loss, "NTXentLoss", temperature=0.1),
    "vicreg": partial(_loss, "VICRegLoss"),
    "barlow_twins": partial(_loss, "BarlowTwinsLoss"),
}


def has(method: str) -> bool:
    """Whether the peer is installed and has this loss."""
    return method in LOSSES and importlib.util.find_spec(NAME) is not None


def versions() -> dict[str, str]:
    """That of the peer, once it was measured."""
    return {NAME: importlib.metadata.version(NAME)}
