"""Without ridge and with a kernel matrix of full rank: the solution at the training rows, then its extension.

There the optimal Gram matrix of the training rows is T₊, whatever the kernel [K]: T = I + A (or any target) for the
spectral contrastive loss, Cn − (β/2)L for the VICReg variant. So T's eigenvectors are taken from T itself, one
connected component at a time: on cliques of m views this costs n problems of size m, and what remains is one
triangular solve.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

from .eigen import DENSE_SIZE, TIE, Pairs, start_vector

POSITIVE = 1e-10  # eigenvalues of T below this, relative to its largest, are zeros


def target_eigenpairs(T_NN: sp.csr_array, count: int | None, *, drop_constant: bool) -> Pairs:
    """Return the positive eigenpairs (μ, V) of T, decreasing: the ``count`` largest with all that tie with the last.

    ``drop_constant``: T is I − (β/2)L, of which 1 is an eigenvector that Cn removes.
    """
    wanted = None if count is None else count + drop_constant
    values, V_Nk = _by_component(T_NN, wanted)
    order = np.argsort(values)[::-1]
    order = order[values[order] > POSITIVE * np.abs(values).max()]
    if wanted is not None and wanted < len(order):
        order = order[values[order] >= values[order[wanted - 1]] - TIE * values.max()]
    values, V_Nk = values[order], V_Nk[:, order].toarray()
    return _without_constant(values, V_Nk) if drop_constant else (values, V_Nk)


def _by_component(T_NN: sp.csr_array, wanted: int | None) -> tuple[np.ndarray, sp.csc_array]:
    """Eigenpairs of a block-diagonal T: those of its blocks, each embedded in R^N."""
    _, component_N = connected_components(T_NN, directed=False)
    order_N = np.argsort(component_N, kind="stable")
    components = np.split(order_N, np.cumsum(np.bincount(component_N))[:-1])
    pairs = [_block_pairs(T_NN[rows][:, rows], wanted) for rows in components]
    V_Nk = sp.csr_array(sp.block_diag([vectors for _, vectors in pairs]))
    return np.concatenate([values for values, _ in pairs]), sp.csc_array(V_Nk[np.argsort(order_N)])


def _block_pairs(block: sp.csr_array, wanted: int | None) -> Pairs:
    size = block.shape[0]
    if wanted is None or size <= DENSE_SIZE or wanted >= size:
        return eigh(block.toarray(), driver="evd", check_finite=False)
    bound = 1.001 * abs(block).sum(axis=1).max()
    return eigsh(sp.csc_array(block), k=wanted, sigma=bound, which="LM", v0=start_vector(size))


def _without_constant(values: np.ndarray, V_Nk: np.ndarray) -> Pairs:
    """Rotate the eigenspace of μ = 1 (the components' indicators) so that one vector is constant, and drop that one."""
    tied = np.flatnonzero(np.abs(values - 1.0) <= TIE)
    h_t = V_Nk[:, tied].sum(axis=0)
    h_t /= np.linalg.norm(h_t)
    h_t[0] += np.copysign(1.0, h_t[0])  # Householder: I − 2hhᵀ/hᵀh sends the constant's coordinates to the first axis
    V_Nk[:, tied] -= np.outer(V_Nk[:, tied] @ h_t, h_t * (2 / (h_t @ h_t)))
    keep = np.delete(np.arange(len(values)), tied[0])
    return values[keep], V_Nk[:, keep]
