"""Which rows are views of one image: adjacency graphs A (N x N, sparse, symmetric, no loops) and what is made of them.

The natural input is ``groups``: one label a row, equal for the views of one image; its graph is a union of cliques.
Any other relation (nearest neighbours, time, weighted pairs) is a sparse graph. Rows without a relation are images
with a single view.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import kneighbors_graph
from sklearn.utils import check_array, column_or_1d

from .kernels import centre


def clique_graph(groups: np.ndarray) -> sp.csr_array:
    """Return A with A_ij = 1 for i ≠ j of one group: every view of an image is related to every other.

    Raises ValueError where a label is missing (NaN, NaT, None) or infinite, or labels cannot be compared.
    """
    Y_NI = group_indicator(groups)
    return without_loops(Y_NI @ Y_NI.T)


def group_indicator(groups: np.ndarray, n_rows: int | None = None) -> sp.csr_array:
    """Return Y (N, I), 1 where a row is a view of an image. Raises ValueError as :func:`clique_graph`."""
    labels_N = _labels(groups, "groups", n_rows)
    try:
        _, image_N = np.unique(labels_N, return_inverse=True)
    except TypeError as error:
        raise ValueError(f"groups has labels that cannot be compared ({error}): give numbers or strings") from error
    rows = np.arange(len(image_N))
    return sp.csr_array((np.ones(len(rows)), (rows, image_N)))


def pair_graph(pairs: np.ndarray, n_rows: int, weights: np.ndarray | None = None) -> sp.csr_array:
    """Return the symmetric graph of E related pairs of row numbers (E, 2); repeated pairs add their weights."""
    pairs_E2 = np.asarray(pairs)
    if pairs_E2.ndim != 2 or pairs_E2.shape[1] != 2 or not np.issubdtype(pairs_E2.dtype, np.integer):
        raise ValueError(f"pairs must be an integer array of shape (number of pairs, 2), not {pairs_E2.shape}")
    if pairs_E2.size and (pairs_E2.min() < 0 or pairs_E2.max() >= n_rows):
        raise ValueError(f"pairs name row {pairs_E2.min()} to {pairs_E2.max()}, the rows are 0 to {n_rows - 1}")
    weights_E = np.ones(len(pairs_E2)) if weights is None else np.asarray(weights, dtype=float)
    if weights_E.shape != (len(pairs_E2),) or not (np.isfinite(weights_E) & (weights_E >= 0)).all():
        raise ValueError(f"weights must be {len(pairs_E2)} finite numbers of at least 0, one a pair")
    A = sp.csr_array((weights_E, (pairs_E2[:, 0], pairs_E2[:, 1])), shape=(n_rows, n_rows))
    return without_loops(A + A.T)


def knn_graph(X_ND: np.ndarray, n_neighbors: int) -> sp.csr_array:
    """Return the graph that relates two rows when either is among the other's nearest neighbours."""
    X_ND = check_array(X_ND, dtype=np.float64)
    A = sp.csr_array(kneighbors_graph(X_ND - centre(X_ND), n_neighbors))
    return sp.csr_array(A.maximum(A.T))


def temporal_graph(n_rows: int, window: int = 1, sequence: np.ndarray | None = None) -> sp.csr_array:
    """Return the graph that relates rows at most ``window`` steps apart, within one ``sequence`` label where given."""
    label_N = np.zeros(n_rows) if sequence is None else _labels(sequence, "sequence", n_rows)
    lags = range(1, min(window, n_rows - 1) + 1)
    starts = [np.flatnonzero(label_N[lag:] == label_N[:-lag]) for lag in lags]
    pairs = [np.stack([start, start + lag], axis=1) for lag, start in zip(lags, starts, strict=True)]
    return pair_graph(np.concatenate([np.empty((0, 2), dtype=int), *pairs]), n_rows)


def without_loops(A: sp.sparray) -> sp.csr_array:
    """Return A with a zero diagonal."""
    A = sp.csr_array(A, copy=True)
    A.setdiag(0)
    A.eliminate_zeros()
    return A


def with_self_pairs(A: sp.csr_array) -> sp.csr_array:
    """Return A with a loop on every row that is related to no other: an image with one view is its own positive."""
    return sp.csr_array(A + sp.diags_array((degrees(A) == 0).astype(float)))


