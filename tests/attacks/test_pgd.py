"""Gradient attacks against closed forms and step-by-step arithmetic in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from tables import long_unless

from robust_jax import attacks
from robust_jax.core.keys import example_keys
from robust_jax.core.mesh import data_mesh, shard_batch

WEIGHTS = np.random.default_rng(1).normal(size=(4 * 5 * 3, 3)).astype(np.float32)


@jax.tree_util.Partial
def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def problem(size=16):
    images = jnp.asarray(0.3 + 0.4 * np.random.default_rng(2).random((size, 4, 5, 3)), jnp.float32)
    return example_keys(jax.random.key(0), jnp.arange(size)), images, jnp.argmax(linear(images), axis=-1)


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.05), ("L2", 0.2), ("L1", 0.3)])
def test_margin_on_a_linear_classifier_is_the_closed_form(norm, eps):
    """The most the margin grows by is eps times the dual norm of the difference of two rows of weights."""
    keys, images, labels = problem()
    dual = {"Linf": 1, "L2": 2, "L1": np.inf}[norm]
    differences = WEIGHTS.T[None] - WEIGHTS.T[labels][:, None]
    logits = np.asarray(linear(images))
    gains = logits - logits[np.arange(16), labels][:, None] + eps * np.linalg.norm(differences, dual, axis=-1)
    gains[np.arange(16), labels] = -np.inf
    threat = attacks.L1(density=0.01) if norm == "L1" else norm
    attack = attacks.PGD(norm=threat, eps=eps, steps=50, relative_step=0.2, restarts=4, loss="margin")
    found = attack.run(keys, linear, images, labels)
    np.testing.assert_allclose(found.loss, gains.max(axis=1), rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("devices", long_unless([2], [1, 2]))
def test_parts_of_a_large_batch_are_the_whole(devices):
    """70 examples are more than go at once on a CPU, and no multiple of it; two devices share them."""
    keys, images, labels = problem(70)
    attack = attacks.PGD(eps=0.015, steps=7, early_stop=True)
    whole = jax.jit(lambda *problem: attack.run(problem[0], linear, *problem[1:]))(keys, images, labels)
    mesh = data_mesh(jax.devices()[:devices])
    found = attack.run(*shard_batch((keys,), mesh), linear, *shard_batch((images, labels), mesh))
    np.testing.assert_allclose(found.images, whole.images, atol=1e-5)
    np.testing.assert_array_equal(found.success, whole.success)
    np.testing.assert_array_equal(found.gradients, whole.gradients)
    assert 0 < found.success.mean() < 1
    assert found.images.sharding.num_devices == devices


def gradient(images, labels):
    logits = images.reshape(len(images), -1) @ WEIGHTS
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    return ((probs - np.eye(3)[labels]) @ WEIGHTS.T).reshape(images.shape)


def test_steps_in_numpy():
    """BIM, MI-FGSM, NI-FGSM as their papers write them, on cross-entropy."""
    keys, images, labels = problem()
    labels = np.asarray(labels)
    images = np.asarray(images, np.float64)
    for attack, decay, ahead in (
        (attacks.BIM(eps=0.1), 0, 0),
        (attacks.MIFGSM(eps=0.1), 1, 0),
        (attacks.NIFGSM(eps=0.1), 1, 1),
    ):
        x, momentum = images.copy(), np.zeros_like(images)
        for _ in range(10):
            g = gradient(x + ahead * 0.01 * momentum, labels)
            momentum = decay * momentum + g / np.abs(g).sum((1, 2, 3), keepdims=True)
            x = np.clip(np.clip(x + 0.01 * np.sign(momentum), images - 0.1, images + 0.1), 0, 1)
        np.testing.assert_allclose(attack(keys, linear, images, jnp.asarray(labels)), x, atol=1e-5)


def test_single_steps():
    keys, images, labels = problem()
    sign = np.sign(gradient(np.asarray(images), np.asarray(labels)))
    np.testing.assert_allclose(
        attacks.FGSM(eps=0.1)(keys, linear, images, labels), np.clip(images + 0.1 * sign, 0, 1), atol=1e-6
    )
    result = np.asarray(attacks.RFGSM(eps=0.1)(keys, linear, images, labels) - images)
    assert (np.sign(result) == sign).mean() > 0.99, "1.25 eps leads from almost everywhere to the right side"
    assert ((np.abs(result) < 0.0999) & (np.abs(result) > 0.02)).mean() > 0.2, "but not to the corner"


def test_losses_by_hand():
    logits = jnp.array([[3.0, 1.0, 0.5, -2.0], [0.0, 4.0, 1.0, 2.0]])
    labels, targets = jnp.array([0, 3]), jnp.array([1, 0])
    np.testing.assert_allclose(attacks.margin(logits, labels), [-2.0, 2.0])
    np.testing.assert_allclose(attacks.dlr(logits, labels), [-2.0 / 2.5, 2.0 / 3.0], rtol=1e-6)
    np.testing.assert_allclose(attacks.targeted_dlr(logits, labels, targets), [-2.0 / 3.75, -2.0 / 3.5], rtol=1e-6)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(attacks.cross_entropy(logits, labels), -np.log(probs[[0, 1], [0, 3]]), rtol=1e-6)
    with pytest.raises(ValueError, match="at least 3 classes"):
        attacks.dlr(logits[:, :2], labels)
    with pytest.raises(ValueError, match="at least 4 classes"):
        attacks.targeted_dlr(logits[:, :3], labels, targets)


@pytest.mark.parametrize("gap", [-1e4, -40.0, 0.0, 20.0, 40.0, 80.0])
def test_cross_entropy_is_exact_of_sure_networks(gap):
    """Also in float32, where the probability of the label is 1 from a gap of 17 on; against float64."""
    logits, label = np.array([[0.0, 1.5, -0.5]]) + np.array([[gap, 0, 0]]), jnp.array([0])
    loss, gradient = jax.jit(jax.value_and_grad(lambda z: attacks.cross_entropy(z, label)[0]))(jnp.float32(logits))
    others = scipy.special.logsumexp(logits[0, 1:])
    share = scipy.special.expit(others - logits[0, 0])
    np.testing.assert_allclose(loss, np.logaddexp(0, others - logits[0, 0]), rtol=2e-5)
    expected = share * np.array([-1, *scipy.special.softmax(logits[0, 1:])])
    np.testing.assert_allclose(gradient[0], expected, rtol=2e-5)


def test_known_weights_in_other_frameworks_shape():
    """A plain closure that cannot be hashed works too."""

    class Unhashable:
        __hash__ = None

        def __call__(self, images):
            return linear(images)

    keys, images, labels = problem()
    np.testing.assert_array_equal(
        attacks.FGSM()(keys, Unhashable(), images, labels), attacks.FGSM()(keys, linear, images, labels)
    )
