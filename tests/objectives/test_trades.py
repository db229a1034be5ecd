"""TRADES: its neutral settings, bounds, and gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from batch_norm_network import KEY, normalised, problem
from objective_values import evaluate

from robust_jax import attacks, config
from robust_jax.objectives import CrossEntropy, Trades, kl_divergence

ATTACK = attacks.PGD(eps=0.1, steps=5, step_size=0.03, start=attacks.Gaussian(0.001), keep="last")


def value_and_gradient(objective, params, batch):
    return jax.value_and_grad(lambda params: evaluate(objective, KEY, normalised, params, batch)[0])(params)


def test_kl_is_scipys():
    logits = np.random.default_rng(0).normal(size=(2, 6, 4)) * 3
    expected = scipy.stats.entropy(*scipy.special.softmax(logits, axis=2), axis=1)
    np.testing.assert_allclose(kl_divergence(*jnp.float32(logits)), expected, rtol=1e-4)
    bernoulli = lambda p, q: p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))  # noqa: E731
    z, w = np.array([[0.3, -0.4]]), np.array([[-1.0, 0.5]])
    expected = bernoulli(scipy.special.expit(z[0, 0] - z[0, 1]), scipy.special.expit(w[0, 0] - w[0, 1]))
    np.testing.assert_allclose(kl_divergence(jnp.float32(z), jnp.float32(w))[0], expected, rtol=1e-5)
    hard = jnp.array([[0.0, -jnp.inf, 1.0]])
    assert kl_divergence(hard, hard) == 0
    assert jnp.isfinite(jax.grad(lambda z: kl_divergence(z, z).sum())(hard)).all()


def test_beta_zero_is_cross_entropy_to_the_bit():
    params, batch = problem()
    plain = value_and_gradient(CrossEntropy(), params, batch)
    neutral = value_and_gradient(Trades(ATTACK, beta=0.0), params, batch)
    jax.tree.map(np.testing.assert_array_equal, plain, neutral)


@pytest.mark.parametrize("start", ["zero", attacks.Gaussian(0.001)])
def test_radius_zero_is_cross_entropy(start):
    params, batch = problem()
    plain = value_and_gradient(CrossEntropy(), params, batch)
    neutral = value_and_gradient(Trades(dataclasses.replace(ATTACK, eps=0.0, start=start)), params, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), plain, neutral)


def test_start_at_the_image_finds_nothing():
    """There the divergence and its gradient are zero but for rounding; from noise it is found."""
    params, batch = problem()
    flat, found = (
        evaluate(Trades(dataclasses.replace(ATTACK, start=start, steps=1)), KEY, normalised, params, batch)[1].metrics
        for start in ("zero", attacks.Gaussian(0.01))
    )
    assert found["zero_gradient"] == 0
    assert found["divergence"] > 10 * flat["divergence"] or flat["zero_gradient"] > 0


@pytest.mark.parametrize("statistics", ["running", "batch", "batch_moving"])
@pytest.mark.parametrize("passes", ["separate", "joint"])
def test_loss_by_hand_and_its_bound(statistics, passes):
    params, batch = problem()
    objective = Trades(ATTACK, statistics=statistics, passes=passes)
    loss = jax.jit(lambda params: evaluate(objective, KEY, normalised, params, batch)[1])(params)
    metrics = loss.metrics
    np.testing.assert_allclose(
        loss.per_example.mean(), metrics["cross_entropy"] + 6.0 * metrics["divergence"], rtol=1e-5
    )
    assert metrics["divergence"] > 1e-3
    if passes == "separate":
        logits = np.asarray(normalised(params, batch.image)[0].prediction, np.float64)
        entropies = -np.log(scipy.special.softmax(logits, axis=1)[np.arange(12), batch.label])
        assert (loss.per_example >= entropies - 1e-5).all()
        np.testing.assert_allclose(metrics["cross_entropy"], entropies.mean(), rtol=1e-5)


def test_the_attack_climbs_the_divergence():
    """More than random corners of the ball do."""
    params, batch = problem()
    objective = Trades(dataclasses.replace(ATTACK, steps=20), statistics="batch")
    found = evaluate(objective, KEY, normalised, params, batch)[1].metrics["divergence"]
    logits = normalised(params, batch.image)[0].prediction
    for seed in range(20):
        noise = 0.1 * jnp.sign(jax.random.normal(jax.random.key(seed), batch.image.shape))
        moved = normalised(params, batch.image + noise)[0].prediction
        assert kl_divergence(logits, moved).mean() < found


def test_gradient_passes_through_both_arguments():
    """Finite differences in float64 of the divergence at fixed images, both predictions moving; not with one fixed."""
    params, batch = problem()
    fixed = batch.image + 0.1 * jnp.sign(jax.random.normal(KEY, batch.image.shape))

    class Fixed(attacks.PGD):
        def maximise(self, keys, loss_fn, images, *, eps=None, state=None):
            found = super().maximise(keys, loss_fn, images, eps=eps, state=state)
            return found._replace(images=fixed)

    _, gradient = value_and_gradient(Trades(Fixed(eps=0.1, steps=1, keep="last"), beta=2.0), params, batch)
    second, both = np.asarray(params["second"], np.float64), []
    features = [np.asarray(normalised(params, images)[0].features, np.float64) for images in (batch.image, fixed)]

    def loss(second, reference=None):
        log_p, log_q = (scipy.special.log_softmax(f @ second, axis=1) for f in features)
        entropies = -log_p[np.arange(12), batch.label]
        log_p = log_p if reference is None else reference
        return np.mean(entropies + 2 * np.sum(np.exp(log_p) * (log_p - log_q), axis=1))

    reference = scipy.special.log_softmax(features[0] @ second, axis=1)
    for other in (None, reference):
        slopes = np.zeros_like(second)
        for place in np.ndindex(second.shape):
            step = np.zeros_like(second)
            step[place] = 1e-5
            slopes[place] = (loss(second + step, other) - loss(second - step, other)) / 2e-5
        both.append(slopes)
    np.testing.assert_allclose(gradient["second"], both[0], atol=2e-5)
    assert abs(both[0] - both[1]).max() > 0.01


def test_it_is_a_config():
    assert config.from_json(config.to_json(Trades())) == Trades()


@pytest.mark.parametrize("field", [{"beta": -1.0}, {"statistics": "eval"}, {"warm_up": 2.0}, {"passes": "both"}])
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Trades(**field)
