"""Graphs of related rows."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.regime import KernelSpectral, clique_graph, knn_graph, pair_graph, temporal_graph
from methods.regime.graphs import (
    adjacency,
    component_chunks,
    laplacian,
    normalised_adjacency,
    smallest_clique,
    with_self_pairs,
)

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=20)


@settings(deadline=None, max_examples=40)
@given(LABELS)
def test_views_of_one_image_are_related_and_no_others(labels):
    labels = np.array(labels)
    expected = (labels[:, None] == labels) & ~np.eye(len(labels), dtype=bool)
    np.testing.assert_array_equal(clique_graph(labels).toarray(), expected)


@settings(deadline=None, max_examples=40)
@given(LABELS)
def test_the_smallest_clique_is_the_smallest_repeated_label(labels):
    repeated = [count for count in np.bincount(labels) if count > 1]
    assert smallest_clique(clique_graph(np.array(labels))) == (min(repeated) if repeated else None)


@settings(deadline=None, max_examples=40)
@given(LABELS, st.integers(1, 8))
def test_chunks_cover_the_rows_and_cut_no_edge(labels, size):
    graph = clique_graph(np.array(labels))
    chunks = list(component_chunks(graph, size))
    np.testing.assert_array_equal(np.sort(np.concatenate(chunks)), np.arange(len(labels)))
    assert sum(graph[rows][:, rows].nnz for rows in chunks) == graph.nnz
    largest = max(np.bincount(labels))
    assert all(len(rows) <= max(size, largest) for rows in chunks)


def test_a_path_is_no_clique():
    assert smallest_clique(temporal_graph(4)) is None
    assert smallest_clique(2 * clique_graph(np.array([0, 0, 1]))) is None


def test_pairs_are_symmetric_and_add_their_weights():
    graph = pair_graph(np.array([[0, 1], [1, 0], [2, 2]]), 4, weights=np.array([1.0, 0.5, 9.0])).toarray()
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[1, 0] = 1.5
    np.testing.assert_array_equal(graph, expected)


def test_a_row_is_the_neighbour_of_its_nearest_rows():
    graph = knn_graph(np.array([[0.0], [1.0], [1.1], [5.0]]), 1).toarray()
    np.testing.assert_array_equal(graph, [[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]])


def test_time_relates_steps_within_a_window_and_a_sequence():
    graph = temporal_graph(5, window=2, sequence=np.array([0, 0, 0, 1, 1])).toarray()
    expected = clique_graph(np.array([0, 0, 0, 1, 1])).toarray()
    np.testing.assert_array_equal(graph, expected)
    np.testing.assert_array_equal(temporal_graph(4).toarray(), np.eye(4, k=1) + np.eye(4, k=-1))
    np.testing.assert_array_equal(temporal_graph(2, window=9).toarray(), [[0, 1], [1, 0]])
    assert temporal_graph(1).nnz == 0


def test_laplacian_and_normalised_adjacency():
    graph = clique_graph(np.array([0, 0, 0, 1]))
    assert not np.asarray(laplacian(graph).sum(axis=1)).any()
    np.testing.assert_allclose(normalised_adjacency(graph).toarray(), graph.toarray() / 2)


def test_an_image_with_one_view_is_its_own_positive():
    np.testing.assert_array_equal(with_self_pairs(clique_graph(np.array([0, 0, 1]))).diagonal(), [0, 0, 1])


@pytest.mark.parametrize(
    ("groups", "graph", "message"),
    [
        ([0, 1], np.zeros((2, 2)), "give groups or graph, not both"),
        ([0, 1, 1], None, "groups has 3 labels for 2 rows"),
        (None, np.zeros((3, 3)), r"the graph has shape \(3, 3\) for 2 rows"),
        (None, np.array([[0, 1], [0, 0]]), "the graph is asymmetric"),
        (None, np.array([[0, -1], [-1, 0]]), r"the graph has a negative weight \(-1\)"),
        (None, np.eye(2), "the graph has loops"),
    ],
)
def test_a_relation_that_is_none_is_told_in_one_sentence(groups, graph, message):
    sparse = None if graph is None else sp.csr_array(graph)
    with pytest.raises(ValueError, match=message):
        adjacency(2, groups, sparse)
    with pytest.raises(ValueError, match=message):
        KernelSpectral().fit([[0.0], [1.0]], groups=groups, graph=sparse)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [(np.array([[0, 5]]), "the rows are 0 to 3"), (np.ones((2, 3), int), "shape"), (np.ones((2, 2)), "integer")],
)
def test_pairs_that_name_no_rows_are_told(pairs, message):
    with pytest.raises(ValueError, match=message):
        pair_graph(pairs, 4)


@pytest.mark.parametrize(
    "groups",
    [
        [0.0, np.nan, 1.0],
        ["a", None, "b"],
        np.array(["2026-01-01", "NaT", "2026-01-02"], dtype="datetime64[D]"),
        np.array(["a", np.nan, "b"], dtype=object),
    ],
)
def test_a_missing_label_is_told(groups):
    with pytest.raises(ValueError, match=r"groups has the label .* at row 1: give every row a label"):
        clique_graph(groups)
    with pytest.raises(ValueError, match=r"sequence has the label .* at row 1: give every row a label"):
        temporal_graph(3, sequence=groups)


def test_labels_that_cannot_be_compared_and_of_a_wrong_number_are_told():
    with pytest.raises(ValueError, match="groups has labels that cannot be compared"):
        clique_graph(np.array(["a", 1, "b"], dtype=object))
    assert clique_graph(np.array([np.int64(1), np.int64(1)], dtype=object)).nnz == 2
    with pytest.raises(ValueError, match="sequence has 2 labels for 3 rows"):
        temporal_graph(3, sequence=[0, 0])


@pytest.mark.parametrize("weights", [[1.0, 2.0], [np.nan], [np.inf], [-1.0], 1.0])
def test_weights_that_are_none_are_told(weights):
    with pytest.raises(ValueError, match="weights must be 1 finite numbers of at least 0, one a pair"):
        pair_graph(np.array([[0, 1]]), 3, weights=weights)
