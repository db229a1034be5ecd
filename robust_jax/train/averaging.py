"""What is kept of the weights along training: an average, which evaluation uses, or snapshots, which are an ensemble.

``init(value)`` is what is kept of the first weights, ``(kept, value, step, *, steps_per_epoch) -> kept`` what is kept
after a step, a value being parameters and batch statistics.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from robust_jax.core.checks import check_fraction, check_positive


class Averaging(Protocol):
    """Weights kept along training, a value being parameters and batch statistics."""

    def init(self, value: PyTree, /) -> PyTree:
        """Return what is kept of the first weights."""
        ...

    def __call__(self, kept: PyTree, value: PyTree, step: Int[Array, ""], /, *, steps_per_epoch: int) -> PyTree:
        """Return what is kept after a step."""
        ...


@dataclasses.dataclass(frozen=True)
class Ema:
    r"""Exponential moving average :math:`a \leftarrow d\,a + (1 - d)\,w` of parameters and batch statistics.

    The decay rises as :math:`d = \min(\mathrm{decay}, (1 + t) / (10 + t))`, so that the random start is forgotten.
    """

    decay: float = 0.999
    """Decay d per step, in [0, 1]."""

    def __post_init__(self):
        check_fraction("decay", self.decay)

    def init(self, value: PyTree) -> PyTree:
        """The weights; copied, since donated buffers must not be shared."""
        return jax.tree.map(jnp.copy, value)

    def __call__(self, average: PyTree, value: PyTree, step: Int[Array, ""], *, steps_per_epoch: int) -> PyTree:
        del steps_per_epoch
        step = step.astype(jnp.float32)
        decay: Float[Array, ""] = jnp.minimum(self.decay, (1 + step) / (10 + step))
        return jax.tree.map(lambda a, v: (decay * a + (1 - decay) * v).astype(a.dtype), average, value)


class Taken(NamedTuple):
    """The newest snapshots, the last of them at the end, and how many were taken in all."""

    values: PyTree
    count: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Snapshots:
    """The weights at the end of each cycle of the learning rate, the newest of which are an ensemble.

    With the schedule :class:`~robust_jax.train.WarmRestarts` of the same period and multiplier 1, cycles are cosines
    from the learning rate to 0, and one training gives all members.

    Raises:
        ValueError: if a number is not positive.

    References:
        Huang et al., "Snapshot Ensembles: Train 1, Get M for Free" (arXiv 1704.00109), equation 2 and section 3.
    """

    period_epochs: float = 10.0
    """Length of a cycle."""
    keep: int = 5
    """m, the members of the ensemble: the last so many snapshots."""

    def __post_init__(self):
        check_positive("period_epochs", self.period_epochs)
        check_positive("keep", self.keep)

    def period_steps(self, steps_per_epoch: int) -> int:
        """Steps of a cycle."""
        return max(round(self.period_epochs * steps_per_epoch), 1)

    def init(self, value: PyTree) -> Taken:
        """None taken."""
        room = jax.tree.map(lambda leaf: jnp.zeros((self.keep, *leaf.shape), leaf.dtype), value)
        return Taken(room, jnp.int32(0))

    def __call__(self, taken: Taken, value: PyTree, step: Int[Array, ""], *, steps_per_epoch: int) -> Taken:
        ends = (step + 1) % self.period_steps(steps_per_epoch) == 0

        def put(old: Array, new: Array) -> Array:
            return jnp.where(ends, jnp.concatenate([old[1:], new[None].astype(old.dtype)]), old)

        return Taken(jax.tree.map(put, taken.values, value), taken.count + ends)
