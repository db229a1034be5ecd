"""N-FGSM by its formula, on a linear classifier in NumPy. It is exempt from the radius that other attacks keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import attacks, config
from robust_jax.core.keys import example_keys

WEIGHTS = np.random.default_rng(1).normal(size=(4 * 5 * 3, 3)).astype(np.float32)


@jax.tree_util.Partial
def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def problem(size=64):
    images = jnp.asarray(np.random.default_rng(2).random((size, 4, 5, 3)), jnp.float32)
    return example_keys(jax.random.key(0), jnp.arange(size)), images, jnp.argmax(linear(images), axis=-1)


def gradient(images, labels):
    logits = images.reshape(len(images), -1) @ WEIGHTS
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    return ((probs - np.eye(3)[labels]) @ WEIGHTS.T).reshape(images.shape)


def noise(noise_scale, eps):
    """With a step of next to no length, what is left is the noise."""
    keys, images, labels = problem()
    attack = attacks.NFGSM(eps=eps, noise=noise_scale, relative_step=1e-9)
    return np.asarray(attack(keys, linear, images, labels))


@pytest.mark.parametrize(("k", "alpha", "eps"), [(2.0, 1.0, 0.05), (1.0, 1.25, 0.1), (0.0, 1.0, 0.1)])
def test_formula(k, alpha, eps):
    keys, images, labels = problem()
    noisy = noise(k, eps)
    expected = np.clip(noisy + alpha * eps * np.sign(gradient(noisy, np.asarray(labels))), 0, 1)
    found = attacks.NFGSM(eps=eps, noise=k, relative_step=alpha).run(keys, linear, images, labels)
    assert (np.abs(found.images - expected) < 1e-5).mean() > 0.998, "but for signs of gradients near zero"
    np.testing.assert_allclose(found.norm, np.abs(found.images - images).max((1, 2, 3)), rtol=1e-6)
    assert (found.queries == 2).all()
    assert (found.gradients == 1).all()


def test_noise_is_uniform_and_the_norm_leaves_the_ball():
    keys, images, labels = problem()
    images = 0.4 + 0.2 * images
    attack = attacks.NFGSM(eps=0.05)
    result = attack.run(keys, linear, images, labels)
    assert result.norm.min() > 0.05
    assert 0.13 < result.norm.max() <= 0.15 + 1e-6
    delta = attacks.NFGSM(eps=0.05, relative_step=1e-9)(keys, linear, images, labels) - images
    np.testing.assert_allclose(jnp.mean(jnp.abs(delta)), 0.05, rtol=0.03)
    np.testing.assert_allclose(jnp.std(delta), 0.1 / np.sqrt(3), rtol=0.03)


def test_jit_batch_radius_and_targets():
    keys, images, labels = problem()
    attack = attacks.NFGSM(eps=0.05)
    whole = attack(keys, linear, images, labels)
    inside = jax.jit(lambda keys, images, labels: attack(keys, linear, images, labels))(keys, images, labels)
    assert (jnp.abs(inside - whole) < 1e-5).mean() > 0.998
    np.testing.assert_allclose(attack(keys[3:5], linear, images[3:5], labels[3:5]), whole[3:5], atol=1e-5)
    np.testing.assert_array_equal(attack(keys, linear, images, labels, eps=0.0), images)
    np.testing.assert_allclose(attack(keys, linear, images, labels, eps=0.02)[0], attacks.NFGSM(eps=0.02)(
        keys, linear, images, labels)[0], atol=1e-6)  # fmt: skip
    targets = (labels + 1) % 3
    towards = attack(keys, linear, images, labels, targets=targets)
    closer = attacks.cross_entropy(linear(towards), targets) < attacks.cross_entropy(linear(images), targets)
    assert closer.mean() > 0.9
    assert config.from_json(config.to_json(attack)) == attack


@pytest.mark.parametrize("field", [{"eps": -1.0}, {"noise": -1.0}, {"relative_step": 0.0}, {"num_draws": 0}])
def test_bad_input(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.NFGSM(**field)
