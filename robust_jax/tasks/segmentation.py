"""Segmentation: predictions are logits of every pixel."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax import metrics
from robust_jax.core.checks import check_positive
from robust_jax.types import LabelMaps, Shaped


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Logits of ``num_classes`` classes for every pixel, [b, h, w, k]; labels are maps int[b, h, w].

    Pixels whose label is :data:`~robust_jax.types.IGNORED` are not counted. Log-likelihood and measures are means over
    the others, so that images weigh alike whatever their size; of an image without others they are 0. The IoU that the
    field reports is no mean over images: sum :meth:`confusion` over the data set and take
    :func:`~robust_jax.metrics.mean_iou`.

    Raises:
        ValueError: if ``num_classes`` is not positive; when run, if predictions or labels have other shapes.
    """

    num_classes: int
    """Number of classes, k."""

    def __post_init__(self):
        check_positive("num_classes", self.num_classes)

    def check(self, prediction: Shaped, label: Shaped) -> None:
        """Raise ``ValueError`` unless predictions are [b, h, w, k] and labels int [b, h, w]."""
        whole = jnp.issubdtype(label.dtype, jnp.integer)
        fits = len(prediction.shape) == 4 and tuple(label.shape) == tuple(prediction.shape[:3])
        if not fits or prediction.shape[-1] != self.num_classes or not whole:
            raise ValueError(
                f"Expected logits [b, h, w, {self.num_classes}] and labels int [b, h, w] for {self}, got predictions "
                f"{prediction.shape} and labels {label.dtype} {label.shape}."
            )

    def log_likelihood(self, prediction: Float[Array, "b h w k"], label: LabelMaps) -> Float[Array, "b"]:
        """Mean log-likelihood of the labels of the pixels, in nats."""
        self.check(prediction, label)
        counted = label >= 0
        log_probs = jax.nn.log_softmax(prediction.astype(jnp.float32))
        found = jnp.take_along_axis(log_probs, jnp.where(counted, label, 0)[..., None], axis=-1)[..., 0]
        return pixel_mean(found, label)

    def confusion(self, prediction: Float[Array, "b h w k"], label: LabelMaps) -> Int[Array, "b k k"]:
        """Count the pixels of each image by true class (rows) and predicted class (columns)."""
        self.check(prediction, label)
        return metrics.confusion_counts(label, jnp.argmax(prediction, axis=-1), self.num_classes)

    def measures(self, prediction: Float[Array, "b h w k"], label: LabelMaps) -> dict[str, Float[Array, "b"]]:
        """Return ``error``, the fraction of misclassified pixels, ``nll`` in nats and ``image_iou`` of each image.

        ``image_iou`` is the IoU within the image, averaged over the classes that its label or prediction has; its mean
        over images is not the mean IoU of a data set.
        """
        confusion = self.confusion(prediction, label).astype(jnp.float32)
        both = jnp.diagonal(confusion, axis1=1, axis2=2)
        union = confusion.sum(axis=2) + confusion.sum(axis=1) - both
        occurs = union > 0
        total = confusion.sum(axis=(1, 2))
        return {
            "error": (total - both.sum(axis=1)) / jnp.maximum(total, 1),
            "nll": -self.log_likelihood(prediction, label),
            "image_iou": jnp.sum(both / jnp.maximum(union, 1), axis=1) / jnp.maximum(occurs.sum(axis=1), 1),
        }


def pixel_mean(values: Float[Array, "b h w"], label: LabelMaps) -> Float[Array, "b"]:
    """Compute the mean over the pixels of each image that have a class; 0 where none has."""
    counted = label >= 0
    total = jnp.sum(jnp.where(counted, values, 0), axis=(1, 2))
    return total / jnp.maximum(jnp.sum(counted, axis=(1, 2)), 1)


def is_label_map(label: Shaped) -> bool:
    """Tell whether labels are label maps int [b, h, w]."""
    return len(label.shape) == 3 and jnp.issubdtype(label.dtype, jnp.integer)
