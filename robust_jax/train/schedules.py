"""Learning-rate schedules: ``schedule(total_steps, steps_per_epoch)`` gives a function of the step.

A schedule is a factor in [0, 1]; the optimiser multiplies it by its learning rate. Lengths are in epochs.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import optax

from robust_jax.core.checks import check_fraction, check_non_negative, check_positive


class Schedule(Protocol):
    """Factor of the learning rate over training."""

    def __call__(self, total_steps: int, steps_per_epoch: int, /) -> optax.Schedule:
        """Return the factor as a function of the step."""
        ...


@dataclasses.dataclass(frozen=True)
class Constant:
    """Always 1, after a linear warm-up."""

    warmup_epochs: float = 0.0
    """Epochs of linear rise from 0."""

    def __post_init__(self):
        check_non_negative("warmup_epochs", self.warmup_epochs)

    def __call__(self, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
        del total_steps
        return _with_warmup(optax.constant_schedule(1.0), round(self.warmup_epochs * steps_per_epoch))


@dataclasses.dataclass(frozen=True)
class Cosine:
    r"""Half a cosine from 1 to ``final``, :math:`f + (1 - f)\,(1 + \cos(\pi t / T)) / 2`, after a linear warm-up."""

    warmup_epochs: float = 0.0
    """Epochs of linear rise from 0."""
    final: float = 0.0
    """Factor at the last step."""

    def __post_init__(self):
        check_non_negative("warmup_epochs", self.warmup_epochs)
        check_fraction("final", self.final)

    def __call__(self, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
        warmup_steps = round(self.warmup_epochs * steps_per_epoch)
        decay = optax.cosine_decay_schedule(1.0, max(total_steps - warmup_steps, 1), alpha=self.final)
        return _with_warmup(decay, warmup_steps)


@dataclasses.dataclass(frozen=True)
class WarmRestarts:
    """SGDR (Loshchilov & Hutter, 2017): cosines from 1 to 0, each ``multiplier`` times as long as the one before."""

    period_epochs: float = 10.0
    """Length of the first cosine."""
    multiplier: float = 2.0
    """Growth of the length from one cosine to the next."""

    def __post_init__(self):
        check_positive("period_epochs", self.period_epochs)
        check_positive("multiplier", self.multiplier)

    def __call__(self, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
        cosines, boundaries, end, length = [], [], 0, self.period_epochs * steps_per_epoch
        while end < total_steps:
            cosines.append(optax.cosine_decay_schedule(1.0, max(round(length), 1)))
            end += max(round(length), 1)
            boundaries.append(end)
            length *= self.multiplier
        return optax.join_schedules(cosines, boundaries[:-1])


def _with_warmup(schedule: optax.Schedule, warmup_steps: int) -> optax.Schedule:
    if warmup_steps == 0:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup_steps), schedule], [warmup_steps])
