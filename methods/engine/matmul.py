"""The types that the engine computes in, and matrix products in the autocast type with float32 accumulation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from .tiles import kind_of, slices

PANELS = 4  # of a symmetric tile: each against the rows from its own on
LEAST_PANEL = {"cpu": 64, "cuda": 2048}  # rows: a smaller one costs a GPU more to launch than it saves


def matmul_dtype(view: Tensor) -> torch.dtype:
    """The type of matrix products: autocast's where it is on (never below float64 inputs), else the embeddings'."""
    device = view.device.type
    if view.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return view.dtype


def working_dtype(view: Tensor) -> torch.dtype:
    """The type of everything that is not a matrix product: float32, or float64 for float64 embeddings."""
    return torch.float64 if view.dtype == torch.float64 else torch.float32


def closed_form(view: Tensor) -> AbstractContextManager[None]:
    """Neither autograd nor autocast: types and gradients are the engine's own business here."""
    device = view.device.type
    # To switch off what is off would take a small loss a tenth of its time.
    return _without_autocast(device) if torch.is_autocast_enabled(device) else torch.no_grad()


@contextmanager
def _without_autocast(device: str) -> Iterator[None]:
    with torch.no_grad(), torch.autocast(device, enabled=False):
        yield


def gram_(out: Tensor, a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """out = a bᵀ."""
    if a_ND.dtype == out.dtype:
        return torch.mm(a_ND, b_MD.T, out=out)
    return out.copy_(_wide_product(a_ND, b_MD.T))


def symmetric_gram_(out: Tensor, a_ND: Tensor) -> Tensor:
    """out = a aᵀ, computing (1 + 1/PANELS)/2 of it and mirroring the rest."""
    for rows in _panels(a_ND):
        gram_(out[rows, rows.start :], a_ND[rows], a_ND[rows.start :])
    return mirror_(out)


def add_upper_gram_(out: Tensor, weights_ND: Tensor, a_ND: Tensor) -> Tensor:
    """out += weights aᵀ, where that is symmetric, on the upper panels only: `mirror_` completes it."""
    for rows in _panels(a_ND):
        add_product_(out[rows, rows.start :], weights_ND[rows], a_ND[rows.start :].T)
    return out


def mirror_(out: Tensor) -> Tensor:
    """Copy the upper panels of a symmetric matrix onto the lower ones."""
    for rows in _panels(out):
        out[rows.stop :, rows] = out[rows, rows.stop :].T
    return out


def _panels(rows: Tensor) -> Iterator[slice]:
    least = LEAST_PANEL[kind_of(rows.device)]
    return slices(len(rows), max(least, -(-len(rows) // PANELS)))


def product_(out: Tensor, weights_NM: Tensor, b_MD: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """out = scale · weights · b; the weights come in the working type and are brought into the type of b.

    `scale` is what :func:`as_operand` gave with b: it is 1 where b has the type of `out`.
    """
    if b_MD.dtype == out.dtype:
        return torch.mm(weights_NM, b_MD, out=out)
    return out.copy_(_scaled_product(weights_NM, b_MD, scale))


def add_product_(out: Tensor, weights_NM: Tensor, b_MD: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """out += scale · weights · b, likewise."""
    if b_MD.dtype == out.dtype:
        return torch.addmm(out, weights_NM, b_MD, out=out)
    return out.add_(_scaled_product(weights_NM, b_MD, scale))


def _scaled_product(weights_NM: Tensor, b_MD: Tensor, scale: Tensor | float) -> Tensor:
    operand_NM, own_scale = as_operand(weights_NM, b_MD.dtype)
    return _wide_product(operand_NM, b_MD).mul_(own_scale * scale)


def as_operand(matrix: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | float]:
    """(m, s) with matrix = s m and m in the type of matrix products.

    In half precision the largest entry of m is 1: float16 has no room for the small weights of a large batch.
    """
    if matrix.dtype == dtype:
        return matrix, 1.0
    scale = matrix.abs().amax().clamp_min(torch.finfo(matrix.dtype).tiny)
    return (matrix / scale).to(dtype), scale


def _wide_product(a: Tensor, b: Tensor) -> Tensor:
    """a b of half-precision factors, accumulated and returned in float32."""
    if a.device.type == "cuda":
        return torch.mm(a, b, out_dtype=torch.float32)
    return torch.mm(a.float(), b.float())  # exact products, summed in float32, as the GPU does


def inner(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ of two matrices: row by row in their type, the rows added up in float64."""
    return torch.linalg.vecdot(a, b).sum(dtype=torch.float64)
