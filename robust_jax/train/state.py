"""What a training run carries from step to step, and what a checkpoint holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from robust_jax import models
from robust_jax.core.keys import named_key
from robust_jax.train.averaging import Taken
from robust_jax.weights import load_weights


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
        averaged = self.average is not None and not isinstance(self.average, Taken)
        params, model_state = self.average if averaged else (self.params, self.model_state)
        return {"params": params, **model_state}

    def snapshots(self) -> tuple[dict[str, PyTree], ...]:
        """Those that were kept along training, the oldest first; none where none are asked for."""
        if not isinstance(self.average, Taken):
            return ()
        params, model_state = self.average.values
        stacked = {"params": params, **model_state}
        room = len(jax.tree.leaves(params)[0])
        newest = range(room - min(int(self.average.count), room), room)
        return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in newest)


def init_state(
    model: Any,
    optimiser: optax.GradientTransformation,
    *,
    seed: int,
    image_shape: tuple[int, int, int],
    averaging: Any = None,
    weights: str | None = None,
) -> TrainState:
    """The state before the first step; the same for the same seed, or file of weights, on any devices."""
    if weights is None:
        params, model_state = models.init(model, named_key(jax.random.key(seed), "init"), image_shape)
    else:
        params, model_state = load_weights(weights, model, image_shape)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=jax.jit(optimiser.init)(params),
        average=None if averaging is None else averaging.init((params, model_state)),
        bad_step=jnp.full((), -1, jnp.int32),
    )
