"""Objectives against scikit-learn and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from objective_values import evaluate
from sklearn.metrics import log_loss

from robust_jax.objectives import (
    CrossEntropy,
    Dign,
    JensenShannon,
    cross_entropy,
    jensen_shannon,
    kl_to_views,
    smooth_labels,
)
from robust_jax.types import Batch, Output


class Brighter:
    """A view of an image, of its own key."""

    def __call__(self, key, image):
        return image + jax.random.uniform(key)


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
    loss, aux = transform(lambda p, b: evaluate(CrossEntropy(), None, linear_forward, p, b))(params, batch)
    probs = np.asarray(jax.nn.softmax(linear_forward(params, batch.image)[0].prediction), np.float64)
    probs /= probs.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss, log_loss(batch.label, probs, labels=range(5)), rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["accuracy"], (probs.argmax(1) == batch.label).mean(), rtol=1e-6)


def test_padding_does_not_count(problem):
    params, batch = problem
    masked = batch._replace(mask=jnp.arange(12) < 7)
    whole, _ = evaluate(CrossEntropy(), None, linear_forward, params, jax.tree.map(lambda leaf: leaf[:7], batch))
    loss, _ = evaluate(CrossEntropy(), None, linear_forward, params, masked)
    np.testing.assert_allclose(loss, whole, rtol=1e-6)


def test_soft_labels_equal_hard_ones(problem):
    params, batch = problem
    hard, _ = evaluate(CrossEntropy(label_smoothing=0.1), None, linear_forward, params, batch)
    soft_batch = batch._replace(label=jax.nn.one_hot(batch.label, 5))
    soft, _ = evaluate(CrossEntropy(label_smoothing=0.1), None, linear_forward, params, soft_batch)
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


def test_divergence_equals_scipy_and_has_its_limits():
    logits = jax.random.normal(jax.random.key(3), (3, 20, 6)) * 3
    probs = np.asarray(jax.nn.softmax(logits), np.float64)
    entropy = scipy.stats.entropy(probs, axis=-1)
    expected = scipy.stats.entropy(probs.mean(axis=0), axis=-1) - entropy.mean(axis=0)
    np.testing.assert_allclose(jensen_shannon(logits), expected, rtol=1e-4, atol=1e-6)
    same = jnp.broadcast_to(logits[:1], logits.shape)
    np.testing.assert_allclose(jensen_shannon(same), 0, atol=1e-6)
    apart = 50 * jnp.eye(3)[:, None]
    np.testing.assert_allclose(jensen_shannon(apart), np.log(3), rtol=1e-5)
    assert jnp.isfinite(jax.grad(lambda z: jensen_shannon(z).sum())(apart)).all()


def test_consistency_is_cross_entropy_and_the_divergence_of_views(problem):
    params, batch = problem
    brighter = Brighter()
    mask = jnp.arange(12) < 7
    loss, aux = jax.jit(lambda b: evaluate(JensenShannon(brighter), jax.random.key(1), linear_forward, params, b))(
        batch._replace(mask=mask)
    )
    plain, _ = evaluate(CrossEntropy(), None, linear_forward, params, batch._replace(mask=mask))
    np.testing.assert_allclose(aux.metrics["cross_entropy"], plain, rtol=1e-6)
    np.testing.assert_allclose(loss, plain + 12 * aux.metrics["jensen_shannon"], rtol=1e-6)
    assert aux.metrics["jensen_shannon"] > 1e-4
    # Neutral settings.
    for neutral in (JensenShannon(brighter, weight=0.0), JensenShannon(lambda key, image: image)):
        alone, _ = evaluate(neutral, jax.random.key(1), linear_forward, params, batch._replace(mask=mask))
        np.testing.assert_allclose(alone, plain, rtol=1e-5)


@pytest.mark.parametrize("fields", [{"num_views": 0}, {"weight": -1.0}, {"label_smoothing": 2.0}])
def test_consistency_refuses_bad_numbers(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        JensenShannon(Brighter(), **fields)


def test_divergence_to_views_equals_scipy():
    logits = jax.random.normal(jax.random.key(3), (4, 20, 6)) * 3
    probs = np.asarray(jax.nn.softmax(logits), np.float64)
    expected = np.mean([scipy.stats.entropy(probs[0], other, axis=-1) for other in probs[1:]], axis=0)
    np.testing.assert_allclose(kl_to_views(logits), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_noise_of_many_strengths(problem):
    keys = jax.random.split(jax.random.key(2), 4000)
    noise = np.asarray(jax.vmap(Dign(sigma=0.3).add_noise, (0, None))(keys, jnp.zeros((4, 4, 4))))
    sigmas = np.sqrt(np.mean(noise**2, axis=(1, 2, 3)))
    np.testing.assert_allclose(np.mean(sigmas**2), 0.03, rtol=0.06)
    assert scipy.stats.kstest(noise[:, 0, 0, 0] / sigmas, "norm").pvalue > 1e-3
    params, batch = problem
    mask = jnp.arange(12) < 7
    batch = batch._replace(mask=mask)
    run = lambda objective: jax.jit(lambda b: evaluate(objective, jax.random.key(1), linear_forward, params, b))(batch)  # noqa: E731
    plain, _ = evaluate(CrossEntropy(), None, linear_forward, params, batch)
    loss, aux = run(Dign(sigma=0.3, weight=2.0, augmentation=Brighter(), augmentation_weight=5.0))
    parts = aux.metrics
    np.testing.assert_allclose(parts["cross_entropy"], plain, rtol=1e-6)
    np.testing.assert_allclose(loss, plain + 2 * parts["kl_noise"] + 5 * parts["jensen_shannon"], rtol=1e-6)
    assert min(parts["kl_noise"], parts["jensen_shannon"]) > 1e-4
    for neutral in (Dign(weight=0.0), Dign(sigma=0.0)):
        np.testing.assert_allclose(run(neutral)[0], plain, rtol=1e-5)


@pytest.mark.parametrize("fields", [{"sigma": -0.1}, {"num_draws": 0}, {"weight": -1.0}, {"augmentation_weight": -1.0}])
def test_noise_refuses_bad_numbers(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Dign(**fields)
