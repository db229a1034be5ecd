"""Averages of the weights along training; evaluation uses the average."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from robust_jax.core.checks import check_fraction


@dataclasses.dataclass(frozen=True)
class Ema:
    r"""Exponential moving average :math:`a \leftarrow d\,a + (1 - d)\,w` of parameters and batch statistics.

    The decay rises as :math:`d = \min(\mathrm{decay}, (1 + t) / (10 + t))`, so that the random start is forgotten.
    """

    decay: float = 0.999
    """Decay d per step, in [0, 1]."""

    def __post_init__(self):
        check_fraction("decay", self.decay)

    def __call__(self, average: PyTree, value: PyTree, step: Int[Array, ""]) -> PyTree:
        step = step.astype(jnp.float32)
        decay: Float[Array, ""] = jnp.minimum(self.decay, (1 + step) / (10 + step))
        return jax.tree.map(lambda a, v: (decay * a + (1 - decay) * v).astype(a.dtype), average, value)
