"""Measures of label maps: counts of every image on the device, and ratios of their sums on the host."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.types import LabelMaps


def confusion_counts(labels: LabelMaps, predicted: LabelMaps, num_classes: int) -> Int[Array, "b k k"]:
    """Count the pixels of each image by true class (rows) and predicted class (columns).

    Args:
        labels: classes 0 to k − 1; pixels with another value, such as ``types.IGNORED``, are not counted.
        predicted: classes 0 to k − 1.
        num_classes: k.
    """
    counted = (labels >= 0) & (labels < num_classes)
    cell = jnp.where(counted, labels * num_classes + predicted, num_classes**2).reshape(len(labels), -1)
    empty = jnp.zeros(num_classes**2, jnp.int32)
    counts = jax.vmap(lambda index: empty.at[index].add(1, mode="drop"))(cell)
    return counts.reshape(-1, num_classes, num_classes)


def class_iou(confusion: Float[np.ndarray, "... k k"]) -> Float[np.ndarray, "... k"]:
    r"""Compute the intersection over union of each class, :math:`n_{cc} / (\sum_j n_{cj} + \sum_i n_{ic} - n_{cc})`.

    Counts or their means over images give the same; those of a data set are summed first. A class that is neither in
    the labels nor in the predictions is NaN.

    References:
        Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge" (2010), section 4.4.
    """
    confusion = np.asarray(confusion, np.float64)
    both = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(axis=-1) + confusion.sum(axis=-2) - both
    return np.divide(both, union, out=np.full(union.shape, np.nan), where=union > 0)


def mean_iou(confusion: Float[np.ndarray, "... k k"]) -> Float[np.ndarray, "..."]:
    """Compute the mean of :func:`class_iou` over the classes that occur; NaN where none does."""
    found = class_iou(confusion)
    occurs = ~np.isnan(found)
    count = occurs.sum(axis=-1)
    return np.divide(np.where(occurs, found, 0).sum(axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)


def pixel_error(confusion: Float[np.ndarray, "... k k"]) -> Float[np.ndarray, "..."]:
    """Compute the fraction of pixels that are misclassified; NaN where no pixel is counted."""
    confusion = np.asarray(confusion, np.float64)
    total = confusion.sum(axis=(-2, -1))
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return np.divide(total - right, total, out=np.full(total.shape, np.nan), where=total > 0)
