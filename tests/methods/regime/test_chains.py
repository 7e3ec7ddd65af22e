"""The ground truth: eigenfunctions are those of the positive-pair kernel, and estimators find them with more images."""

import numpy as np
import pytest

from methods.regime import RBF, CircleNoise, GaussianNoise, KernelBarlowTwins, KernelSpectral, KernelVICReg, recovery

CHAINS = {
    "circle": CircleNoise(0.4),
    "torus": CircleNoise(0.3, circles=2),
    "plane": GaussianNoise(0.5, np.random.default_rng(5).normal(size=(60, 2)) * [1.0, 0.7]),
}


def views_of(chain, count, rng):
    """Two views of each of ``count`` images."""
    images = chain.centres[rng.integers(0, 60, count)] if isinstance(chain, GaussianNoise) else chain.draw(count, rng)
    return chain.view(images, rng), chain.view(images, rng)


@pytest.mark.parametrize("name", CHAINS)
def test_eigenfunctions_are_orthonormal_and_views_agree_on_them_by_their_eigenvalue(name):
    chain, rng = CHAINS[name], np.random.default_rng(0)
    first, second = views_of(chain, 40_000, rng)
    (values, f), (_, g) = chain.eigenfunctions(first, 6), chain.eigenfunctions(second, 6)
    assert (np.diff(values) <= 1e-12).all()
    np.testing.assert_allclose(f.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(f.T @ f / len(f), np.eye(6), atol=0.06)
    np.testing.assert_allclose(f.T @ g / len(f), np.diag(values), atol=0.06)


def test_noise_on_a_circle_has_the_harmonics_of_a_wrapped_normal():
    values, f = CircleNoise(0.3).eigenfunctions(np.array([[1.0, 0.0], [0.0, 1.0]]), 4)
    np.testing.assert_allclose(values, np.exp([-0.09, -0.09, -0.36, -0.36]))
    np.testing.assert_allclose(f / np.sqrt(2), [[1, 0, 1, 0], [0, 1, -1, 0]], atol=1e-12)
    values, _ = CircleNoise(0.3, circles=2).eigenfunctions(np.array([[1.0, 0.0, 1.0, 0.0]]), 6)
    np.testing.assert_allclose(values, np.exp([-0.09] * 2 + [-0.36] * 4))


def test_an_eigenfunction_of_gaussian_noise_is_one_of_the_kernel_written_out():
    """E[k₊(a, a') f(a')] = λ f(a) with densities in place of the posterior, over many draws a'."""
    chain, rng = CHAINS["plane"], np.random.default_rng(1)
    draws, at = chain.draw(60_000, rng), chain.draw(5, rng)

    def densities(rows):
        return np.exp(-((rows[:, None] - chain.centres) ** 2).sum(axis=2) / (2 * chain.strength**2))

    own, others = densities(at), densities(draws)
    kernel = 60 * own @ others.T / (own.sum(axis=1)[:, None] * others.sum(axis=1))
    values, f_at = chain.eigenfunctions(at, 3)
    np.testing.assert_allclose(
        kernel @ chain.eigenfunctions(draws, 3)[1] / len(draws), values * f_at, atol=0.05 * np.abs(f_at).max()
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CircleNoise(0.3).eigenfunctions(np.eye(2), 3), r"3 eigenfunctions cut among .* give one of \[2\]"),
        (lambda: CircleNoise(0.3).eigenfunctions(np.eye(4), 2), "rows of 4 columns, must have two for each of 1"),
        (lambda: GaussianNoise(1.0, np.eye(4)).eigenfunctions(np.eye(4), 3), "there are 3, give fewer"),
        (lambda: GaussianNoise(1.0, np.eye(4)).eigenfunctions(np.eye(4), 2), "must have at most 3"),
    ],
)
def test_what_has_no_such_eigenfunctions_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_recovery_is_one_of_what_is_linear_in_z_and_zero_of_what_is_not():
    f = np.linalg.qr(np.random.default_rng(0).normal(size=(500, 9)))[0]
    f -= f.mean(axis=0)
    np.testing.assert_allclose(recovery(f[:, :3] @ np.triu(np.ones((3, 3))) + 5, f[:, :3]), 1)
    np.testing.assert_allclose(recovery(f[:, :2], f[:, :3]), [1, 1, 0], atol=1e-3)
    np.testing.assert_allclose(recovery(f[:, 3:6], f[:, :3]), 0, atol=1e-3)
    np.testing.assert_allclose(recovery(f[:, [0]] + f[:, [4]], f[:, [0]]), 0.5, atol=1e-2)


def found_of(cls, images, ridge=1e-3, **options):
    """The mean recovered of six functions on a torus, on fresh views and on the ones that were fitted on."""
    chain, rng = CircleNoise(0.4, circles=2), np.random.default_rng(0)
    x = chain.draw(images, rng)
    views = np.concatenate([chain.view(x, rng) for _ in range(4)])
    options |= {"basis": "rpcholesky", "basis_size": 150, "ridge": ridge, "center": True, "random_state": 0}
    estimator = cls(6, base_kernel=RBF(), **options).fit(views, groups=np.tile(np.arange(images), 4))
    fresh = chain.draw(4000, rng)
    return [recovery(estimator.transform(a), chain.eigenfunctions(a, 6)[1]).mean() for a in (fresh, views)]


@pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg])
def test_with_more_images_the_closed_forms_approach_the_eigenfunctions(cls):
    few, more = found_of(cls, 100)[0], found_of(cls, 1500)[0]
    assert few < 0.8 < 0.9 < more


def test_a_large_ridge_leaves_what_the_base_kernel_prefers_and_so_does_barlow_twins():
    """The kernel knows no circle from the other: it finds the first harmonics of both, four of the six functions."""
    for cls, ridge in ((KernelSpectral, 0.1), (KernelBarlowTwins, 1e-3)):
        assert found_of(cls, 1000, ridge)[0] == pytest.approx(4 / 6, abs=0.03)
