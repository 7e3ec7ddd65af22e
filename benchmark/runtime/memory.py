"""Peak memory of a block of code: by counting live tensor storages anywhere, by the allocator on CUDA.

What both count, in bytes: what is named and lived at the start of the block is ``baseline_bytes``, everything else is
relative to that, so a block that needs nothing has ``peak_bytes == 0`` and the whole peak is ``baseline + peak``.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.runtime.errors import says_out_of_memory

Holder = nn.Module | torch.optim.Optimizer | Tensor

# Its output is its input, a tensor that torch.tensor() has just made out of sight of any mode.
_LIFT_FRESH = torch.ops.aten.lift_fresh.default


class PeakMemory:
    """Context manager that measures the peak of tensor memory inside its block.

    On the CPU, and for fake or meta tensors of any device, it counts live tensor storages: a storage counts from the
    operation that returns it to the moment it is freed, once however many views it has, forward and backward. Not
    seen: workspace inside one ATen kernel, memory of numpy, and the allocator's rounding. A tensor from before the
    block counts nothing when it is written in place; it is subtracted when it is freed if it is in the baseline. What
    is compiled runs uncompiled inside the block, since compiled code hides its operations.
    With ``device`` a CUDA device it reads that device's allocator; blocks may be nested there too. What lay there and
    is not named, of earlier runs or a data set, is no part of the peak: it is ``resident_bytes``.

    Counting costs 5 to 10 microseconds an operation (CPU, torch 2.15): do not time the code inside the block.

    Args:
        *baseline: modules (parameters, buffers, gradients), optimisers (their state) and tensors that live at the
            start.
        device: where the memory is: a CUDA device selects the allocator.

    Example:
        >>> with PeakMemory(model, optimizer) as memory:
        ...     step()
        >>> memory.baseline_bytes + memory.peak_bytes  # what the device must hold
    """

    def __init__(self, *baseline: Holder, device: torch.device | str = "cpu") -> None:
        on_cuda = torch.device(device).type == "cuda"
        self._counter = _Allocator(torch.device(device), baseline) if on_cuda else _Storages(baseline)

    def __enter__(self) -> PeakMemory:
        self._counter.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._counter.__exit__(*error)

    @property
    def baseline_bytes(self) -> int:
        """Of what was named, live at the start."""
        return self._counter.baseline

    @property
    def resident_bytes(self) -> int:
        """Of what was not named, live at the start: only an allocator knows of it."""
        return self._counter.resident

    @property
    def peak_bytes(self) -> int:
        """The most that was live at once inside the block, less what lived at the start."""
        return self._counter.peak - self._counter.baseline


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice: most that allocate have no exception class of their own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and says_out_of_memory(str(error))


class _Storages(TorchDispatchMode):
    """Keeps the sizes of the live storages that the block's operations returned, and their running sum."""

    def __init__(self, baseline: tuple[Holder, ...]) -> None:
        super().__init__()
        # StorageImpl address -> (weak reference whose callback forgets the storage, its bytes)
        self._known: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}
        self.live = self.peak = self.resident = 0
        for storage in _storages_in([_held(holder) for holder in baseline]):
            self._count(storage)
        self.baseline = self.live

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for storage in _storages_in((out,)):
            # One that came in with the inputs and is not counted lived before the block.
            is_older = storage._cdata not in self._known and any(
                given._cdata == storage._cdata for given in _storages_in((args, kwargs))
            )
            if func is _LIFT_FRESH or not is_older:
                self._count(storage)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        known = self._known.get(address)
        if known is None:
            self._known[address] = (weakref.ref(storage, lambda _: self._forget(address)), size)
            self.live += size
        elif known[1] != size:  # resized in place
            self._known[address] = (known[0], size)
            self.live += size - known[1]
        self.peak = max(self.peak, self.live)

    def _forget(self, address: int) -> None:
        self.live -= self._known.pop(address)[1]


class _Allocator:
    """The CUDA allocator's own account. Its peak is one register a device, so nested blocks hand it on."""

    _open: list[_Allocator] = []

    def __init__(self, device: torch.device, baseline: tuple[Holder, ...]) -> None:
        self._device = device
        named = {storage._cdata: storage for storage in _storages_in([_held(holder) for holder in baseline])}
        self.baseline = sum(storage.nbytes() for storage in named.values() if storage.device.type == device.type)
        self.peak = self.resident = 0

    @property
    def live(self) -> int:
        return torch.cuda.memory_allocated(self._device) - self.resident

    def __enter__(self) -> None:
        for outer in self._open:
            outer._read_peak()
        torch.cuda.reset_peak_memory_stats(self._device)
        self.resident = torch.cuda.memory_allocated(self._device) - self.baseline
        self.peak = self.baseline
        self._open.append(self)

    def __exit__(self, *_: object) -> None:
        self._read_peak()
        self._open.remove(self)

    def _read_peak(self) -> None:
        self.peak = max(self.peak, torch.cuda.max_memory_allocated(self._device) - self.resident)


def _storages_in(tree: Any) -> Iterator[torch.UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _held(holder: Holder) -> Any:
    if isinstance(holder, nn.Module):
        parameters = list(holder.parameters())
        return [*holder.buffers(), *parameters, *(parameter.grad for parameter in parameters)]
    return dict(holder.state) if isinstance(holder, torch.optim.Optimizer) else holder
