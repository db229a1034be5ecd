"""Summaries of errors under corruption."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def imperceptible_corruption_error(
    clean_error: Float[np.ndarray, "..."], corrupted_error: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    r"""iCE :math:`(\bar E - E_{clean}) / E_{clean}`, with :math:`\bar E` the mean over imperceptible corruptions.

    The relative rise of the error under noise nobody sees; NaN where the clean error is 0. In arXiv 2305.05400 the
    mean is over six corruptions, one noisy pass each.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (np.asarray(corrupted_error, float) - clean_error) / clean_error
    return np.where(np.asarray(clean_error) > 0, ratio, np.nan)
