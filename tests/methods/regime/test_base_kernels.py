"""Base kernels against their definitions, and their lives as values."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics.pairwise import laplacian_kernel, polynomial_kernel, rbf_kernel

from methods.kernels.kernel import distance, exponential, rbf
from methods.regime import NTK, RBF, Laplacian, OnSphere, Polynomial
from methods.regime.kernels import gram, kernel_diag, resolve_kernel


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(30, 4))


EVERY_KERNEL = [RBF(0.3), Laplacian(0.3), Polynomial(3, 0.5, 1.0), NTK(1), NTK(4), OnSphere(exponential(0.3, dim=5))]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (RBF(0.3), lambda x, y: rbf_kernel(x, y, gamma=0.3)),
        (Laplacian(0.3), lambda x, y: laplacian_kernel(x, y, gamma=0.3)),
        (Polynomial(3, 0.5, 2.0), lambda x, y: polynomial_kernel(x, y, degree=3, gamma=0.5, coef0=2.0)),
        (Polynomial(), polynomial_kernel),
    ],
)
def test_kernels_are_those_of_scikit_learn(ours, theirs, rows):
    np.testing.assert_allclose(ours(rows, rows[:5]), theirs(rows, rows[:5]), rtol=1e-12)


@pytest.mark.parametrize("kernel", EVERY_KERNEL, ids=repr)
def test_kernels_are_positive_definite_with_a_diagonal_of_its_own(kernel, rows):
    matrix = kernel(rows)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-12 * np.trace(matrix)
    np.testing.assert_allclose(kernel_diag(kernel, np.tile(rows, (2, 1))), np.tile(np.diag(matrix), 2), rtol=1e-7)


def test_the_ntk_is_that_of_a_wide_relu_network(rows):
    """Inner products of the gradients of a network with two hidden layers of 1,500 units at random weights."""
    generator = torch.Generator().manual_seed(0)
    x, width = torch.from_numpy(rows[:5]), 1500
    shapes = [(4, width), (width, width), (width, 1)]
    weights = [torch.randn(shape, generator=generator, dtype=x.dtype).requires_grad_() for shape in shapes]
    hidden = x
    for weight in weights[:-1]:
        hidden = (2 / width) ** 0.5 * torch.relu(hidden @ weight)
    gradients = [torch.autograd.grad(out, weights, retain_graph=True) for out in (hidden @ weights[-1])[:, 0]]
    tangent_ND = torch.stack([torch.cat([part.ravel() for part in gradient]) for gradient in gradients])
    expected = NTK(2)(rows[:5])
    assert np.abs((tangent_ND @ tangent_ND.T).numpy() - expected).max() < 0.1 * np.abs(expected).max()


def test_the_ntk_of_one_layer_in_closed_form(rows):
    """Orthogonal unit vectors: u¹ = 1/π and Θ¹ = 1/π + 0; k(x, x) = (depth + 1)‖x‖²."""
    np.testing.assert_allclose(NTK(1)(np.eye(2)), [[2.0, 1 / np.pi], [1 / np.pi, 2.0]])
    np.testing.assert_allclose(kernel_diag(NTK(4), rows), 5 * (rows**2).sum(axis=1), rtol=1e-7)


def test_a_row_of_zeros_has_a_tangent_kernel_of_zero():
    assert not NTK(2)(np.zeros((1, 3)), np.ones((2, 3))).any()


def test_rotation_invariant_kernels_meet_their_euclidean_forms_on_the_sphere(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(OnSphere(rbf(0.7, dim=4))(rows), RBF(0.7)(unit), atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "message"),
    [(np.ones((2, 6)), "bound to dimension 5, the rows have 6"), (np.zeros((2, 5)), "row 0 is zero")],
)
def test_a_kernel_on_the_sphere_says_what_it_cannot_take(rows, message):
    with pytest.raises(ValueError, match=message):
        OnSphere(distance(1.0, dim=5))(rows)


@pytest.mark.parametrize("cls", [RBF, Laplacian])
def test_a_bandwidth_left_open_is_taken_from_the_data_once(cls, rows):
    bound = resolve_kernel(cls(), rows)
    assert bound.gamma == pytest.approx(1 / (4 * rows.var()))
    assert resolve_kernel(bound, 10 * rows) is bound
    with pytest.raises(ValueError, match="has no gamma"):
        cls()(rows)
    with pytest.raises(ValueError, match="must be positive"):
        cls(-1.0)(rows)


@pytest.mark.parametrize("kernel", EVERY_KERNEL, ids=repr)
def test_kernels_are_cloned_and_set_by_their_parameters(kernel, rows):
    copy = clone(kernel)
    np.testing.assert_array_equal(copy(rows), kernel(rows))
    assert repr(copy) == repr(kernel)


def test_a_kernel_matrix_is_computed_by_blocks(rows, monkeypatch):
    monkeypatch.setattr("methods.regime.kernels.BLOCK_ENTRIES", 70)
    seen = []

    def kernel(x, y):
        seen.append(len(x))
        return RBF(0.3)(x, y)

    np.testing.assert_allclose(gram(kernel, rows, rows), RBF(0.3)(rows), rtol=1e-12)
    assert max(seen) == 2


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (lambda x, y: np.ones(len(x)), "returned shape"),
        (lambda x, y: np.full((len(x), len(y)), np.nan), "not finite"),
    ],
)
def test_a_callable_that_is_no_kernel_is_told(kernel, message, rows):
    with pytest.raises(ValueError, match=message):
        gram(kernel, rows, rows)


def test_an_unknown_kernel_lists_what_there_is(rows):
    with pytest.raises(
        ValueError, match=r"'gauss' is unknown: give one of rbf, laplacian, polynomial, ntk, precomputed"
    ):
        resolve_kernel("gauss", rows)
