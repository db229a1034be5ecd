"""One training step on one device and on several: the same gradient, up to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robust_jax import data, models, train
from robust_jax.augmentations import HorizontalFlip
from robust_jax.core.mesh import data_mesh, replicate, shard_batch
from robust_jax.train.state import init_state
from robust_jax.types import Batch

NETWORKS = {
    "wide_resnet": models.WideResNet(depth=10, width=1, dtype="float64"),
    "resnet": models.ResNet(stage_sizes=(1, 1), width=8, dtype="float64"),
}


def gradient(model, batch, devices):
    """The gradient that a step applies: its updates under SGD with a rate of 1."""
    experiment = train.Experiment(data=data.Digits(), model=model, augmentation=HorizontalFlip())
    optimiser, mesh = optax.sgd(1.0), data_mesh(devices)
    step = train.make_train_step(
        experiment, optimiser, lambda resident, item: item, mesh, steps_per_epoch=1, num_classes=10
    )
    state = jax.tree.map(widened, init_state(experiment, optimiser, batch))
    before = to_numpy(state.params.network)
    items = (shard_batch(batch, mesh),)
    after, scalars = step(jax.random.key(1), replicate(state, mesh), (), items)
    moved = jax.tree.map(lambda a, b: a - np.asarray(b), before, after.params.network)
    assert int(after.bad_step) == -1
    return {"loss": np.asarray(scalars["loss"]), "params": moved, "model_state": to_numpy(after.model_state)}


def widened(leaf):
    return leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf


def to_numpy(tree):
    return jax.tree.map(np.asarray, tree)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_in_float64_is_the_same_on_all_devices(name):
    """Batch norms take the statistics of the whole batch, and padding counts nowhere."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        images, labels = rng.random((16, 8, 8, 1)), rng.integers(0, 10, 16)
        batch = Batch(jnp.asarray(images), jnp.asarray(labels), jnp.arange(16) < 13, jnp.arange(16))
        one = gradient(NETWORKS[name], batch, jax.devices()[:1])
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(one))
        all_devices = gradient(NETWORKS[name], batch, jax.devices())
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), all_devices, one)
