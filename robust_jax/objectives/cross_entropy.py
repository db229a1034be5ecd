"""Cross-entropy, the plain empirical risk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from robust_jax.core.checks import check_fraction
from robust_jax.tasks import is_label_map, pixel_mean
from robust_jax.types import Batch, Context, Forward, Labels, Loss, Objective, Output, PRNGKey


def smooth_labels(labels: Labels, num_classes: int, *, smoothing: float = 0.0) -> Float[Array, "b k"]:
    r"""Class probabilities of hard or soft labels: :math:`(1 - s)\,y + s / k`.

    Args:
        labels: classes ``int[b]``, or probabilities ``float[b, k]``.
        num_classes: k.
        smoothing: s in [0, 1] (Szegedy et al., 2016, section 7).

    Raises:
        ValueError: if labels are neither, such as the targets of a regression.
    """
    if jnp.issubdtype(labels.dtype, jnp.integer):
        labels = jax.nn.one_hot(labels, num_classes)
    elif labels.shape[-1:] != (num_classes,):
        raise ValueError(
            f"Expected classes int [b] or class probabilities [b, {num_classes}], got {labels.dtype} {labels.shape}; "
            "real targets want an objective for regression, such as GaussianNll."
        )
    return (1 - smoothing) * labels + smoothing / num_classes


def cross_entropy(logits: Float[Array, "b k"], label_probs: Float[Array, "b k"]) -> Float[Array, "b"]:
    r"""Per example, :math:`-\sum_k y_k \log \mathrm{softmax}(z)_k` in nats."""
    return -jnp.sum(label_probs * jax.nn.log_softmax(logits), axis=-1)


def masked_mean(values: Float[Array, "b"], mask: Bool[Array, "b"]) -> Float[Array, ""]:
    """The mean over the examples that are not padding; 0 where there are none."""
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1)


def mean_loss(loss: Loss, mask: Bool[Array, "b"]) -> Float[Array, ""]:
    """Return the scalar that training minimises: the mean over unpadded examples plus the penalty."""
    return masked_mean(loss.per_example, mask) + loss.penalty


def plain_loss(
    per_example: Float[Array, "b"], model_state: PyTree, state: PyTree, metrics: Mapping[str, Float[Array, ""]]
) -> Loss:
    """Return a loss without penalty."""
    return Loss(per_example, jnp.zeros((), per_example.dtype), model_state, state, metrics)


def classification_metrics(
    logits: Float[Array, "b k"], targets: Float[Array, "b k"], batch: Batch, output: Output
) -> dict[str, Float[Array, ""]]:
    """Compute what is logged of every classifier: the accuracy, and the means of the network's extras."""
    correct = logits.argmax(axis=-1) == targets.argmax(axis=-1)
    return {
        "accuracy": masked_mean(correct, batch.mask),
        **{name: value.mean() for name, value in output.extras.items()},
    }


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Objective):
    """Mean cross-entropy over the batch, on hard or soft labels or on label maps.

    With label maps int [b, h, w] and logits [b, h, w, k], the loss of an image is the mean over its pixels that are
    not :data:`~robust_jax.types.IGNORED`.

    Raises:
        ValueError: if ``label_smoothing`` is outside [0, 1]; when run, if label maps have another size than the
            logits.
    """

    label_smoothing: float = 0.0
    """Share of probability spread evenly over the classes."""

    def __post_init__(self):
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        output, model_state = forward(params, batch.image, key=key, train=True)
        logits = output.prediction
        targets = smooth_labels(batch.label, logits.shape[-1], smoothing=self.label_smoothing)
        if not is_label_map(batch.label):
            metrics = classification_metrics(logits, targets, batch, output)
            return plain_loss(cross_entropy(logits, targets), model_state, state, metrics)
        if logits.shape[:-1] != batch.label.shape:
            raise ValueError(f"Expected logits for label maps {batch.label.shape}, got {logits.shape}.")
        per_example = pixel_mean(cross_entropy(logits, targets), batch.label)
        right = pixel_mean((logits.argmax(axis=-1) == batch.label).astype(jnp.float32), batch.label)
        metrics = {
            "accuracy": masked_mean(right, batch.mask),
            **{name: value.mean() for name, value in output.extras.items()},
        }
        return plain_loss(per_example, model_state, state, metrics)
