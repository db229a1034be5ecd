"""Crops, flips, compositions and training noise, against NumPy and the laws they draw from."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from robust_jax.augmentations import (
    Chain,
    Gaussian,
    HorizontalFlip,
    Identity,
    OneOf,
    RandomCrop,
    RandomLp,
    RotateTranslate,
)
from robust_jax.images.geometry import rotate_translate
from robust_jax.mathematics.lp_tables import training_cases

IMAGE = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (6, 5, 3)), jnp.float32)


def many(augmentation, num, image=IMAGE, seed=0):
    keys = jax.random.split(jax.random.key(seed), num)
    return np.asarray(jax.jit(jax.vmap(augmentation, (0, None)))(keys, image))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_crop_is_a_window_of_the_padded_image(mode):
    pad = 2
    padded = np.pad(IMAGE, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    windows = [padded[i : i + 6, j : j + 5] for i in range(5) for j in range(5)]
    crops = many(RandomCrop(padding=pad, mode=mode), 1000)
    matches = np.array([[np.array_equal(crop, window) for window in windows] for crop in crops])
    assert (matches.sum(1) == 1).all()
    # All 25 places are equally likely.
    assert stats.chisquare(matches.sum(0)).pvalue > 1e-3


def test_crop_without_padding_changes_nothing():
    np.testing.assert_array_equal(RandomCrop(padding=0)(jax.random.key(0), IMAGE), IMAGE)


def test_rotations_and_translations_are_uniform_within_their_limits():
    """From a wide ramp in either direction, read off in its middle: a plane is turned and moved without error."""
    y, x = np.mgrid[:21, :31].astype(np.float32)
    planes = jnp.asarray(np.stack([x, y, 0 * x], axis=-1) / 100)
    results = 100 * many(RotateTranslate(shift=0.1, degrees=40.0), 2000, planes)
    slopes = (results[:, 10, 17] - results[:, 10, 13])[:, :2] / 4
    angles = np.rad2deg(np.arctan2(-slopes[:, 1], slopes[:, 0]))
    # Where the middle of the result reads in the image, turned back.
    from_middle = results[:, 10, 15, :2] - [15, 10]
    cos, sin = np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))
    right = -(cos * from_middle[:, 0] - sin * from_middle[:, 1])
    down = -(sin * from_middle[:, 0] + cos * from_middle[:, 1])
    for values, limit in ((angles, 40), (right, 3.1), (down, 2.1)):
        assert np.abs(values).max() <= limit * 1.001
        assert stats.kstest(values / limit, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    np.testing.assert_allclose(results[0], 100 * rotate_translate(planes, right[0], down[0], angles[0]), atol=0.02)


def test_no_rotation_and_translation_change_nothing():
    np.testing.assert_allclose(RotateTranslate(0.0, 0.0)(jax.random.key(0), IMAGE), IMAGE, atol=1e-6)


@pytest.mark.parametrize("fields", [{"shift": -0.1}, {"degrees": -1.0}, {"border": "reflekt"}])
def test_bad_rotations(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        RotateTranslate(**fields)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flip(probability):
    flips = many(HorizontalFlip(probability), 1000)
    flipped = np.array([np.array_equal(y, np.asarray(IMAGE)[:, ::-1]) for y in flips])
    kept = np.array([np.array_equal(y, IMAGE) for y in flips])
    assert (flipped ^ kept).all()
    assert stats.binomtest(int(flipped.sum()), 1000, probability).pvalue > 1e-3


def test_one_of_follows_its_weights():
    choices = (Identity(), HorizontalFlip(1.0), RandomCrop(0))
    results = many(OneOf(choices, weights=(3.0, 1.0, 0.0)), 1000)
    flipped = sum(not np.array_equal(y, IMAGE) for y in results)
    assert stats.binomtest(flipped, 1000, 0.25).pvalue > 1e-3


def test_chain_applies_steps_in_order_with_keys_of_their_own():
    noise = Gaussian(sigma=0.05, fixed=True)
    key = jax.random.key(0)
    once, twice = Chain((noise,))(key, IMAGE), Chain((noise, noise))(key, IMAGE)
    first, second = np.asarray(once - IMAGE).ravel(), np.asarray(twice - once).ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.4
    flip_then_noise = Chain((HorizontalFlip(1.0), noise))(key, IMAGE)
    assert float(jnp.max(jnp.abs(flip_then_noise - IMAGE[:, ::-1]))) < 0.3
    np.testing.assert_array_equal(Chain()(key, IMAGE), IMAGE)


def test_gaussian_standard_deviations():
    image = jnp.full((16, 16, 3), 0.5)
    fixed = many(Gaussian(sigma=0.1, fixed=True), 50, image) - 0.5
    assert stats.kstest(fixed.ravel() / 0.1, "norm").pvalue > 1e-3
    sigmas = (many(Gaussian(sigma=0.1), 500, image) - 0.5).std(axis=(1, 2, 3))
    assert stats.kstest(sigmas / 0.1, "uniform").pvalue > 1e-3


def test_c2_draws_every_case_equally_often_with_its_own_norm():
    """Each noise is recognised from the image alone: how many sub-pixels changed, and how flat the noise is."""
    shape = (32, 32, 3)
    image = jnp.full(shape, 0.5)
    noise = (many(RandomLp(cases="c2"), 620, image, seed=1) - 0.5).reshape(620, -1).astype(np.float64)
    changed = (noise != 0).sum(1)
    l0 = {round(case.eps * 3072) for case in training_cases("c2", "cifar") if case.p == 0}
    identity, impulse = changed == 0, (changed > 0) & (changed < 1500)
    assert set(changed[impulse]) == l0
    dense = noise[~identity & ~impulse]
    # max / rms is √3 of uniform noise and above 3 of the L2 ball's.
    flat = np.abs(dense).max(1) / dense.std(1) < 2
    radii = {
        p: np.array([c.eps for c in training_cases("c2", "cifar") if c.p == p and c.eps > 0]) for p in (2, math.inf)
    }
    for observed, expected in (
        (np.abs(dense[flat]).max(1), radii[math.inf]),
        (np.linalg.norm(dense[~flat], axis=1), radii[2]),
    ):
        relative = observed[:, None] / expected[None]
        nearest = np.abs(relative - 1).argmin(1)
        assert set(nearest) == set(range(10))
        assert (np.abs(relative[np.arange(len(nearest)), nearest] - 1) < 0.01).all()
    counts = [identity.sum(), impulse.sum(), flat.sum(), (~flat).sum()]
    assert stats.chisquare(counts, np.array([1, 10, 10, 10]) * 20).pvalue > 1e-3


def test_explicit_cases_are_taken_as_they_are():
    noise = many(RandomLp(cases=((2.0, 0.25),)), 5) - np.asarray(IMAGE)
    norms = np.linalg.norm(noise.reshape(5, -1), axis=1)
    # The radius of a ball of 90 dimensions is almost always its own.
    assert ((norms > 0.2) & (norms < 0.25001)).all()
    np.testing.assert_allclose(many(RandomLp(cases=((math.inf, 0.0),)), 2)[0], IMAGE, atol=1e-7)


def test_errors_name_the_argument():
    for make, message in (
        (lambda: RandomCrop(padding=-1), r"padding.*-1"),
        (lambda: RandomCrop(mode="reflct"), "reflect"),
        (lambda: HorizontalFlip(probability=1.5), r"probability.*1\.5"),
        (lambda: OneOf(()), "choices"),
        (lambda: OneOf((Identity(),), weights=(1.0, 2.0)), "weights"),
        (lambda: OneOf((Identity(), Identity()), weights=(1.0, -2.0)), r"weights.*-2"),
        (lambda: RandomLp(cases="c4"), "'c4'"),
        (lambda: RandomLp(table="cifer"), "cifar"),
        (lambda: RandomLp(cases=()), "cases"),
        (lambda: RandomLp(cases=((2.0, -1.0),)), r"eps.*-1"),
        (lambda: Gaussian(sigma=-0.1), "sigma"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
