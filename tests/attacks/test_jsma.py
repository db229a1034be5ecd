"""JSMA: its choice of pairs by brute force, its steps in NumPy, and the least number of pixels on a linear model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attacks.test_carlini_wagner import fewest_pixels
from attacks.test_deepfool import images_of, keys_of, linear, linear_problem, logits_and_jacobian, network

from robust_jax import attacks
from robust_jax.attacks.minimum_norm.jsma import best_pair

pytestmark = pytest.mark.long


def best_value(gain, loss, free):
    """Of all pairs."""
    gains, losses = gain[:, None] + gain[None], loss[:, None] + loss[None]
    able = free[:, None] & free[None] & ~np.eye(len(gain), dtype=bool) & (gains > 0) & (losses > 0)
    return np.where(able, gains * losses, 0).max()


@pytest.mark.parametrize("correlation", [-0.95, 0.0, 0.9])
@pytest.mark.parametrize("size", [40, 3072])
def test_best_pair_is_that_of_all_pairs(size, correlation):
    rng = np.random.default_rng(0)
    for share in (0.05, 0.9):
        gain = rng.normal(size=size).astype(np.float32)
        noise = rng.normal(size=size).astype(np.float32)
        loss = np.float32(correlation) * gain + np.float32(np.sqrt(1 - correlation**2)) * noise
        gain[::7] = gain[3]
        free = rng.random(size) < share
        first, second, value = jax.jit(best_pair)(gain, loss, free)
        np.testing.assert_allclose(value, best_value(gain, loss, free), rtol=1e-6)
        if value > 0:
            assert first != second
            assert free[first]
            assert free[second]


def test_no_pair():
    up, down = jnp.array([1.0, 2.0, 3.0]), jnp.array([-1.0, -2.0, -3.0])
    assert best_pair(up, down, jnp.ones(3, bool))[2] == 0
    assert best_pair(up, up, jnp.array([False, True, False]))[2] == 0
    assert best_pair(up, up, jnp.array([True, True, False]))[2] == 9


def algorithm_3(image, target, label, theta, gamma, untargeted):
    """In double precision: the image, and how many steps it takes."""
    x, sign = image.copy(), np.sign(theta)
    limit = int(gamma * x.size / 2)
    for step in range(limit):
        logits, jacobian = logits_and_jacobian(x)
        if logits.argmax() != label if untargeted else logits.argmax() == target:
            return x, step
        toward, others = sign * jacobian[:, target], sign * (jacobian.sum(axis=1) - jacobian[:, target])
        best, pair = 0, None
        for p in range(x.size):
            for q in range(p):
                up, down = toward[p] + toward[q], others[p] + others[q]
                can_move = all(x[i] < 1 if theta > 0 else x[i] > 0 for i in (p, q))
                if can_move and up > 0 and down < 0 and -up * down > best:
                    best, pair = -up * down, (p, q)
        if pair is None:
            return x, step
        for i in pair:
            x[i] = np.clip(x[i] + theta, 0, 1)
    return x, limit


@pytest.mark.parametrize("theta", [1.0, -1.0, 0.4])
@pytest.mark.parametrize("targeted", [True, False])
def test_algorithm_3(theta, targeted):
    images = images_of(10, 1.0)
    logits = np.asarray(network(images))
    labels = logits.argmax(axis=1)
    targets = (labels + 2) % 6 if targeted else np.argsort(-logits, axis=1)[:, 1]
    given = jnp.asarray(targets) if targeted else None
    attack = attacks.JSMA(theta=theta, gamma=0.5)
    found = attack.run(keys_of(images), network, images, jnp.asarray(labels), targets=given)
    for i, image in enumerate(np.asarray(images, float)):
        x, steps = algorithm_3(image.ravel(), targets[i], labels[i], theta, 0.5, not targeted)
        predicted = logits_and_jacobian(x)[0].argmax()
        assert bool(found.success[i]) == (predicted == targets[i] if targeted else predicted != labels[i])
        if found.success[i]:
            np.testing.assert_allclose(found.images[i].ravel(), x, atol=1e-6)
        # The step in which it sees that it is there, or that there is no way, counts, but for the last allowed.
        assert int(found.gradients[i]) == 2 * min(steps + 1, 12)
    assert found.success.mean() > 0.3


def test_fewest_pixels_of_a_linear_model():
    """A greedy choice of entries, all of which go one way, needs some more."""
    images, labels, _ = linear_problem(2)
    fewest = fewest_pixels(images, labels)
    found = attacks.JSMA(gamma=1.0).run(keys_of(images), linear, images, labels)
    assert found.success.mean() > 0.8
    assert (found.norm >= fewest)[found.success].all()
    assert (found.norm <= 4 * fewest + 2)[found.success].all()


def test_gamma_bounds_the_entries():
    images, labels, _ = linear_problem(2)
    for gamma in (0.0, 0.1, 0.2):
        found = attacks.JSMA(gamma=gamma).run(keys_of(images), linear, images, labels)
        assert (jnp.sum(found.images != images, axis=(1, 2, 3)) <= gamma * 48).all()
        assert found.gradients.max() == 2 * int(gamma * 48 / 2)


@pytest.mark.parametrize("field", [{"theta": 0.0}, {"theta": 2.0}, {"gamma": 1.5}, {"steps": 0}])
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.JSMA(**field)
