"""The pyramid attack against its formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import attacks
from robust_jax.core.keys import example_keys

WEIGHTS = np.random.default_rng(1).normal(size=(8 * 6 * 3, 5)).astype(np.float32)
PYRAMID = attacks.Pyramid(sides=(4, 2, 1), factors=(20.0, 10.0, 1.0))


@jax.tree_util.Partial
def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS / 10


def problem(size=8, low=0.0):
    images = jnp.asarray(low + (1 - 2 * low) * np.random.default_rng(2).random((size, 8, 6, 3)), jnp.float32)
    return example_keys(jax.random.key(0), jnp.arange(size)), images, jnp.argmax(linear(images), axis=-1)


def gradient(images, labels):
    logits = images.reshape(len(images), -1).astype(float) @ WEIGHTS / 10
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    return ((probs - np.eye(5)[labels]) @ WEIGHTS.T / 10).reshape(images.shape)


def pooled(values, side):
    """Sums over squares, and how to spread them again; 6 columns are cut into squares of 4 and 2."""
    rows, columns = np.arange(8) // side, np.arange(6) // side
    sums = np.zeros((len(values), rows[-1] + 1, columns[-1] + 1, 3))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            sums[:, row, column] += values[:, i, j]
    return sums, (rows[:, None], columns[None])


def by_numpy(images, labels, eps, steps, sign):
    levels = [np.zeros_like(pooled(images, side)[0]) for side in PYRAMID.sides]
    spreads = [pooled(images, side)[1] for side in PYRAMID.sides]

    def total():
        parts = [m * d[:, s[0], s[1]] for m, d, s in zip(PYRAMID.factors, levels, spreads, strict=True)]
        return images + sum(parts)

    for _ in range(steps):
        x = total()
        passes = (x > 0) & (x < 1)
        slope = sign * gradient(np.clip(x, 0, 1), labels) * passes
        for k, side in enumerate(PYRAMID.sides):
            levels[k] = np.clip(levels[k] + eps / 6 * np.sign(pooled(slope, side)[0]), -eps, eps)
    return np.clip(total(), 0, 1), levels


@pytest.mark.parametrize(("low", "eps"), [(0.3, 0.004), (0.05, 0.02)])
def test_steps_in_numpy(low, eps):
    keys, images, labels = problem(low=low)
    attack = attacks.PyramidPGD(eps=eps, threat=PYRAMID, random_target=False)
    found = attack.run(keys, linear, images, labels)
    expected, levels = by_numpy(np.asarray(images, float), np.asarray(labels), eps, 5, 1)
    np.testing.assert_allclose(found.images, expected, atol=1e-5)
    for level, other in zip(found.parameters, levels, strict=True):
        np.testing.assert_allclose(level, other, atol=1e-6)
    np.testing.assert_allclose(found.norm, eps * 5 / 6, rtol=1e-5)
    np.testing.assert_array_equal(found.success, jnp.argmax(linear(found.images), axis=-1) != labels)
    more = attacks.PyramidPGD(eps=eps, threat=PYRAMID, random_target=False, steps=12, relative_step=1 / 6)
    np.testing.assert_allclose(more.run(keys, linear, images, labels).norm, eps, rtol=1e-5)


def test_random_targets():
    """Of every example one class other than its label, uniform over them, and approached by all steps."""
    keys, images, labels = problem(600, low=0.3)
    attack = attacks.PyramidPGD(eps=0.004, threat=PYRAMID)
    found = attack(keys, linear, images, labels)
    gains = linear(found) - linear(images)
    candidates = np.stack(
        [
            by_numpy(np.asarray(images, float), np.full(600, k), 0.004, 5, -1)[0].reshape(600, -1)
            - np.asarray(found).reshape(600, -1)
            for k in range(5)
        ]
    )
    # Near the target the gradient may change its sign; otherwise the paths are the same.
    target = np.abs(candidates).mean(axis=-1).argmin(axis=0)
    assert (target != np.asarray(labels)).mean() > 0.99
    counts = np.bincount((target - np.asarray(labels)) % 5, minlength=5)[1:]
    assert counts.min() > 100
    assert (np.asarray(gains)[np.arange(600), target] > 0).mean() > 0.95


def test_saturated_pixels_are_no_obstacle():
    """From black and white the squares change, although each pixel is at the edge of the box."""
    keys, _, _ = problem(2)
    images = jnp.stack([jnp.zeros((8, 6, 3)), jnp.ones((8, 6, 3))])
    labels = jnp.argmax(linear(images), axis=-1)
    found = attacks.PyramidPGD(eps=0.01, threat=PYRAMID, random_target=False).run(keys, linear, images, labels)
    assert (found.loss > attacks.cross_entropy(linear(images), labels)).all()
    assert jnp.abs(found.images - images).max() > 0.05


def test_published_constants():
    attack = attacks.PyramidPGD()
    assert attack.steps == 5
    np.testing.assert_allclose([2 * attack.eps, 2 * attack.eps * attack.reach / attack.steps], [6 / 255, 1 / 255])
    levels = attack.threat.neutral(jnp.zeros((224, 224, 3)))
    assert [level.shape for level in levels] == [(7, 7, 3), (14, 14, 3), (224, 224, 3)]


@pytest.mark.parametrize(
    "fields", [{"sides": ()}, {"sides": (2, 1)}, {"sides": (4, 2, 0)}, {"factors": (1.0, 0.0, 1.0)}]
)
def test_bad_input(fields):
    with pytest.raises(ValueError, match=r"sides|factors"):
        attacks.Pyramid(**fields)
