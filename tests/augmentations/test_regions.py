"""Augmentations of a part of the image: what they cover and how it is drawn. And of colours, blur and halves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from robust_jax.augmentations import (
    ColourJitter,
    Cutout,
    GaussianBlur,
    HorizontalFlip,
    PatchGaussian,
    RandomErasing,
    RandomResizedCrop,
    Yoco,
)
from robust_jax.images import enhance

pytestmark = pytest.mark.long

IMAGE = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (12, 9, 3)), jnp.float32)
KEY = jax.random.key(0)


def many(augmentation, num, image=IMAGE, seed=0):
    return np.asarray(jax.vmap(augmentation, (0, None))(jax.random.split(jax.random.key(seed), num), image))


def boxes(changed):
    """Top, left, height and width of what changed, each a full rectangle; of those where anything did."""
    found = []
    for mask in changed:
        if mask.any():
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = rows[0], columns[0], rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
            assert mask.sum() == box[2] * box[3]
            found.append(box)
    return np.array(found)


def test_cutout_is_a_square_about_any_pixel():
    covered = (many(Cutout(size=4, fill=0.0), 3000) == 0).all(axis=-1)
    top, left, height, width = boxes(covered).T
    # The square about row r covers r − 2 to r + 1, so that its last row tells r.
    row, column = np.where(top > 0, top + 2, height - 2), np.where(left > 0, left + 2, width - 2)
    assert stats.chisquare(np.bincount(row, minlength=12)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(column, minlength=9)).pvalue > 1e-3
    np.testing.assert_array_equal(Cutout(size=0)(KEY, IMAGE), IMAGE)


def test_erasing():
    erased = many(RandomErasing(probability=0.7, area=(0.1, 0.3), ratio=(0.5, 2.0), content="constant", fill=0.0), 3000)
    found = boxes((erased == 0).all(axis=-1))
    assert stats.binomtest(len(found), 3000, 0.7).pvalue > 1e-3
    top, left, height, width = found.T
    assert (top + height).max() == 12
    assert (left + width).max() == 9
    # Rounded sides hold the area and the ratio only roughly.
    assert abs(np.mean(height * width / 108) - 0.2) < 0.01
    assert abs(np.mean(np.log(height / width))) < 0.05
    assert stats.chisquare(np.bincount(top[height == 4], minlength=9)).pvalue > 1e-3
    kept = np.where((erased == 0).all(axis=-1, keepdims=True), np.asarray(IMAGE)[None], erased)
    np.testing.assert_array_equal(kept, np.broadcast_to(IMAGE, kept.shape))


def test_erasing_with_noise_and_where_nothing_fits():
    noisy = many(RandomErasing(probability=1.0, area=(1.0, 1.0), ratio=(12 / 9, 12 / 9)), 200)
    assert stats.kstest(noisy.ravel(), "uniform").pvalue > 1e-3
    wide = RandomErasing(probability=1.0, area=(0.9, 1.0), ratio=(0.01, 0.02))
    np.testing.assert_array_equal(many(wide, 5), np.broadcast_to(IMAGE, (5, *IMAGE.shape)))


def test_patches_of_noise():
    """The noise of the middle tells σ, if the patch is wider than the image."""
    grey = jnp.full((9, 9, 20), 0.5)
    noise = many(PatchGaussian(size=20, sigma=0.1), 2000, grey) - 0.5
    sigmas = noise[:, 4, 4].std(axis=-1)
    assert abs(np.mean(sigmas**2) - 0.01 / 3) < 0.0003
    covered = np.abs(many(PatchGaussian(size=3, sigma=0.1), 2000, grey) - 0.5).max(axis=-1) > 0
    sizes = boxes(covered)[:, 2:]
    assert sizes.max() == 3
    inner = covered[:, 4, 4].mean()
    assert stats.binomtest(int(covered[:, 4, 4].sum()), 2000, 9 / 81).pvalue > 1e-3, inner
    sizes = boxes(np.abs(many(PatchGaussian(size=5, random_size=True, sigma=0.1), 2000, grey) - 0.5).max(axis=-1) > 0)
    assert set(sizes[:, 2]) == {1, 2, 3, 4, 5}


def test_resized_crop_of_a_ramp():
    """Of planes that rise downwards and to the right, an inner crop holds where it was cut."""
    y, x = np.mgrid[:40, :30].astype(np.float32)
    planes = jnp.asarray(np.stack([y, x, 0 * x], axis=-1) / 100)
    cropped = 100 * many(RandomResizedCrop(area=(0.2, 0.6), ratio=(0.5, 1.5)), 2000, planes)
    slope_down = (cropped[:, 22, 15, 0] - cropped[:, 18, 15, 0]) / 4
    slope_across = (cropped[:, 20, 17, 1] - cropped[:, 20, 13, 1]) / 4
    height, width = 40 * slope_down, 30 * slope_across
    np.testing.assert_allclose(height, np.round(height), atol=0.01)
    np.testing.assert_allclose(width, np.round(width), atol=0.01)
    assert abs(np.mean(height * width / 1200) - 0.4) < 0.01
    assert 0.45 < (width / height).min() < (width / height).max() < 1.6
    # The middle's row reads at top + (20 + 1/2) h / 40 − 1/2.
    top = np.round(cropped[:, 20, 15, 0] - (20.5 * slope_down - 0.5))
    small = np.round(height) == 25
    assert stats.chisquare(np.bincount(top[small].astype(int), minlength=16)).pvalue > 1e-3


def test_resized_crop_as_a_whole_and_where_nothing_fits():
    whole = RandomResizedCrop(area=(1.0, 1.0), ratio=(0.75, 0.75))
    np.testing.assert_allclose(whole(KEY, IMAGE), IMAGE, atol=1e-6)
    # Squares of the whole area never fit: the greatest one in the middle is taken.
    square = RandomResizedCrop(area=(1.0, 1.0), ratio=(1.0, 1.0))(KEY, IMAGE)
    rows = np.clip((np.arange(12) + 0.5) * 9 / 12 - 0.5, 0, 8) + 1
    expected = np.stack(
        [
            ndimage.map_coordinates(IMAGE[..., c], np.meshgrid(rows, np.arange(9), indexing="ij"), order=1)
            for c in range(3)
        ],
        -1,
    )
    np.testing.assert_allclose(square, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_jitter_of_one_kind(name):
    """Its strength is uniform: each image is one of those that the strengths between give."""
    low, high = (-0.3, 0.3) if name == "hue" else (0.7, 1.3)
    jitter = ColourJitter(**{"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, name: 0.3})
    image = jnp.round(100 + 50 * IMAGE) / 255
    grid = np.linspace(low, high, 201)
    possible = np.asarray(jax.vmap(lambda value: getattr(enhance, name)(image, value))(jnp.asarray(grid, jnp.float32)))
    changed = many(jitter, 400, image)
    distances = np.abs(changed[:, None] - possible[None]).mean(axis=(2, 3, 4))
    assert distances.min(axis=1).max() < 1.5 / 255
    assert stats.kstest((grid[distances.argmin(axis=1)] - low) / (high - low), "uniform").pvalue > 1e-3


def test_jitter_in_random_order():
    image = jnp.round(255 * IMAGE) / 255
    jitter = ColourJitter(brightness=0.9, contrast=0.9, saturation=0.0, hue=0.0)
    keys = jax.random.split(KEY, 200)
    changed = jax.vmap(jitter, (0, None))(keys, image)
    orders = np.asarray([jax.random.permutation(jax.random.split(key)[0], 2)[0] for key in keys])
    values = [jax.random.uniform(jax.random.split(key)[1], (2,), minval=0.1, maxval=1.9) for key in keys]
    for i in range(0, 200, 20):
        steps = [(enhance.brightness, values[i][0]), (enhance.contrast, values[i][1])]
        expected = image
        for change, value in steps if orders[i] == 0 else steps[::-1]:
            expected = change(expected, value)
        np.testing.assert_allclose(changed[i], expected, atol=1e-5)
    assert 60 < orders.sum() < 140
    np.testing.assert_array_equal(ColourJitter(0.0, 0.0, 0.0, 0.0)(KEY, IMAGE), IMAGE)


def test_hue_turns():
    image = jnp.round(255 * IMAGE) / 255
    np.testing.assert_allclose(enhance.hue(image, 1 / 3), np.asarray(image)[..., [2, 0, 1]], atol=1.01 / 255)
    np.testing.assert_allclose(enhance.hue(image, 0.0), image, atol=1e-6)
    np.testing.assert_allclose(enhance.hue(jnp.full((2, 2, 3), 0.4), 0.3), 0.4, atol=1e-6)


def test_blur_has_its_sigma_and_probability():
    blur = GaussianBlur(sigma=(0.5, 1.5), probability=0.6)
    blurred = many(blur, 1000)
    changed = ~np.isclose(blurred, np.asarray(IMAGE)[None], atol=1e-7).all(axis=(1, 2, 3))
    assert stats.binomtest(int(changed.sum()), 1000, 0.6).pvalue > 1e-3
    grid = np.linspace(0.5, 1.5, 101)
    possible = np.stack([ndimage.gaussian_filter(IMAGE, (sigma, sigma, 0)) for sigma in grid])
    distances = np.abs(blurred[changed][:, None] - possible[None]).mean(axis=(2, 3, 4))
    assert distances.min(axis=1).max() < 2e-3
    assert stats.kstest(grid[distances.argmin(axis=1)] - 0.5, "uniform").pvalue > 1e-3


def test_halves_are_augmented_each_for_itself():
    image = np.asarray(IMAGE)
    top, left = image.copy(), image.copy()
    expected = {}
    for first in (False, True):
        for second in (False, True):
            top, left = image.copy(), image.copy()
            if first:
                top[:6], left[:, :4] = top[:6, ::-1], left[:, :4][:, ::-1]
            if second:
                top[6:], left[:, 4:] = top[6:, ::-1], left[:, 4:][:, ::-1]
            expected["down", first, second], expected["across", first, second] = top, left
    counts = dict.fromkeys(expected, 0)
    for result in many(Yoco(HorizontalFlip()), 1000):
        for name, other in expected.items():
            counts[name] += np.array_equal(result, other)
    # Untouched halves do not tell along which axis they were cut.
    plain = counts.pop(("down", False, False)), counts.pop(("across", False, False))
    assert plain[0] == plain[1]
    assert stats.chisquare([plain[0], *counts.values()], np.array([2, 1, 1, 1, 1, 1, 1]) * 125).pvalue > 1e-3
    with pytest.raises(ValueError, match="2 x 2"):
        Yoco()(KEY, jnp.zeros((1, 4, 3)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cutout(size=-1), "size"),
        (lambda: Cutout(fill=2.0), "fill"),
        (lambda: RandomErasing(probability=-0.1), "probability"),
        (lambda: RandomErasing(area=(0.5, 0.2)), "area"),
        (lambda: RandomErasing(ratio=(0.0, 1.0)), "ratio"),
        (lambda: RandomErasing(content="nois"), "Did you mean 'noise'"),
        (lambda: PatchGaussian(size=0), "size"),
        (lambda: PatchGaussian(sigma=-1.0), "sigma"),
        (lambda: RandomResizedCrop(area=(0.0, 1.0)), "area"),
        (lambda: ColourJitter(hue=0.6), "hue"),
        (lambda: ColourJitter(contrast=-0.1), "contrast"),
        (lambda: GaussianBlur(sigma=(2.0, 1.0)), "sigma"),
        (lambda: GaussianBlur(probability=2.0), "probability"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
