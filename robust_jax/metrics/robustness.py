"""Summaries of errors under corruption (Siedel, Shao, Vock & Morozov, arXiv 2305.05400, section 4)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def mean_corruption_error(case_errors: Float[np.ndarray, "cases ..."]) -> Float[np.ndarray, "..."]:
    r"""mCE :math:`\frac{1}{n} \sum_i E_i`, unnormalised, in [0, 1]; over the 90 random Lp corruptions it is mCE_Lp.

    Hendrycks & Dietterich's mCE divides each error by AlexNet's first; this one does not.
    """
    return np.asarray(case_errors, np.float64).mean(axis=0)


def imperceptible_corruption_error(
    clean_error: Float[np.ndarray, "..."], corrupted_error: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    r"""iCE :math:`(\bar E - E_{clean}) / E_{clean}`, with :math:`\bar E` the mean over imperceptible corruptions.

    The relative rise of the error under noise nobody sees; NaN where the clean error is 0. In arXiv 2305.05400 the
    mean is over six corruptions, one noisy pass each.
    """
    clean_error, corrupted_error = np.asarray(clean_error, np.float64), np.asarray(corrupted_error, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (corrupted_error - clean_error) / clean_error
    return np.where(clean_error > 0, ratio, np.nan)
