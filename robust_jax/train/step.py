"""The compiled training step: fetch, augment, mix, differentiate, update, average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from robust_jax import models
from robust_jax.augmentations import moving_maps
from robust_jax.core.compilation import cpu_training_options
from robust_jax.core.keys import RunKeys, example_keys
from robust_jax.core.loops import scan_steps
from robust_jax.core.mesh import replicated
from robust_jax.core.platform import on_cpu
from robust_jax.objectives import mean_loss, smooth_labels
from robust_jax.tasks import is_label_map
from robust_jax.train.experiment import Experiment
from robust_jax.train.initial import frozen, frozen_batch_norm, matches
from robust_jax.train.state import TrainState
from robust_jax.types import Augmentation, Batch, Context, Images, Interceptor, Loss, Output, Params, PRNGKey, PRNGKeys

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
        num_classes: of the labels, which mixers take as probabilities; real targets stay as they are.

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
    total_steps = max(experiment.epochs * steps_per_epoch, 1)

    def train_step(root: PRNGKey, resident: PyTree, state: TrainState, item: PyTree):
        keys = RunKeys(root)
        epoch = state.step // steps_per_epoch
        context = Context(state.step, epoch, state.step / total_steps)
        batch = _augmented(experiment, keys, fetch(resident, item), context, num_classes)
        network_forward = models.forward_fn(model, state.model_state)
        trainable, always = None, ()
        if experiment.trainable is not None:
            trainable = matches(state.params.network, experiment.trainable, argument="trainable")
            always = (frozen_batch_norm(trainable),)

        def forward(
            params: Params, images: Images, *, interceptors: Sequence[Interceptor] = (), **settings: PyTree
        ) -> tuple[Output, PyTree]:
            return network_forward(params.network, images, interceptors=(*interceptors, *always), **settings)

        def loss_fn(params: Params, batch: Batch) -> Loss:
            params = params if trainable is None else frozen(params, trainable)
            key = keys.objective(state.step)
            return experiment.objective(key, forward, params, batch, state.objective_state, context)

        gradient_key = keys.gradient(state.step)
        grads, loss = experiment.gradient(gradient_key, loss_fn, state.params, batch, context)
        value, grad_norm = mean_loss(loss, batch.mask), optax.tree.norm(grads)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.tree.cast_like(optax.tree.add(state.params, updates), state.params)
        average = state.average
        if experiment.averaging is not None:
            weights = (params.network, loss.model_state)
            average = experiment.averaging(average, weights, state.step, steps_per_epoch=steps_per_epoch)
        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
        after = TrainState(state.step + 1, params, loss.model_state, loss.state, opt_state, average, state.bad_step)
        state = _keep_if(
            finite & (state.bad_step < 0),
            after,
            state._replace(bad_step=jnp.where(state.bad_step < 0, state.step, state.bad_step)),
        )
        return state, {"loss": value, "grad_norm": grad_norm, **loss.metrics}

    return train_step


def _augmented(experiment: Experiment, keys: RunKeys, batch: Batch, context: Context, num_classes: int) -> Batch:
    copies = experiment.gradient.augmentations
    if copies > 1:
        batch = jax.tree.map(lambda leaf: jnp.repeat(leaf, copies, axis=0), batch)
    if experiment.augmentation is not None:
        example = example_keys(keys.augmentation(context.epoch), batch.id)
        if copies > 1:
            example = jax.vmap(jax.random.fold_in)(example, jnp.arange(len(batch.id)) % copies)
        batch = _transformed(experiment.augmentation, example, batch)
    for name, stream in experiment.extra.items():
        if stream.augmentation is not None:
            own: Batch = batch.extras[name]
            example = example_keys(keys.augmentation(context.step, name), own.id)
            batch = batch._replace(extras={**batch.extras, name: _transformed(stream.augmentation, example, own)})
    if experiment.mixers and jnp.issubdtype(batch.label.dtype, jnp.integer):
        batch = batch._replace(label=smooth_labels(batch.label, num_classes))
    for i, mixer in enumerate(experiment.mixers):
        batch = mixer(keys.mixer(i, context.step), batch)
    return batch


def _transformed(augmentation: Augmentation, example: PRNGKeys, batch: Batch) -> Batch:
    """Augment every image with its own key; a label map moves with its image."""
    if not is_label_map(batch.label):
        return batch._replace(image=jax.vmap(augmentation)(example, batch.image))
    images, labels = jax.vmap(moving_maps(augmentation).with_map)(example, batch.image, batch.label)
    return batch._replace(image=images, label=labels)


def _keep_if(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
