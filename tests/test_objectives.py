"""Objectives against scikit-learn and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from robust_jax.objectives import CrossEntropy, cross_entropy, smooth_labels
from robust_jax.types import Batch, Output


def linear_forward(params, images, *, key=None, train=True):
    flat = images.reshape(images.shape[0], -1)
    return Output(flat @ params, flat), {}


@pytest.fixture
def problem():
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.uniform(keys[0], (12, 2, 2, 1))
    labels = jax.random.randint(keys[1], (12,), 0, 5)
    params = jax.random.normal(keys[2], (4, 5))
    return params, Batch(images, labels, jnp.ones(12, bool), jnp.arange(12))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_equals_sklearn_log_loss(problem, transform):
    params, batch = problem
    loss, aux = transform(lambda p, b: CrossEntropy()(None, linear_forward, p, b))(params, batch)
    probs = np.asarray(jax.nn.softmax(linear_forward(params, batch.image)[0].logits), np.float64)
    probs /= probs.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss, log_loss(batch.label, probs, labels=range(5)), rtol=1e-5)
    np.testing.assert_allclose(aux.scalars["accuracy"], (probs.argmax(1) == batch.label).mean(), rtol=1e-6)


def test_padding_does_not_count(problem):
    params, batch = problem
    masked = batch._replace(mask=jnp.arange(12) < 7)
    whole, _ = CrossEntropy()(None, linear_forward, params, jax.tree.map(lambda leaf: leaf[:7], batch))
    loss, _ = CrossEntropy()(None, linear_forward, params, masked)
    np.testing.assert_allclose(loss, whole, rtol=1e-6)


def test_soft_labels_equal_hard_ones(problem):
    params, batch = problem
    hard, _ = CrossEntropy(label_smoothing=0.1)(None, linear_forward, params, batch)
    soft_batch = batch._replace(label=jax.nn.one_hot(batch.label, 5))
    soft, _ = CrossEntropy(label_smoothing=0.1)(None, linear_forward, params, soft_batch)
    np.testing.assert_allclose(hard, soft, rtol=1e-6)


def test_smoothing_is_a_mixture_with_uniform():
    np.testing.assert_allclose(smooth_labels(jnp.array([1]), 4, smoothing=0.2), [[0.05, 0.85, 0.05, 0.05]], rtol=1e-6)


def test_gradient_is_probability_minus_label():
    logits, label_probs = jnp.array([[0.3, -1.0, 2.0]]), jnp.array([[0.0, 1.0, 0.0]])
    gradient = jax.grad(lambda z: cross_entropy(z, label_probs).sum())(logits)
    np.testing.assert_allclose(gradient, jax.nn.softmax(logits) - label_probs, atol=1e-6)


def test_rejects_smoothing_above_one():
    with pytest.raises(ValueError, match=r"label_smoothing in \[0, 1\], got label_smoothing=1.5"):
        CrossEntropy(label_smoothing=1.5)
