"""What a training run carries from step to step, and what a checkpoint holds."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from robust_jax import models
from robust_jax.core.keys import RunKeys
from robust_jax.core.shapes import image_shape
from robust_jax.train.averaging import Taken
from robust_jax.train.experiment import Experiment
from robust_jax.train.initial import carried_over
from robust_jax.types import Batch, Params
from robust_jax.weights import load_weights

Variables = dict[str, PyTree]


class TrainState(NamedTuple):
    """State of training after ``step`` steps.

    ``objective_state`` is the objective's own state. ``bad_step`` is the first step whose loss or gradient was not
    finite, -1 while there is none.
    """

    step: Int[Array, ""]
    params: Params
    model_state: PyTree
    objective_state: PyTree
    opt_state: PyTree
    average: PyTree
    bad_step: Int[Array, ""]

    def variables(self) -> Variables:
        """Return what to evaluate: the averaged weights where there is an average, else the last ones."""
        params, model_state = self.params.network, self.model_state
        if self.average is not None and not isinstance(self.average, Taken):
            params, model_state = self.average
        return {"params": params, **model_state}

    def snapshots(self) -> tuple[Variables, ...]:
        """Return the snapshots taken along training, the oldest first; none where none are asked for."""
        if not isinstance(self.average, Taken):
            return ()
        params, model_state = self.average.values
        stacked = {"params": params, **model_state}
        room = len(jax.tree.leaves(params)[0])
        newest = range(room - min(int(self.average.count), room), room)
        return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in newest)


def init_state(
    experiment: Experiment,
    optimiser: optax.GradientTransformation,
    example: Batch,
    *,
    initial: Variables | None = None,
) -> TrainState:
    """Return the state before the first step; the same for the same seed and weights on any devices.

    Args:
        experiment: what to train.
        optimiser: the gradient transformation, made from the experiment's.
        example: a batch, or shapes of one; only its shapes are read.
        initial: variables of an earlier stage or run to start from; parameters that ``experiment.reset`` names are
            drawn anew.

    Raises:
        ValueError: if weights do not fit the network.
    """
    keys = RunKeys(jax.random.key(experiment.seed))
    model, shape = experiment.network(), image_shape(example.image)
    if isinstance(experiment.initial, str) and initial is None:
        params, model_state = load_weights(experiment.initial, model, shape)
    else:
        params, model_state = models.init(model, keys.init(), shape)
    if initial is not None:
        params, model_state = carried_over(initial, params, model_state, reset=experiment.reset)
    own_params, own_state = experiment.objective.init(keys.objective_init(), params, example)
    joint = Params(params, own_params)
    averaging = experiment.averaging
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=joint,
        model_state=model_state,
        objective_state=own_state,
        opt_state=jax.jit(optimiser.init)(joint),
        average=None if averaging is None else averaging.init((params, model_state)),
        bad_step=jnp.full((), -1, jnp.int32),
    )
