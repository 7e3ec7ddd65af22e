"""What to expect of an augmentation, where the answer is known, and by the formulas written out."""

import numpy as np
import pytest

from methods.regime import ESTIMATORS, RBF, CircleNoise, KernelSpectral
from methods.regime.expectations import Agreement

NOISE = 0.5


def on_circle(images, views, seed=0):
    """Noisy rows of images on a circle, and the image of each."""
    chain, rng = CircleNoise(NOISE), np.random.default_rng(seed)
    x = chain.draw(images, rng)
    return np.concatenate([chain.view(x, rng) for _ in range(views)]), np.tile(np.arange(images), views)


@pytest.fixture(scope="module")
def fitted():
    rows, groups = on_circle(2000, 4)
    learner = KernelSpectral(4, base_kernel=RBF(1.0), basis="rpcholesky", basis_size=30, center=True, random_state=0)
    return learner.fit(rows, groups=groups)


def known(count):
    """λ_1, λ_2, … of the positive-pair kernel: each harmonic has two."""
    return np.repeat(np.exp(-((NOISE * np.arange(1, count // 2 + 1)) ** 2)), 2)


def test_on_a_circle_invariances_and_trace_gap_are_the_eigenvalues(fitted):
    rows, groups = on_circle(3000, 4, seed=1)
    np.testing.assert_allclose(np.sort(fitted.invariances(rows, groups))[::-1], known(4), atol=0.03)
    assert fitted.trace_gap(rows, groups, smoothing=0) == pytest.approx(known(6)[4], abs=0.05)


def test_on_a_circle_the_augmentation_complexity_is_the_sum_of_the_eigenvalues(fitted):
    """K(x, x) is the same at every x: its mean is seen with few views, its maximum the better the more there are."""
    expected, found = 1 + known(40).sum(), {}
    for views in (4, 64):
        rows, groups = on_circle(400, views, seed=2)
        found[views] = fitted.augmentation_complexity(rows, groups, smoothing=1e-6) ** 2
    assert expected < found[64] < 1.4 * expected < found[4]
    agreement = Agreement.of(RBF(1.0)(rows, rows[:40:2]), groups, smoothing=1e-6)
    assert agreement.trace == pytest.approx(expected, rel=0.05)


def test_the_measures_are_their_formulas(problem):
    given = problem(n_images=7, n_views=3)
    estimator = KernelSpectral(2, base_kernel=given.kernel, ridge=0.01).fit(given.rows, groups=given.groups)
    z = estimator.transform(given.rows)
    centred = z - z.mean(axis=0)
    pairs = [(i, j) for i, a in enumerate(given.groups) for j, b in enumerate(given.groups) if a == b and i != j]
    first, second = (centred[list(side)] for side in zip(*pairs, strict=True))
    expected = (first * second).mean(axis=0) / (centred**2).mean(axis=0)
    np.testing.assert_allclose(estimator.invariances(given.rows, given.groups), expected)
    norms = (estimator.components_**2).sum(axis=1) / z.var(axis=0)
    np.testing.assert_allclose(estimator.rkhs_norms(given.rows), norms)
    labels = given.groups % 3
    K, Y = centred @ centred.T, (labels[:, None] == labels).astype(float)
    H = np.eye(len(z)) - 1 / len(z)
    Y = H @ Y @ H
    alignment = (K * Y).sum() / np.linalg.norm(K) / np.linalg.norm(Y)
    assert estimator.label_alignment(given.rows, labels) == pytest.approx(alignment)


def test_the_trace_gap_is_the_least_for_the_leading_eigenfunctions(problem):
    """tr G⁻¹F of random encoders, written out with ρ, and of the best one."""
    given = problem(n_images=30, n_views=5)
    agreement = Agreement.of(given.rows, given.groups, smoothing=0.1)
    centred = given.rows - given.rows.mean(axis=0)
    G = centred.T @ centred / len(centred)
    G += 0.1 * np.linalg.eigvalsh(G)[-1] * np.eye(3)
    image = np.eye(30)[given.groups].T @ centred
    F = (image.T @ image / 4 - centred.T @ centred / 4) / len(centred)
    for W in given.rng.normal(size=(20, 1, 3)):
        ratio = (W @ F @ W.T).item() / (W @ G @ W.T).item()
        assert agreement.trace_gap(W) == pytest.approx(agreement.eigenvalues[:2].sum() - ratio, rel=1e-6)
        assert agreement.trace_gap(W) >= agreement.eigenvalues[1] - 1e-9
    best = np.linalg.eig(np.linalg.solve(G, F))
    leading = np.real(best[1][:, [np.argmax(np.real(best[0]))]]).T
    assert agreement.trace_gap(leading) == pytest.approx(agreement.eigenvalues[1])


@pytest.mark.parametrize("basis", ["exact", "rpcholesky", "fourier"])
@pytest.mark.parametrize("cls", ESTIMATORS.values())
def test_every_estimator_on_every_basis_says_what_to_expect(cls, basis, problem):
    given = problem(n_images=12)
    estimator = cls(3, base_kernel=given.kernel, basis=basis, basis_size=16, ridge=0.05, random_state=0)
    estimator.fit(given.rows, groups=given.groups)
    assert estimator.augmentation_complexity(given.rows, given.groups) > 1
    assert estimator.trace_gap(given.rows, given.groups) > 0
    assert estimator.invariances(given.rows, given.groups).shape == (estimator.rank_,)
    assert (estimator.rkhs_norms(given.rows) > 0).all()
    assert 0 <= estimator.label_alignment(given.rows, given.groups % 2) <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, x, g: e.invariances(x, np.arange(len(x))), "no image has two views"),
        (lambda e, x, g: e.trace_gap(x, g[:-1]), "labels for"),
        (lambda e, x, g: e.trace_gap(x, g, smoothing=-1.0), "smoothing == -1.0, must be at least 0"),
        (lambda e, x, g: e.label_alignment(x, g[:-1]), "inconsistent numbers of samples"),
    ],
)
def test_bad_input_is_one_sentence(call, message, problem):
    given = problem()
    estimator = KernelSpectral(2, base_kernel=given.kernel).fit(given.rows, groups=given.groups)
    with pytest.raises(ValueError, match=message):
        call(estimator, given.rows, given.groups)


def test_of_a_precomputed_kernel_there_are_no_features(problem):
    given = problem()
    estimator = KernelSpectral(2, base_kernel="precomputed").fit(given.gram, groups=given.groups)
    assert estimator.invariances(given.gram, given.groups).shape == (2,)
    with pytest.raises(ValueError, match="features of a precomputed kernel are not kept"):
        estimator.trace_gap(given.gram, given.groups)
