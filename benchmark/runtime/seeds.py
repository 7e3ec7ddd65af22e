"""Randomness is keyed, not consumed: a draw depends on what it is for, never on what was drawn before it.

So neither the number of workers, nor of ranks, nor a restart in mid-epoch changes a draw.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def key(*parts: str | int) -> int:
    """A 63-bit seed from named parts, e.g. ``key(seed, "view", epoch, sample, view)``; equal on every platform."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(key(*parts))


@contextmanager
def fork_rng(*parts: str | int) -> Iterator[None]:
    """Inside, torch's global CPU generator is seeded by :func:`key`; afterwards it is where it was.

    For what draws from it: torchvision's transforms, layers' constructors.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key(*parts))
        yield
