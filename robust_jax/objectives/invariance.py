"""A reward for networks that are invariant to more."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import PyTree

from robust_jax.core.checks import check_fraction, check_non_negative
from robust_jax.objectives.cross_entropy import CrossEntropy, masked_mean
from robust_jax.types import Batch, Context, Forward, Loss, Objective, PRNGKey


@dataclasses.dataclass(frozen=True)
class Invariance(Objective):
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

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        loss = CrossEntropy(self.label_smoothing)(key, forward, params, batch, state, context)
        if "invariance" not in loss.metrics:
            raise ValueError("Expected a network with an 'invariance' among its extras, such as models.AugNet.")
        metrics = {**loss.metrics, "cross_entropy": masked_mean(loss.per_example, batch.mask)}
        return loss._replace(penalty=-self.weight * jnp.mean(loss.metrics["invariance"]), metrics=metrics)
