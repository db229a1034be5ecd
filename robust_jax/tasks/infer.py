"""The task that a data set and a network imply."""

from __future__ import annotations

from typing import Literal

from robust_jax.tasks.classification import Classification
from robust_jax.tasks.denoising import Denoising
from robust_jax.tasks.regression import Regression
from robust_jax.tasks.segmentation import Segmentation
from robust_jax.types import Shaped, Task


def infer_task(
    prediction: Shaped,
    *,
    num_classes: int,
    target_scale: tuple[float, ...],
    pixelwise: Literal["classes", "images"] | None = None,
) -> Task | None:
    """Return the task of a network's predictions on a data set.

    Args:
        prediction: predictions of a batch, or their shape.
        num_classes: number of classes of the data.
        target_scale: unit of each real target; () where labels are classes.
        pixelwise: labels of every pixel, a class or the clean image; None where labels are of the whole image.

    Returns:
        :class:`Segmentation` where the data has label maps and :class:`Denoising` where it has clean images;
        :class:`Regression` where it has real targets, with variances unless the network has one output per target;
        :class:`Classification` where it has classes and predictions are [b, k]; else None, as for a network that
        returns images.
    """
    if pixelwise is not None:
        return Segmentation(num_classes) if pixelwise == "classes" else Denoising()
    if target_scale:
        variance = prediction.shape[-1] != len(target_scale)
        return Regression(len(target_scale), variance=variance, scale=target_scale)
    return Classification(num_classes) if len(prediction.shape) == 2 else None
