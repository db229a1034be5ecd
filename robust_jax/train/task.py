"""The task of an experiment, checked against its network and its data."""

from __future__ import annotations

import dataclasses

import jax

from robust_jax import data
from robust_jax.tasks import Regression, infer_task
from robust_jax.train.experiment import Experiment
from robust_jax.types import Shaped, Task


def fitting_task(experiment: Experiment, source: data.Source, prediction: Shaped) -> Task | None:
    """Return the experiment's task, or the one that data and network imply; None where they imply none.

    Args:
        experiment: what is trained.
        source: its training set.
        prediction: shape of the network's prediction for a batch of one.

    Raises:
        ValueError: naming task, network and data, with shapes, if they do not fit together.
    """
    num_targets, task = len(source.target_scale), experiment.task
    if task is None:
        task = infer_task(prediction, num_classes=source.num_classes, target_scale=source.target_scale)
    elif isinstance(task, Regression) and not task.scale and task.num_targets == num_targets:
        task = dataclasses.replace(task, scale=source.target_scale)
    if task is not None:
        label = (
            jax.ShapeDtypeStruct((1, num_targets), "float32") if num_targets else jax.ShapeDtypeStruct((1,), "int32")
        )
        try:
            task.check(prediction, label)
        except ValueError as error:
            network = type(experiment.model).__name__
            raise ValueError(f"{network} on {source.name} does not fit its task. {error}") from error
    return task
