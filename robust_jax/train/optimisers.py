"""Optimisers: ``optimiser(schedule)`` gives an optax gradient transformation."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax
import optax
from jaxtyping import PyTree

from robust_jax.core.checks import check_non_negative, check_positive


class Optimiser(Protocol):
    """Gradient transformation whose learning rate follows a schedule."""

    def __call__(self, schedule: optax.Schedule, /) -> optax.GradientTransformation:
        """Return the transformation; ``schedule`` is the factor of the learning rate by step."""
        ...


def is_matrix(params: PyTree) -> PyTree:
    """True on kernels, False on biases and norm scales: what weight decay should reach."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


@dataclasses.dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum; weight decay is added to the gradient before the momentum."""

    learning_rate: float = 0.1
    """Peak learning rate; the schedule multiplies it."""
    momentum: float = 0.9
    """Decay of the running sum of gradients."""
    nesterov: bool = False
    """Look one step ahead."""
    weight_decay: float = 5e-4
    """Coefficient of the L2 penalty's gradient."""
    decay_all: bool = False
    """Decay norm scales and biases too, as plain PyTorch recipes do."""
    clip_norm: float | None = None
    """Largest global norm of the gradient; None leaves it alone."""

    def __post_init__(self):
        _check(self)
        check_non_negative("momentum", self.momentum)

    def __call__(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        return optax.chain(
            _clip(self.clip_norm),
            optax.add_decayed_weights(self.weight_decay, mask=None if self.decay_all else is_matrix),
            optax.sgd(_scaled(schedule, self.learning_rate), self.momentum or None, nesterov=self.nesterov),
        )


@dataclasses.dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    learning_rate: float = 1e-3
    """Peak learning rate; the schedule multiplies it."""
    b1: float = 0.9
    """Decay of the first moment."""
    b2: float = 0.999
    """Decay of the second moment."""
    weight_decay: float = 0.05
    """Decoupled weight decay, multiplied by the learning rate."""
    decay_all: bool = False
    """Decay norm scales and biases too."""
    clip_norm: float | None = 1.0
    """Largest global norm of the gradient; None leaves it alone."""

    def __post_init__(self):
        _check(self)

    def __call__(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        mask = None if self.decay_all else is_matrix
        rate = _scaled(schedule, self.learning_rate)
        adam = optax.adamw(rate, self.b1, self.b2, weight_decay=self.weight_decay, mask=mask)
        return optax.chain(_clip(self.clip_norm), adam)


def _check(optimiser: Sgd | AdamW) -> None:
    check_positive("learning_rate", optimiser.learning_rate)
    check_non_negative("weight_decay", optimiser.weight_decay)
    if optimiser.clip_norm is not None:
        check_positive("clip_norm", optimiser.clip_norm)


def _clip(norm: float | None) -> optax.GradientTransformation:
    return optax.identity() if norm is None else optax.clip_by_global_norm(norm)


def _scaled(schedule: optax.Schedule, learning_rate: float) -> optax.Schedule:
    return lambda step: learning_rate * schedule(step)
