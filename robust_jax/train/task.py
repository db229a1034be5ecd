"""The task of an experiment, checked against its network and its data."""

from __future__ import annotations

import dataclasses

import jax

from robust_jax import data
from robust_jax.augmentations import moving_maps
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
        task = infer_task(
            prediction,
            num_classes=source.num_classes,
            target_scale=source.target_scale,
            pixelwise=source.pixelwise,
        )
    elif isinstance(task, Regression) and not task.scale and task.num_targets == num_targets:
        task = dataclasses.replace(task, scale=source.target_scale)
    if task is not None:
        label = jax.ShapeDtypeStruct((1, *source.label_shape), source.label_dtype)
        try:
            task.check(prediction, label)
        except ValueError as error:
            network = type(experiment.model).__name__
            raise ValueError(f"{network} on {source.name} does not fit its task. {error}") from error
    return task


def check_transforms(experiment: Experiment, source: data.Source) -> None:
    """Check that augmentation and mixers keep the labels of every pixel, where the data has such.

    Raises:
        ValueError: if there are mixers, or an augmentation beside clean images.
        TypeError: if the augmentation cannot move a label map with its image.
    """
    if source.pixelwise is None:
        return
    kind = {"classes": "label maps", "images": "clean images"}[source.pixelwise]
    if experiment.mixers:
        mixer = type(experiment.mixers[0]).__name__
        raise ValueError(f"Expected no mixers, since {source.name} has {kind}, which they do not mix, got {mixer}.")
    if experiment.augmentation is None:
        return
    if source.pixelwise == "images":
        augmentation = type(experiment.augmentation).__name__
        raise ValueError(
            f"Expected no augmentation, since {source.name} has {kind}, which it would not change, got {augmentation}."
        )
    image = jax.ShapeDtypeStruct(source.image_shape, "float32")
    label = jax.ShapeDtypeStruct(source.label_shape, source.label_dtype)
    jax.eval_shape(moving_maps(experiment.augmentation).with_map, jax.random.key(0), image, label)
