"""Keyed randomness for what draws from torch's global generator: torchvision's transforms, layers' constructors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmark.runtime.seeds import key


@contextmanager
def seeded(*parts: str | int) -> Iterator[None]:
    """Inside, torch's global CPU generator is seeded by :func:`key`; afterwards it is where it was."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(key(*parts))
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
