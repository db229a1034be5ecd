"""Optimisers, schedules and averages against hand-worked updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax.train.averaging import Ema
from robust_jax.train.optimisers import AdamW, Sgd
from robust_jax.train.schedules import Constant, Cosine, WarmRestarts

PARAMS = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
GRADS = {"kernel": jnp.array([[0.5, 0.5]]), "bias": jnp.array([0.5])}


def updates(optimiser, steps=1):
    transformation = optimiser(lambda step: 1.0)
    state = transformation.init(PARAMS)
    for _ in range(steps):
        update, state = transformation.update(GRADS, state, PARAMS)
    return update


def test_sgd_adds_decay_before_momentum_and_spares_biases():
    update = updates(Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.01), steps=2)
    np.testing.assert_allclose(update["kernel"], -0.1 * 1.9 * (0.5 + 0.01 * np.array([[1.0, -2.0]])), rtol=1e-6)
    np.testing.assert_allclose(update["bias"], [-0.1 * 1.9 * 0.5], rtol=1e-6)


def test_decay_all_reaches_biases():
    update = updates(Sgd(learning_rate=1.0, momentum=0.0, weight_decay=0.1, decay_all=True))
    np.testing.assert_allclose(update["bias"], [-(0.5 + 0.3)], rtol=1e-6)


def test_clipping_bounds_the_global_norm():
    update = updates(Sgd(learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.1))
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(update)))
    np.testing.assert_allclose(norm, 0.1, rtol=1e-5)


def test_adamw_first_step_is_the_sign_of_the_gradient():
    update = updates(AdamW(learning_rate=0.1, weight_decay=0.0))
    np.testing.assert_allclose(update["kernel"], [[-0.1, -0.1]], rtol=1e-4)


def test_cosine_warms_up_and_ends_at_final():
    schedule = Cosine(warmup_epochs=1, final=0.1)(total_steps=30, steps_per_epoch=10)
    np.testing.assert_allclose([schedule(0), schedule(5), schedule(10)], [0.0, 0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(schedule(20), 0.1 + 0.9 * 0.5, rtol=1e-6)
    np.testing.assert_allclose(schedule(30), 0.1, rtol=1e-6)


def test_warm_restarts_return_to_one_after_10_30_and_70_epochs():
    schedule = WarmRestarts(period_epochs=10, multiplier=2)(total_steps=1500, steps_per_epoch=10)
    for restart in (0, 100, 300, 700):
        np.testing.assert_allclose(schedule(restart), 1.0, rtol=1e-6)
        middle = restart + {0: 50, 100: 100, 300: 200, 700: 400}[restart]
        np.testing.assert_allclose(schedule(middle), 0.5, atol=1e-6)
    np.testing.assert_allclose(schedule(1499), 0.0, atol=1e-5)


def test_constant_after_warmup():
    schedule = Constant(warmup_epochs=2)(total_steps=100, steps_per_epoch=5)
    np.testing.assert_allclose([schedule(5), schedule(10), schedule(99)], [0.5, 1.0, 1.0], rtol=1e-6)


def test_average_forgets_the_start_and_follows_the_closed_form():
    average, ema = jnp.array(100.0), Ema(decay=0.9)
    expected = 100.0
    for t in range(200):
        value = float(np.sin(t))
        average = ema(average, jnp.array(value), jnp.array(t), steps_per_epoch=1)
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-5)
    assert abs(float(average)) < 2


@pytest.mark.parametrize(
    ("component", "kwargs", "message"),
    [
        (Sgd, {"learning_rate": 0.0}, "learning_rate > 0"),
        (Sgd, {"weight_decay": -1.0}, "weight_decay >= 0"),
        (AdamW, {"clip_norm": 0.0}, "clip_norm > 0"),
        (Cosine, {"warmup_epochs": -1}, "warmup_epochs >= 0"),
        (WarmRestarts, {"multiplier": 0}, "multiplier > 0"),
        (Ema, {"decay": 1.5}, "decay in"),
    ],
)
def test_bad_values_are_named(component, kwargs, message):
    with pytest.raises(ValueError, match=message):
        component(**kwargs)
