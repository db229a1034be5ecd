"""Classification: predictions are logits."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.core.checks import check_positive
from robust_jax.types import Labels, Shaped


@dataclasses.dataclass(frozen=True)
class Classification:
    """Logits of ``num_classes`` classes; labels are classes int[b] or class probabilities f32[b, k].

    Raises:
        ValueError: if ``num_classes`` is not positive; when run, if predictions or labels have other shapes.
    """

    num_classes: int
    """Number of classes, k."""

    def __post_init__(self):
        check_positive("num_classes", self.num_classes)

    def check(self, prediction: Shaped, label: Shaped) -> None:
        """Raise ``ValueError`` unless predictions are [b, k] and labels int [b] or float [b, k]."""
        size = prediction.shape[0] if prediction.shape else None
        whole = (size, self.num_classes)
        hard = label.shape == (size,) and jnp.issubdtype(label.dtype, jnp.integer)
        soft = label.shape == whole and jnp.issubdtype(label.dtype, jnp.floating)
        if prediction.shape != whole or not (hard or soft):
            raise ValueError(
                f"Expected logits [b, {self.num_classes}] and labels int [b] or float [b, {self.num_classes}] for "
                f"{self}, got predictions {prediction.shape} and labels {label.dtype} {label.shape}."
            )

    def log_likelihood(self, prediction: Float[Array, "b k"], label: Labels) -> Float[Array, "b"]:
        """Log-likelihood of the label, in nats; its expectation where labels are probabilities."""
        self.check(prediction, label)
        return -metrics.nll(prediction, label)

    def measures(self, prediction: Float[Array, "b k"], label: Labels) -> dict[str, Float[Array, "b"]]:
        """Return ``error`` (0 or 1), ``nll`` in nats and ``brier`` in [0, 2] of each example."""
        self.check(prediction, label)
        return {
            "error": metrics.errors(prediction, label),
            "nll": metrics.nll(prediction, label),
            "brier": metrics.brier(prediction, label),
        }
