"""Augmented views of images."""

import numpy as np
import pytest

from methods.regime import Affine, Blur, Compose, make_views


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def disc():
    """A smooth blob off the centre, on 15 x 15 pixels."""
    y, x = np.mgrid[:15, :15]
    return np.exp(-((y - 7) ** 2 + (x - 9) ** 2) / 4)


def centroid(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(image * y).sum(), (image * x).sum()]) / image.sum() - 7


def test_no_augmentation_is_the_image(disc, rng):
    np.testing.assert_allclose(Affine()(disc[None], rng)[0], disc, atol=1e-12)
    np.testing.assert_allclose(Blur(0.0)(disc[None], rng)[0], disc)


def test_translation_moves_by_at_most_its_range(disc, rng):
    moved = np.array([centroid(view) for view in Affine(translation=2.0)(np.stack([disc] * 200), rng)]) - centroid(disc)
    assert 1.8 < np.abs(moved).max() < 2.05
    assert np.abs(moved.mean(axis=0)).max() < 0.3


def test_rotation_turns_about_the_centre(disc, rng):
    places = np.array([centroid(view) for view in Affine(rotation=90.0)(np.stack([disc] * 200), rng)])
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 2.0, atol=0.05)
    assert np.abs(np.rad2deg(np.arctan2(places[:, 0], places[:, 1]))).max() > 80


def test_zoom_scales_the_mass_by_its_square(disc, rng):
    mass = np.array([view.sum() for view in Affine(zoom=1.3)(np.stack([disc] * 200), rng)]) / disc.sum()
    assert 1 / 1.3**2 - 0.02 < mass.min() < 0.65
    assert 1.6 < mass.max() < 1.3**2 + 0.02


def test_blur_keeps_the_mass_and_lowers_the_peak(disc, rng):
    blurred = Blur(1.0)(np.stack([disc] * 50), rng)
    np.testing.assert_allclose(blurred.sum(axis=(1, 2)), disc.sum(), rtol=1e-3)
    assert blurred.max(axis=(1, 2)).min() < 0.8 * disc.max()


@pytest.mark.parametrize("augmentation", [Affine(1.0, 10.0, 1.1), Blur(1.0), Compose((Affine(1.0), Blur(0.5)))])
def test_channels_are_transformed_alike(augmentation, disc):
    grey = augmentation(disc[None], np.random.default_rng(5))
    colour = augmentation(np.stack([disc, 2 * disc, 0 * disc], axis=-1)[None], np.random.default_rng(5))
    np.testing.assert_allclose(colour[..., 0], grey, atol=1e-12)
    np.testing.assert_allclose(colour[..., 1], 2 * grey, atol=1e-12)
    assert not colour[..., 2].any()


def test_views_of_an_image_stand_together_and_differ(disc):
    images = np.stack([disc, 2 * disc, 3 * disc])
    views, groups = make_views(images, Affine(translation=1.0), n_views=4, seed=1)
    assert views.shape == (12, 225)
    np.testing.assert_array_equal(groups, np.repeat([0, 1, 2], 4))
    assert len(np.unique(views[:4].round(9), axis=0)) == 4
    assert views[8:].max() > 2.5 > views[:4].max()
    again, _ = make_views(images, Affine(translation=1.0), n_views=4, seed=1)
    np.testing.assert_array_equal(again, views)
    other, _ = make_views(images, Affine(translation=1.0), n_views=4, seed=2)
    assert np.abs(other - views).max() > 0.1


def test_rows_are_refused():
    with pytest.raises(ValueError, match=r"an image has shape \(64,\), must be \(H, W\)"):
        make_views(np.zeros((5, 64)), Affine(translation=1.0), n_views=2)
