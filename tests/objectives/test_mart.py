"""MART: its loss in NumPy, the closed form for two classes, and what its gradient passes through."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from batch_norm_network import KEY, normalised, problem
from objective_values import evaluate

from robust_jax import attacks
from robust_jax.objectives import Mart, boosted_cross_entropy

ATTACK = attacks.PGD(eps=0.1, steps=5, step_size=0.03, start=attacks.Gaussian(0.001), keep="last")


def boosted(logits, labels):
    """Equation 8 of the paper with the constant of its code."""
    p = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    rows = np.arange(len(p))
    others = p.copy()
    others[rows, labels] = 0
    return -np.log(p[rows, labels]) - np.log(1.0001 - others.max(axis=1))


def test_boosted_cross_entropy():
    logits, labels = 3 * np.random.default_rng(0).normal(size=(20, 5)), np.arange(20) % 5
    found = boosted_cross_entropy(jnp.float32(logits), jax.nn.one_hot(labels, 5))
    np.testing.assert_allclose(found, boosted(logits, labels), rtol=1e-4)
    # Two classes: the other probability is 1 - p, so that the loss is -2 log p but for the constant.
    two, first = logits[:, :2], np.zeros(20, int)
    found = boosted_cross_entropy(jnp.float32(two), jax.nn.one_hot(first, 2))
    log_p = scipy.special.log_softmax(two, axis=1)[:, 0]
    np.testing.assert_allclose(found, -log_p - np.log(np.exp(log_p) + 1e-4), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("passes", ["separate", "joint"])
def test_loss_in_numpy(passes):
    params, batch = problem()

    class Recorded(attacks.PGD):
        def __call__(self, keys, predictor, images, labels, **settings):
            return images + 0.1 * jnp.sign(jax.random.normal(KEY, images.shape))

    objective = Mart(Recorded(eps=0.1), passes=passes)
    loss = evaluate(objective, KEY, normalised, params, batch)[1]
    images = [batch.image, Recorded()(None, None, batch.image, None)]
    if passes == "separate":
        clean, moved = (np.asarray(normalised(params, x)[0].prediction, np.float64) for x in images)
    else:
        clean, moved = np.split(np.asarray(normalised(params, jnp.concatenate(images))[0].prediction, np.float64), 2)
    log_p, log_q = scipy.special.log_softmax(clean, axis=1), scipy.special.log_softmax(moved, axis=1)
    divergence = np.sum(np.exp(log_p) * (log_p - log_q), axis=1)
    doubt = 1 - np.exp(log_p)[np.arange(12), batch.label]
    np.testing.assert_allclose(loss.per_example, boosted(moved, batch.label) + 6 * divergence * doubt, rtol=1e-4)


def test_gradient_passes_through_the_weight():
    """Finite differences of the whole loss at fixed adversarial images."""
    params, batch = problem()

    class Fixed(attacks.PGD):
        def __call__(self, keys, predictor, images, labels, **settings):
            return images + 0.1 * jnp.sign(jax.random.normal(KEY, images.shape))

    objective = Mart(Fixed(eps=0.1))
    value = jax.jit(lambda params: evaluate(objective, KEY, normalised, params, batch)[0])
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, batch.image))
        batch = batch._replace(image=wide[1])
        gradient = jax.grad(value)(wide[0])
        direction = jax.tree.map(lambda g: jnp.cos(jnp.arange(g.size)).reshape(g.shape), gradient)
        ahead, behind = (
            value(jax.tree.map(lambda p, d, s=sign: p + s * 1e-5 * d, wide[0], direction)) for sign in (1, -1)
        )
        slope = sum(jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        np.testing.assert_allclose((ahead - behind) / 2e-5, slope, rtol=1e-6)


def test_radius_zero_has_no_divergence():
    params, batch = problem()
    objective = Mart(dataclasses.replace(ATTACK, eps=0.0, start="zero"))
    metrics = evaluate(objective, KEY, normalised, params, batch)[1].metrics
    np.testing.assert_allclose(metrics["divergence"], 0, atol=1e-6)
    attacked = evaluate(Mart(ATTACK), KEY, normalised, params, batch)[1].metrics
    assert attacked["boosted_cross_entropy"] > metrics["boosted_cross_entropy"]
    assert attacked["divergence"] > 1e-3


@pytest.mark.parametrize("field", [{"lam": -1.0}, {"statistics": "eval"}, {"label_smoothing": 2.0}])
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Mart(**field)
