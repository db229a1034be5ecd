"""A few images and what is predicted for them, to look at."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """A grid of images: a row for each example, a column for each way it was shown."""

    images: UInt8[np.ndarray, "rows columns h w c"]
    titles: list[str]
    """Of the columns."""
    predictions: list[list[str]]
    """Class names predicted, by row and column."""
    confidences: Float[np.ndarray, "rows columns"]
    """Of the predictions."""
    labels: list[str]
    """True class names, by row."""
