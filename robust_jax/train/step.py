"""The compiled training step: fetch, augment, mix, differentiate, update, average."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from robust_jax import models
from robust_jax.core.compilation import cpu_training_options
from robust_jax.core.keys import example_keys, named_key
from robust_jax.core.loops import scan_steps
from robust_jax.core.mesh import replicated
from robust_jax.core.platform import on_cpu
from robust_jax.objectives import smooth_labels
from robust_jax.train.experiment import Experiment
from robust_jax.train.state import TrainState
from robust_jax.types import Batch, PRNGKey

Scalars = Mapping[str, Float[Array, "steps"]]


def make_train_step(
    experiment: Experiment,
    optimiser: optax.GradientTransformation,
    fetch: Callable[[PyTree, PyTree], Batch],
    mesh: Mesh,
    *,
    steps_per_epoch: int,
    num_classes: int,
) -> Callable[[PRNGKey, TrainState, PyTree, tuple[PyTree, ...]], tuple[TrainState, Scalars]]:
    """Several training steps as one compiled program: ``state, scalars = step(key, state, resident, items)``.

    Args:
        experiment: what to train; its seed is not read, so that one program serves all.
        optimiser: the gradient transformation, made from the experiment's.
        fetch: ``fetch(resident, item) -> Batch``, part of the program.
        mesh: the devices. The state is replicated over them and the batch split; gradients and batch statistics are
            over the whole batch.
        steps_per_epoch: says which epoch a step belongs to; the augmentation of an example is a function of
            (key, epoch, id).
        num_classes: of the labels, which mixers take as probabilities.

    Returns:
        The step; ``key`` is that of the seed, and ``state`` is donated. ``scalars`` holds a value per step. A step
        whose loss or gradient is not finite changes nothing but ``bad_step``, and later ones nothing at all.
    """
    train_step = make_single_step(
        experiment, optimiser, fetch, steps_per_epoch=steps_per_epoch, num_classes=num_classes
    )

    options = cpu_training_options() if on_cpu(mesh) else {}

    @partial(jax.jit, donate_argnums=1, out_shardings=replicated(mesh), compiler_options=options)
    def train_steps(key, state, resident, items):
        # Known to what is computed for one example after the other, see core.loops.one_by_one.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return scan_steps(partial(train_step, key, resident), state, items)

    return train_steps


def make_single_step(
    experiment: Experiment,
    optimiser: optax.GradientTransformation,
    fetch: Callable[[PyTree, PyTree], Batch],
    *,
    steps_per_epoch: int,
    num_classes: int,
) -> Callable[[PRNGKey, PyTree, TrainState, PyTree], tuple[TrainState, dict[str, Array]]]:
    """One step of :func:`make_train_step`, not compiled: ``state, scalars = step(key, resident, state, item)``."""
    model = experiment.network()

    def train_step(root: PRNGKey, resident: PyTree, state: TrainState, item: PyTree):
        batch = _augmented(experiment, root, fetch(resident, item), state.step, steps_per_epoch, num_classes)
        forward = models.forward_fn(model, state.model_state)
        key = jax.random.fold_in(named_key(root, "objective"), state.step)

        def loss_fn(params):
            return experiment.objective(key, forward, params, batch)

        (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        grad_norm = optax.tree.norm(grads)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if experiment.averaging is not None:
            value = (params, aux.model_state)
            average = experiment.averaging(average, value, state.step, steps_per_epoch=steps_per_epoch)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        state = _keep_if(
            finite & (state.bad_step < 0),
            TrainState(state.step + 1, params, aux.model_state, opt_state, average, state.bad_step),
            state._replace(bad_step=jnp.where(state.bad_step < 0, state.step, state.bad_step)),
        )
        return state, {"loss": loss, "grad_norm": grad_norm, **aux.scalars}

    return train_step


def _augmented(
    experiment: Experiment, root: Any, batch: Batch, step: Array, steps_per_epoch: int, num_classes: int
) -> Batch:
    if experiment.augmentation is not None:
        key = jax.random.fold_in(named_key(root, "augmentation"), step // steps_per_epoch)
        images = jax.vmap(experiment.augmentation)(example_keys(key, batch.id), batch.image)
        batch = batch._replace(image=images)
    if experiment.mixers:
        batch = batch._replace(label=smooth_labels(batch.label, num_classes))
    for i, mixer in enumerate(experiment.mixers):
        batch = mixer(jax.random.fold_in(named_key(root, f"mixer.{i}"), step), batch)
    return batch


def _keep_if(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
