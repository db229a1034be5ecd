"""A network of two layers with batch norm between them, written out, and a small problem for it."""

import jax
import jax.numpy as jnp

from robust_jax.types import Batch, Output

KEY = jax.random.key(3)
RUNNING = {"mean": jnp.zeros(4), "variance": jnp.ones(4)}
DECAY = 0.9


def normalised(params, images, *, key=None, train=True, state=None):
    """Two layers with batch norm between them, running averages as they are everywhere."""
    state = RUNNING if state is None else state
    hidden = images.reshape(len(images), -1) @ params["first"]
    mean, variance = (state["mean"], state["variance"]) if not train else (hidden.mean(axis=0), hidden.var(axis=0))
    features = jnp.tanh((hidden - mean[None]) / jnp.sqrt(variance[None] + 1e-5))
    output = Output(features @ params["second"], features)
    if not train:
        return output, state
    return output, {
        "mean": DECAY * state["mean"] + (1 - DECAY) * mean,
        "variance": DECAY * state["variance"] + (1 - DECAY) * variance,
    }


def problem(classes=3):
    keys = jax.random.split(jax.random.key(0), 4)
    images = 0.25 + 0.5 * jax.random.uniform(keys[0], (12, 2, 2, 1))
    labels = jax.random.randint(keys[1], (12,), 0, classes)
    params = {"first": jax.random.normal(keys[2], (4, 4)), "second": jax.random.normal(keys[3], (4, classes))}
    return params, Batch(images, labels, jnp.ones(12, bool), 5 + jnp.arange(12))
