"""Time, peak memory and flop of several calls, taken in turns so that a busy moment falls on all of them alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmark.runtime.memory import Holder, PeakMemory
from benchmark.runtime.progress import quartiles
from results.record import Quartiles

# Calls are repeated for about BUDGET seconds, within these limits; where one takes longer than PATIENCE, thrice in all.
BUDGET = 3.0
LEAST, MOST = 5, 31
PATIENCE, SLOW = 10.0, 2


class Subject(ABC):
    """One implementation that is measured; called, it takes value and gradient of a loss, or a step."""

    inputs: tuple[Tensor, ...]
    form: str | None = None  # that the last call took

    @abstractmethod
    def __call__(self) -> None:
        """Do it once."""

    @property
    def holders(self) -> tuple[Holder, ...]:
        """What lives before a call: the inputs; of a step, the network and the optimiser too."""
        return self.inputs

    def parts(self, last: int) -> dict[str, float]:
        """Median seconds of its parts over the last calls; none where it has no parts."""
        return {}


def count(call: Callable[[], object], *baseline: Holder, device: torch.device) -> tuple[PeakMemory, int]:
    """Peak memory and flop (of matrix products and convolutions) of one call, which also serves to warm it up."""
    with FlopCounterMode(display=False) as flops, PeakMemory(*baseline, device=device) as memory:
        call()
    return memory, flops.get_total_flops()


def in_turns(calls: Sequence[Callable[[], object]], device: torch.device, budget: float = BUDGET) -> list[list[float]]:
    """Seconds of each call, repeated in turns: (calls, repeats)."""
    first = [seconds(call, device) for call in calls]
    slow = max(first) > PATIENCE
    repeats = SLOW if slow else min(MOST, max(LEAST, int(budget / sum(first))))
    rounds = [[seconds(call, device) for call in calls] for _ in range(repeats)]
    # The first round of slow calls counts: the counting of their memory has warmed them up.
    return [list(column) for column in zip(*([first] if slow else []), *rounds, strict=True)]


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, to its last kernel."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    wait(device)
    began = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - began


def of(taken: Sequence[float]) -> Quartiles:
    """Median and quartiles of at least one time."""
    found = quartiles(list(taken))
    assert found is not None
    return found


def square_product(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], object], int]:
    """A large square matrix product, whose rate a device's other work is held against; and its flop."""
    side = 8192 if device.type == "cuda" else 2048
    factor = torch.randn(side, side).to(device, dtype)
    return partial(torch.mm, factor, factor, out=torch.empty_like(factor)), 2 * side**3