def adjacency(n_rows: int, groups: np.ndarray | None, graph: sp.sparray | None) -> sp.csr_array:
    """Return the checked adjacency of ``n_rows`` rows from groups, from a graph, or from neither (no relation).

    Raises ValueError where both are given, on a wrong size, and on a graph that is asymmetric or has a negative
    weight or a loop.
    """
    if groups is not None and graph is not None:
        raise ValueError("give groups or graph, not both: they state the same thing")
    if graph is not None:
        A = check_symmetric_graph(graph, n_rows)
        if A.nnz and A.data.min() < 0:
            raise ValueError(f"the graph has a negative weight ({A.data.min():g}): weights must be positive")
        if A.diagonal().any():
            raise ValueError(
                "the graph has loops: its diagonal must be zero, a loss relates a row to itself where it must"
            )
        return A
    if groups is None:
        return sp.csr_array((n_rows, n_rows))
    return clique_graph(_labels(groups, "groups", n_rows))


def _labels(labels: np.ndarray, name: str, n_rows: int | None = None) -> np.ndarray:
    """Return the labels as an array after checking that there is one a row and none is missing."""
    labels_N = column_or_1d(labels)
    if n_rows is not None and len(labels_N) != n_rows:
        raise ValueError(f"{name} has {len(labels_N)} labels for {n_rows} rows: give one a row")
    if labels_N.dtype.kind == "O":
        from pandas import isna  # half a second, which numbers and strings do without

        missing_N = isna(labels_N)
    else:  # NaN and NaT differ from themselves
        missing_N = ~np.isfinite(labels_N) if labels_N.dtype.kind == "f" else labels_N != labels_N
    if missing_N.any():
        row = int(np.argmax(missing_N))
        raise ValueError(f"{name} has the label {labels_N[row]} at row {row}: give every row a label")
    return labels_N


def check_symmetric_graph(graph: sp.sparray, n_rows: int) -> sp.csr_array:
    """Return ``graph`` as a float64 CSR matrix after checking that it is N x N, finite and symmetric."""
    A = sp.csr_array(check_array(graph, accept_sparse="csr", dtype=np.float64, input_name="graph"), copy=True)
    A.eliminate_zeros()
    if A.shape != (n_rows, n_rows):
        raise ValueError(f"the graph has shape {A.shape} for {n_rows} rows: it must be {n_rows} x {n_rows}")
    gap = abs(A - A.T).max() if A.nnz else 0.0
    if gap > 1e-10 * abs(A).max():
        raise ValueError(f"the graph is asymmetric (|A_ij − A_ji| up to {gap:g}): (A + A.T) / 2 would be symmetric")
    return A


def degrees(A: sp.csr_array) -> np.ndarray:
    """Return the N row sums of A."""
    return np.asarray(A.sum(axis=1)).ravel()


def laplacian(A: sp.csr_array) -> sp.csr_array:
    """Return L = D_A − A."""
    return sp.csr_array(sp.diags_array(degrees(A)) - A)


def normalised_adjacency(A: sp.csr_array) -> sp.csr_array:
    """Return D^−½ A D^−½ with D the row sums of A; a row of zeros stays zero."""
    degree_N = degrees(A)
    root = sp.diags_array(np.divide(1.0, np.sqrt(degree_N), out=np.zeros_like(degree_N), where=degree_N > 0))
    return sp.csr_array(root @ A @ root)


def smallest_clique(A: sp.csr_array) -> int | None:
    """Return the size of the smallest clique of two rows or more where A is a union of cliques, else None."""
    if not A.nnz or not (A.data == 1).all():
        return None
    _, component_N = connected_components(A, directed=False)
    sizes_N = np.bincount(component_N)[component_N]
    if not np.array_equal(degrees(A) + 1, sizes_N):
        return None
    return int(sizes_N[sizes_N > 1].min())


def components(A: sp.csr_array) -> list[np.ndarray]:
    """Return the row numbers of each connected component."""
    component_N = connected_components(A, directed=False)[1]
    return np.split(np.argsort(component_N, kind="stable"), np.cumsum(np.bincount(component_N))[:-1])


def component_chunks(A: sp.csr_array, max_rows: int) -> Iterator[np.ndarray]:
    """Yield row numbers in chunks of about ``max_rows`` that no edge of A crosses; a component is never cut."""
    n_components, component_N = connected_components(A, directed=False)
    order_N = np.argsort(component_N, kind="stable")
    ends = np.cumsum(np.bincount(component_N, minlength=n_components))
    start = 0
    while start < len(order_N):
        fitting = ends[ends <= start + max_rows]
        stop = fitting[-1] if len(fitting) and fitting[-1] > start else ends[np.searchsorted(ends, start, side="right")]
        yield order_N[start:stop]
        start = stop
