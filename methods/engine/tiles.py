"""How rows and columns are cut: tiles for matrix products, blocks for what is done elementwise."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

CPU_TILE = 1024  # rows of a Gram tile: 4 MiB in float32, and close to the machine's matrix-product rate
CUDA_TILE = 4096
# Entries of a block, at least (but one row) and at most. A GPU's small blocks cost the launches of their kernels: in
# eight blocks SFRIK at N = 256, D = 8192 dispatched five times the operations of its textbook form.
BLOCK_ELEMENTS = {"cpu": (2**16, 2**18), "cuda": (2**22, 2**24)}
OPERAND_ELEMENTS = {"cpu": (2**16, 2**21), "cuda": (2**22, 2**24)}  # where a block is a factor of a matrix product
LEAST_COLUMNS = 256
CACHED = 2**16  # entries of a block that is worked on several times: 256 KiB in float32


def kind_of(device: torch.device) -> str:
    """Whose sizes a device takes: a CPU's, which has caches, or a GPU's, whose kernels cost their launches."""
    return "cpu" if device.type == "cpu" else "cuda"


def tile_rows(device: torch.device) -> int:
    """Rows (and columns) of one tile of the Gram matrix."""
    return CPU_TILE if kind_of(device) == "cpu" else CUDA_TILE


def slices(count: int, step: int, start: int = 0) -> Iterator[slice]:
    """start..count in slices of `step`."""
    for begin in range(start, count, step):
        yield slice(begin, min(begin + step, count))


def row_tiles(view: Tensor) -> Iterator[slice]:
    """Rows in blocks large enough for matrix products."""
    return slices(view.shape[0], tile_rows(view.device))


def _elements(bounds: Mapping[str, tuple[int, int]], device: torch.device, wanted: int) -> int:
    """So many entries for a block as are wanted, within a device's bounds."""
    least, most = bounds[kind_of(device)]
    return max(least, min(most, wanted))


def row_blocks(view: Tensor) -> Iterator[slice]:
    """Rows in eight blocks or more, so that working copies take little memory; smaller ones where there is a cache."""
    elements = _elements(BLOCK_ELEMENTS, view.device, view.numel() // 8)
    return slices(view.shape[0], max(1, elements // view.shape[1]))


def operand_rows(view: Tensor) -> Iterator[slice]:
    """Rows worked out anew for each product, in four blocks or more: large for its rate, but few for the memory."""
    elements = _elements(OPERAND_ELEMENTS, view.device, view.numel() // 4)
    return slices(view.shape[0], max(1, elements // view.shape[1]))


def cached_rows(tile: Tensor) -> Iterator[slice]:
    """Rows of a tile in blocks of which a CPU's cache holds several; on a GPU all at once."""
    return slices(tile.shape[0], max(1, CACHED // tile.shape[1]) if kind_of(tile.device) == "cpu" else tile.shape[0])


def column_tiles(view: Tensor, count: int) -> Iterator[slice]:
    """Columns of `count` rows, in eight blocks or more: a few blocks at a time take little memory."""
    elements = _elements(OPERAND_ELEMENTS, view.device, count * view.shape[1] // 8)
    return slices(view.shape[1], max(LEAST_COLUMNS, elements // count))
