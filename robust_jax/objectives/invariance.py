"""A reward for networks that are invariant to more."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_fraction, check_non_negative
from robust_jax.objectives.cross_entropy import CrossEntropy
from robust_jax.types import Aux, Batch, Forward, PRNGKey


@dataclasses.dataclass(frozen=True)
class Invariance:
    r"""Cross-entropy less λ times the ranges of a network's learned augmentations.

    Raises:
        ValueError: if a number is out of range; when run, if the network has no such augmentations.

    References:
        Rommel, Moreau & Gramfort (arXiv 2202.02142): the regulariser of AugNet, λ = 0.5 in its code; the form is that
        of Augerino (Benton, Finzi, Izmailov & Wilson, arXiv 2010.11882).
    """

    weight: float = 0.5
    """λ."""
    label_smoothing: float = 0.0
    """Share of probability spread evenly over the classes."""

    def __post_init__(self):
        check_non_negative("weight", self.weight)
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch) -> tuple[Float[Array, ""], Aux]:
        loss, aux = CrossEntropy(self.label_smoothing)(key, forward, params, batch)
        if "invariance" not in aux.scalars:
            raise ValueError("Expected a network that tells its invariance, such as models.AugNet.")
        return loss - self.weight * jnp.mean(aux.scalars["invariance"]), aux._replace(
            scalars={**aux.scalars, "cross_entropy": loss}
        )
