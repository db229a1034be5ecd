"""Consistency over augmented views, as AugMix and its successors train with."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_fraction, check_non_negative, check_positive
from robust_jax.objectives.cross_entropy import (
    classification_metrics,
    cross_entropy,
    masked_mean,
    plain_loss,
    smooth_labels,
)
from robust_jax.objectives.views import augmented_views
from robust_jax.types import Augmentation, Batch, Context, Forward, Loss, Objective, PRNGKey

LEAST = 1e-7
"""Probabilities of the mixture are at least this, as in the published code."""


def jensen_shannon(logits: Float[Array, "v b k"]) -> Float[Array, "b"]:
    r"""The Jensen–Shannon divergence of v distributions, in nats, from 0 to log v.

    .. math::
        \frac{1}{v} \sum_i \mathrm{KL}(p_i \,\|\, M), \quad M = \frac{1}{v} \sum_i p_i, \; p_i = \mathrm{softmax}(z_i)
    """
    probs, log_probs = jax.nn.softmax(logits), jax.nn.log_softmax(logits)
    mixture = jnp.log(jnp.clip(jnp.mean(probs, axis=0, keepdims=True), LEAST, 1))
    return jnp.mean(jnp.sum(probs * (log_probs - mixture), axis=-1), axis=0)


@dataclasses.dataclass(frozen=True)
class JensenShannon(Objective):
    """Cross-entropy on the images, and the divergence of what is predicted for them and for augmented views.

    Views are drawn inside the training step, of images as the experiment's own augmentation leaves them. All pass
    through the network as one batch.

    Raises:
        ValueError: if a number is out of range.

    References:
        Hendrycks et al., AugMix (arXiv 1912.02781), equation 1.
    """

    augmentation: Augmentation
    """Of the views."""
    num_views: int = 2
    """Beside the image itself."""
    weight: float = 12.0
    """Of the divergence."""
    label_smoothing: float = 0.0
    """Share of probability spread evenly over the classes."""

    def __post_init__(self):
        check_positive("num_views", self.num_views)
        check_non_negative("weight", self.weight)
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        view_key, key = jax.random.split(key)
        views = augmented_views(view_key, [self.augmentation] * self.num_views, batch)
        output, model_state = forward(params, jnp.concatenate([batch.image, *views]), key=key, train=True)
        logits = output.prediction.reshape(1 + self.num_views, *batch.mask.shape, -1)
        targets = smooth_labels(batch.label, logits.shape[-1], smoothing=self.label_smoothing)
        fit, divergence = cross_entropy(logits[0], targets), jensen_shannon(logits)
        metrics = classification_metrics(logits[0], targets, batch, output)
        metrics["cross_entropy"] = masked_mean(fit, batch.mask)
        metrics["jensen_shannon"] = masked_mean(divergence, batch.mask)
        return plain_loss(fit + self.weight * divergence, model_state, state, metrics)
