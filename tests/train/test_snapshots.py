"""Snapshots of a cyclic learning rate: each is what training for so many cycles gives, and together they predict."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import config, data, models, train

EXPERIMENT = train.Experiment(
    data=data.Digits(),
    model=models.ResNet(stage_sizes=(1,), width=4),
    optimiser=train.Sgd(learning_rate=0.1),
    schedule=train.WarmRestarts(period_epochs=1, multiplier=1.0),
    averaging=train.Snapshots(period_epochs=1, keep=2),
    epochs=3,
    batch_size=280,
    execution=train.Execution(num_devices=1),
)
IMAGES = jax.random.uniform(jax.random.key(0), (6, 8, 8, 1))


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), a, b)


def test_newest_are_kept_in_turn():
    snapshots = train.Snapshots(period_epochs=1.5, keep=2)
    taken = snapshots.init({"w": jnp.zeros(3)})
    update = jax.jit(lambda *a: snapshots(*a, steps_per_epoch=2))
    for step in range(12):
        taken = update(taken, {"w": jnp.full(3, float(step))}, jnp.int32(step))
    # Cycles of three steps end with the steps 2, 5, 8 and 11.
    np.testing.assert_array_equal(taken.values["w"][:, 0], [8, 11])
    assert int(taken.count) == 4


def test_schedule_is_that_of_the_paper():
    rate = train.WarmRestarts(period_epochs=2, multiplier=1.0)(total_steps=30, steps_per_epoch=5)
    expected = [(math.cos(math.pi * ((t - 1) % 10) / 10) + 1) / 2 for t in range(1, 31)]
    np.testing.assert_allclose([rate(t) for t in range(30)], expected, atol=1e-6)


def test_snapshots_are_members(tmp_path):
    found = train.fit_predictor(EXPERIMENT, tmp_path)
    assert len(found.members) == 2
    shorter = train.fit(dataclasses.replace(EXPERIMENT, epochs=2, averaging=None))
    assert_close(found.members[0].variables, shorter.variables)
    assert_close(found.members[1].variables, train.restore(EXPERIMENT, tmp_path).variables)
    predict = jax.jit(lambda f: f(IMAGES))
    expected = np.mean([jax.nn.softmax(predict(member.predictor)) for member in found.members], axis=0)
    np.testing.assert_allclose(jnp.exp(predict(found.predictor)), expected, atol=1e-5)
    restored = train.restore_predictor(EXPERIMENT, tmp_path)
    np.testing.assert_array_equal(predict(restored.predictor), predict(found.predictor))
    assert config.from_json(config.to_json(EXPERIMENT)) == EXPERIMENT


def test_bad_values():
    with pytest.raises(ValueError, match="period_epochs > 0"):
        train.Snapshots(period_epochs=0)
    with pytest.raises(ValueError, match="keep > 0"):
        train.Snapshots(keep=0)
    with pytest.raises(ValueError, match=r"Expected epochs for 2 cycles of 1 epochs .* got epochs=1"):
        train.fit(dataclasses.replace(EXPERIMENT, epochs=1))
