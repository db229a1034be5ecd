"""A few images and what is predicted for them or said of them, to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from robust_jax.predictors import as_predictor
from robust_jax.suites.base import Context
from robust_jax.suites.case import to_host
from robust_jax.types import Images


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """A grid of images: a row for each example, a column for each way it was shown."""

    images: UInt8[np.ndarray, "rows columns h w c"]
    titles: list[str]
    """Of the columns."""
    predictions: list[list[str]]
    """Class names predicted, by row and column; without confidences, whatever is to be said of each image."""
    confidences: Float[np.ndarray, "rows columns"] | None
    """Of the predictions; None if they are not of classes."""
    labels: list[str]
    """True class names, by row."""


@runtime_checkable
class HasSamples(Protocol):
    """A suite that can show a few images with their predictions."""

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """Return the first images in each of the ways that the suite shows them."""
        ...


def predicted_samples(
    context: Context, columns: Mapping[str, Images], labels: Int[Array, "b"], *, num_images: int
) -> Samples:
    """The first images of every column, by its title, with what is predicted for them."""
    predictor, class_names, parts = as_predictor(context.predictor), context.data.class_names, []
    for images in columns.values():
        shown = to_host((images, _predict(predictor, images)))
        parts.append([part[:num_images] for part in shown])
    images, probs = (np.stack(part, axis=1) for part in zip(*parts, strict=True))
    return Samples(
        images=np.round(images * 255).astype(np.uint8),
        titles=list(columns),
        predictions=[[class_names[k] for k in row] for row in probs.argmax(axis=-1)],
        confidences=probs.max(axis=-1),
        labels=[class_names[k] for k in np.asarray(to_host(labels))[:num_images]],
    )


@jax.jit
def _predict(predictor: jax.tree_util.Partial, images: Images) -> Float[Array, "b k"]:
    return jax.nn.softmax(predictor(images))
