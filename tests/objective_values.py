"""Objectives as tests call them: one value in a batch, at the start of training."""

import jax.numpy as jnp

from robust_jax.objectives import mean_loss
from robust_jax.types import Context

START = Context(jnp.int32(0), jnp.int32(0), jnp.float32(0))


def evaluate(objective, key, forward, params, batch, *, state=(), context=START):
    """The scalar that training minimises, and the whole loss."""
    loss = objective(key, forward, params, batch, state, context)
    return mean_loss(loss, batch.mask), loss
