"""Checks and objects that a run needs before its first step."""

from __future__ import annotations

from typing import NamedTuple

import jax
import optax
from jax.sharding import Mesh

from robust_jax import data, models
from robust_jax.core.mesh import data_mesh, replicate
from robust_jax.train.averaging import Snapshots
from robust_jax.train.experiment import Experiment
from robust_jax.train.initial import FromRun, matches, only_trainable
from robust_jax.train.members import example_batch
from robust_jax.train.state import TrainState, Variables, init_state
from robust_jax.train.task import check_transforms, fitting_task
from robust_jax.train.validation import check_selection
from robust_jax.types import Task


class Prepared(NamedTuple):
    """Data, devices, optimiser, task and step counts of one stage."""

    mesh: Mesh
    source: data.Source
    extra: dict[str, data.Source]
    steps_per_epoch: int
    total_steps: int
    optimiser: optax.GradientTransformation
    task: Task | None


def prepare(experiment: Experiment) -> Prepared:
    """Load the training data and check that data, network, task, selection and devices fit together.

    Raises:
        ValueError: naming what does not fit.
    """
    mesh = data_mesh(jax.devices()[: experiment.execution.num_devices])
    if experiment.batch_size % mesh.size:
        raise ValueError(f"Expected batch_size to divide by the {mesh.size} devices, got {experiment.batch_size}.")
    source = experiment.data.load("train")
    steps_per_epoch = len(source) // experiment.batch_size
    if steps_per_epoch == 0:
        raise ValueError(f"Expected batch_size <= {len(source)} training examples, got {experiment.batch_size}.")
    params, model_state, output = models.output_shapes(experiment.network(), source.image_shape)
    task = fitting_task(experiment, source, output.prediction)
    check_transforms(experiment, source)
    label = jax.ShapeDtypeStruct((1, *source.label_shape), source.label_dtype)
    check_selection(experiment, task, output.prediction, label)
    extra = {name: stream.data.load("train") for name, stream in experiment.extra.items()}
    for name, stream in extra.items():
        if stream.image_shape != source.image_shape:
            raise ValueError(
                f"Expected images of the extra stream {name!r} of shape {source.image_shape}, got {stream.image_shape}."
            )
    total_steps = experiment.epochs * steps_per_epoch
    kept = experiment.averaging
    if isinstance(kept, Snapshots) and kept.keep * kept.period_steps(steps_per_epoch) > total_steps:
        raise ValueError(
            f"Expected epochs for {kept.keep} cycles of {kept.period_epochs:g} epochs to take snapshots of, "
            f"got epochs={experiment.epochs}."
        )
    optimiser = experiment.optimiser(experiment.schedule(total_steps, steps_per_epoch))
    experiment.gradient.check(model_state)
    if experiment.trainable is not None:
        optimiser = only_trainable(optimiser, matches(params, experiment.trainable, argument="trainable"))
    return Prepared(mesh, source, extra, steps_per_epoch, total_steps, optimiser, task)


def make_feed(experiment: Experiment, prepared: Prepared) -> data.Feed:
    """Return the feed of the training set, with the extra streams beside it."""
    execution = experiment.execution
    settings = {
        "mesh": prepared.mesh,
        "resident": {"auto": "auto", "yes": True, "no": False}[execution.resident],
        "num_workers": execution.num_workers,
        "prefetch": execution.prefetch,
    }
    feed = data.train_feed(prepared.source, batch_size=experiment.batch_size, seed=experiment.seed, **settings)
    if not experiment.extra:
        return feed
    extra = {
        name: data.train_feed(prepared.extra[name], batch_size=stream.batch_size, seed=experiment.seed, **settings)
        for name, stream in experiment.extra.items()
    }
    return data.MultiFeed(feed, extra).with_seed(experiment.seed)


def initial_state(experiment: Experiment, prepared: Prepared, initial: Variables | None) -> TrainState:
    """Return the state before the first step, on all devices.

    Raises:
        ValueError: if the experiment starts from another run and its weights are not given, or weights do not fit.
    """
    if isinstance(experiment.initial, FromRun) and initial is None:
        raise ValueError(
            f"Expected the weights of run {experiment.initial.name!r} as initial=, got none; robust-jax run trains it."
        )
    source = prepared.source
    label_shape = source.label_shape
    example = example_batch(experiment, source.image_shape, source.num_classes, label_shape=label_shape)
    state = init_state(experiment, prepared.optimiser, example, initial=initial)
    return replicate(state, prepared.mesh)
