"""What a training run carries from step to step, and what a checkpoint holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from robust_jax import models
from robust_jax.core.keys import named_key


class TrainState(NamedTuple):
    """``bad_step`` is the first step whose loss or gradient was not finite, -1 while there is none."""

    step: Int[Array, ""]
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    average: PyTree
    bad_step: Int[Array, ""]

    def variables(self) -> dict[str, PyTree]:
        """What to evaluate: the averaged weights where there is an average, else the last ones."""
        params, model_state = self.average if self.average is not None else (self.params, self.model_state)
        return {"params": params, **model_state}


def init_state(
    model: Any,
    optimiser: optax.GradientTransformation,
    *,
    seed: int,
    image_shape: tuple[int, int, int],
    averaged: bool = False,
    weights: str | None = None,
) -> TrainState:
    """The state before the first step; the same for the same seed, or file of weights, on any devices."""
    if weights is None:
        params, model_state = models.init(model, named_key(jax.random.key(seed), "init"), image_shape)
    else:
        params, model_state = models.load_weights(weights, model, image_shape)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=jax.jit(optimiser.init)(params),
        # Copied, since donated buffers must not be shared.
        average=jax.tree.map(jnp.copy, (params, model_state)) if averaged else None,
        bad_step=jnp.full((), -1, jnp.int32),
    )
