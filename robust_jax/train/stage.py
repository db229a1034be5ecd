"""Stages of a run, and the data streams beside its training set."""

from __future__ import annotations

import dataclasses

from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.data import DataSet
from robust_jax.train.averaging import Averaging
from robust_jax.train.gradients import Gradient
from robust_jax.train.optimisers import Optimiser
from robust_jax.train.schedules import Schedule
from robust_jax.train.selection import Best
from robust_jax.types import Augmentation, Mixer, Module, Objective


@dataclasses.dataclass(frozen=True)
class Stream:
    """A data stream beside the training set, such as unlabelled or outlier images.

    The objective reads it as ``batch.extras[name]``, a :class:`~robust_jax.types.Batch` of its own size. It starts over
    when it ends, in a new order.
    """

    data: DataSet
    """Data set; its training split is read."""
    batch_size: int = 128
    """Examples per step, over all devices."""
    augmentation: Augmentation | None = None
    """Random transform of each image, inside the compiled step."""

    def __post_init__(self):
        check_positive("batch_size", self.batch_size)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of a run that starts from the weights of the part before; None takes the experiment's own field."""

    name: str
    """Name of the stage, which its folder carries."""
    data: DataSet | None = None
    """Training data."""
    model: Module | None = None
    """Network; parameters of other shapes than before must match ``reset``."""
    extra: dict[str, Stream] | None = None
    """Data streams beside the training set, by the name that the objective reads."""
    augmentation: Augmentation | None = None
    """Random transform of each training image; :class:`~robust_jax.augmentations.Identity` leaves images alone."""
    mixers: tuple[Mixer, ...] | None = None
    """Random transforms that couple the examples of a batch, applied in turn."""
    objective: Objective | None = None
    """Training loss."""
    gradient: Gradient | None = None
    """Differentiation of the loss."""
    optimiser: Optimiser | None = None
    """Gradient transformation."""
    schedule: Schedule | None = None
    """Factor of the learning rate over the stage."""
    averaging: Averaging | None = None
    """Average of the weights, or snapshots."""
    selection: Best | None = None
    """Epoch whose weights the next stage starts from, or the evaluation."""
    epochs: int | None = None
    """Passes over the training set."""
    batch_size: int | None = None
    """Examples per step, over all devices."""
    trainable: tuple[str, ...] | None = None
    """Patterns of the parameters that move, such as ``("head/*",)``."""
    reset: tuple[str, ...] | None = None
    """Patterns of the parameters that are drawn anew when the stage starts."""

    def __post_init__(self):
        if not self.name or not self.name.replace("_", "a").replace("-", "a").isalnum():
            raise ValueError(f"Expected a stage name of letters, digits, - and _, got {self.name!r}.")
        if self.epochs is not None:
            check_non_negative("epochs", self.epochs)
        if self.batch_size is not None:
            check_positive("batch_size", self.batch_size)
