"""What is theorem about the kernel regime, shown on small problems with the formulas written out."""

import warnings

import numpy as np
import pytest

from methods.regime import KernelSpectral, KernelVICReg, Laplacian


def positive_part(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 0)) @ vectors.T


def centring(count):
    return np.eye(count) - 1 / count


def graph_laplacian(adjacency):
    return np.diag(adjacency.sum(1)) - adjacency


def one_hot(groups):
    return np.eye(groups.max() + 1)[groups]


def induced(kernel, rows, new, gram):
    """k_x K⁻¹ G K⁻¹ k_x'ᵀ between new rows."""
    coefficients = np.linalg.solve(kernel(rows), kernel(rows, new))
    return coefficients.T @ gram @ coefficients


@pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg])
def test_without_ridge_the_in_sample_gram_does_not_depend_on_the_kernel(cls, problem):
    given = problem()
    grams = [
        cls(base_kernel=kernel, ridge=0).fit(given.rows, groups=given.groups).kernel(given.rows)
        for kernel in (given.kernel, Laplacian(gamma=1.3))
    ]
    np.testing.assert_allclose(grams[0], grams[1], atol=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.45])
def test_the_induced_kernels_are_those_of_the_paper(beta, problem):
    given = problem()
    spectral = KernelSpectral(base_kernel=given.kernel, ridge=0).fit(given.rows, groups=given.groups)
    vicreg = KernelVICReg(base_kernel=given.kernel, ridge=0, beta=beta).fit(given.rows, groups=given.groups)
    contrastive_gram = np.eye(24) + given.adjacency
    vicreg_gram = positive_part(centring(24) - beta / 2 * graph_laplacian(given.adjacency))
    for estimator, gram in ((spectral, contrastive_gram), (vicreg, vicreg_gram)):
        expected = induced(given.kernel, given.rows, given.new, gram)
        np.testing.assert_allclose(estimator.kernel(given.new), expected, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(estimator.kernel(given.rows), gram, atol=1e-9)


@pytest.mark.parametrize("basis", ["exact", "every row a landmark"])
def test_with_ridge_the_primal_solution_is_the_dual_one(basis, problem):
    """Gram = (T − (λ/2) K⁻¹)₊ for features that span the kernel: p = N."""
    given = problem()
    estimator = KernelSpectral(
        base_kernel=given.kernel, basis="exact" if basis == "exact" else given.rows, ridge=0.05
    ).fit(given.rows, groups=given.groups)
    inverse = np.linalg.inv(given.gram)
    gram = positive_part(np.eye(24) + given.adjacency - estimator.ridge_ / 2 * inverse)
    np.testing.assert_allclose(estimator.kernel(given.rows), gram, atol=1e-10)
    expected = induced(given.kernel, given.rows, given.new, gram)
    np.testing.assert_allclose(estimator.kernel(given.new), expected, atol=1e-10)


def test_on_cliques_the_contrastive_solution_extends_the_image_identity(problem):
    given = problem()
    estimator = KernelSpectral(base_kernel=given.kernel, ridge=0).fit(given.rows, groups=given.groups)
    identity = given.kernel(given.new, given.rows) @ np.linalg.solve(given.gram, one_hot(given.groups))
    assert estimator.rank_ == 6
    np.testing.assert_allclose(estimator.kernel(given.new), identity @ identity.T, atol=1e-9)


def test_on_cliques_vicreg_with_a_large_beta_is_the_contrastive_loss(problem):
    given = problem(n_views=4)
    with pytest.warns(UserWarning, match=r"beta=0.5 is at least 2/m on cliques of m=4 views"):
        vicreg = KernelVICReg(base_kernel=given.kernel, beta=0.5, ridge=0).fit(given.rows, groups=given.groups)
    expected = (np.eye(24) + given.adjacency) / 4 - 1 / 24
    np.testing.assert_allclose(vicreg.kernel(given.rows), expected, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smaller = KernelVICReg(base_kernel=given.kernel, beta=0.49, ridge=0).fit(given.rows, groups=given.groups)
    assert abs(smaller.kernel(given.rows) - expected).max() > 1e-3


def test_a_truncation_among_equal_eigenvalues_takes_the_smallest_rkhs_norm(problem):
    """z(x) = k_x K⁻¹ Y v for the d smallest eigenvectors v of YᵀK⁻¹Y."""
    given = problem()
    estimator = KernelSpectral(2, base_kernel=given.kernel, ridge=0).fit(given.rows, groups=given.groups)
    np.testing.assert_allclose(estimator.eigenvalues_, 4.0)
    identity = one_hot(given.groups)
    norms = identity.T @ np.linalg.solve(given.gram, identity)
    vectors = np.linalg.eigh(norms)[1][:, :2]
    z = given.kernel(given.new, given.rows) @ np.linalg.solve(given.gram, identity @ vectors)
    np.testing.assert_allclose(estimator.kernel(given.new), z @ z.T, atol=1e-9)
    assert (estimator.components_**2).sum() == pytest.approx(np.linalg.eigvalsh(norms)[:2].sum())


@pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg])
def test_a_vanishing_ridge_breaks_the_tie_the_same_way(cls, problem):
    given = problem()
    limits = [
        cls(3, base_kernel=given.kernel, ridge=ridge, center=cls is KernelVICReg)
        .fit(given.rows, groups=given.groups)
        .kernel(given.new)
        for ridge in (0.0, 1e-7)
    ]
    np.testing.assert_allclose(limits[0], limits[1], atol=1e-4)


@pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg])
def test_rows_without_relations_give_whitened_kernel_pca(cls, problem):
    given = problem()
    estimator = cls(3, base_kernel=given.kernel, ridge=0, center=cls is KernelVICReg).fit(given.rows)
    centred = centring(24) @ given.gram @ centring(24) if cls is KernelVICReg else given.gram
    vectors = np.linalg.eigh(centred)[1][:, -3:]
    np.testing.assert_allclose(estimator.kernel(given.rows), vectors @ vectors.T, atol=1e-8)


@pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg])
def test_the_extension_ridge_is_kernel_ridge_regression_of_the_in_sample_embedding(cls, problem):
    given = problem()
    interpolating = cls(base_kernel=given.kernel, ridge=0).fit(given.rows, groups=given.groups)
    in_sample = interpolating.transform(given.rows)
    ridge = 0.03 * np.linalg.eigvalsh(given.gram)[-1]
    expected = given.kernel(given.new, given.rows) @ np.linalg.solve(given.gram + ridge * np.eye(24), in_sample)
    extended = cls(base_kernel=given.kernel, ridge=0, extension_ridge=0.03).fit(given.rows, groups=given.groups)
    np.testing.assert_allclose(extended.kernel(given.new), expected @ expected.T, atol=1e-9)
    assert extended.loss_ == interpolating.loss_


def test_the_two_ridges_are_different_regularisers(problem):
    """The RKHS ridge lowers the rank of what is learned; the extension ridge leaves it and shrinks every direction."""
    given = problem()
    fits = {
        name: KernelSpectral(base_kernel=given.kernel, **ridges).fit(given.rows, groups=given.groups)
        for name, ridges in {
            "rkhs": {"ridge": 0.3},
            "extension": {"ridge": 0.0, "extension_ridge": 0.3},
        }.items()
    }
    assert fits["rkhs"].rank_ < fits["extension"].rank_ == 6


@pytest.mark.parametrize("scale", [("images", 3), ("views", 3)])
def test_a_relative_ridge_transfers_between_numbers_of_images_and_of_views(scale, problem):
    """Repeating every row changes neither the relative problem nor its solution, but multiplies λ."""
    given = problem()
    rows = np.repeat(given.rows, 3, axis=0)
    copies = np.repeat(given.groups, 3)
    if scale[0] == "images":
        copies = copies + 100 * np.tile(np.arange(3), len(given.rows))
    base, larger = (
        KernelSpectral(base_kernel=given.kernel, basis=given.rows, ridge=0.02).fit(x, groups=g)
        for x, g in ((given.rows, given.groups), (rows, copies))
    )
    factor = {"images": 3, "views": 9}[scale[0]]
    assert larger.ridge_ == pytest.approx(factor * base.ridge_)
    assert larger.rank_ == base.rank_
    ratio = larger.kernel(given.new) / base.kernel(given.new)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-8)
