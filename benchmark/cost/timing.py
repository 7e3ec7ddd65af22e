"""Time, peak memory and flop of several calls, taken in turns so that a busy moment falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark.runtime.clock import quartiles
from benchmark.runtime.memory import Holder, PeakMemory
from results.record import Quartiles

# Calls are repeated for about BUDGET seconds, within these limits; where one takes longer than PATIENCE, thrice in all.
BUDGET = 3.0
LEAST, MOST = 5, 31
PATIENCE, SLOW = 10.0, 2
_SQUARE = {"cpu": 2048, "cuda": 8192}


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
    synchronise(device)
    began = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Wait for a CUDA device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def of(taken: Sequence[float]) -> Quartiles:
    """Median and quartiles of at least one time."""
    found = quartiles(list(taken))
    assert found is not None
    return found


class SquareProduct:
    """A large square matrix product: the rate that a device's other work is held against."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.side = _SQUARE[device.type]
        self._factor = torch.randn(self.side, self.side).to(device, dtype)
        self._out = torch.empty_like(self._factor)

    def __call__(self) -> None:
        """Multiply once."""
        torch.mm(self._factor, self._factor, out=self._out)

    def rate(self, taken: Sequence[float]) -> float:
        """Flop per second, of the median time."""
        return 2 * self.side**3 / of(taken).median
