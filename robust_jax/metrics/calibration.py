"""Calibration: whether confidence equals accuracy. Host statistics, in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from robust_jax.core.checks import check_positive

NUM_BINS = 15


class ReliabilityBins(NamedTuple):
    """Equal-width bins of confidence; mean confidence and accuracy are NaN in an empty one."""

    edges: Float[np.ndarray, "bins+1"]
    count: Int[np.ndarray, "bins"]
    confidence: Float[np.ndarray, "bins"]
    accuracy: Float[np.ndarray, "bins"]


def reliability_bins(
    confidence: Float[np.ndarray, "n"],
    correct: Float[np.ndarray, "n"],
    *,
    num_bins: int = NUM_BINS,
    mask: Bool[np.ndarray, "n"] | None = None,
) -> ReliabilityBins:
    """Sorts predictions into bins (i/m, (i+1)/m] of their confidence; 0 belongs to the first.

    Args:
        confidence: of the predicted class, in [0, 1].
        correct: 1 where the prediction is right, else 0.
        num_bins: m.
        mask: False on predictions to leave out; by default all count.

    Raises:
        ValueError: if ``num_bins`` is not positive.
    """
    check_positive("num_bins", num_bins)
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if mask is not None:
        confidence, correct = confidence[np.asarray(mask, bool)], correct[np.asarray(mask, bool)]
    edges = np.linspace(0, 1, num_bins + 1)
    index = bin_index(confidence, num_bins)
    count = np.bincount(index, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(index, confidence, num_bins) / count
        accuracy = np.bincount(index, correct, num_bins) / count
    return ReliabilityBins(edges, count, mean_confidence, accuracy)


def bin_index(confidence: Float[np.ndarray, "n"], num_bins: int) -> Int[np.ndarray, "n"]:
    """Which bin (i/m, (i+1)/m] each confidence falls in; NaN goes to the first, whose means it turns into NaN."""
    position = np.nan_to_num(np.ceil(np.asarray(confidence, np.float64) * num_bins))
    return np.clip(position.astype(int) - 1, 0, num_bins - 1)


def binned_gaps(
    confidence: Float[np.ndarray, "..."], correct: Float[np.ndarray, "..."], *, num_bins: int = NUM_BINS
) -> Float[np.ndarray, "... bins"]:
    """Accuracy less confidence of each prediction, in the column of its bin, 0 in the others.

    The moduli of their means add up to the ECE, which makes it a statistic of means that can be bootstrapped.
    """
    gaps = np.asarray(correct, np.float64) - np.asarray(confidence, np.float64)
    return np.eye(num_bins)[bin_index(confidence, num_bins)] * gaps[..., None]


def expected_calibration_error(
    confidence: Float[np.ndarray, "n"],
    correct: Float[np.ndarray, "n"],
    *,
    num_bins: int = NUM_BINS,
    mask: Bool[np.ndarray, "n"] | None = None,
) -> float:
    r"""ECE :math:`\sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|` over equal-width bins (Guo et al., 2017).

    The plug-in estimate is biased upwards on few examples: a perfectly calibrated model scores about 0.03 on 1,000.
    :func:`debiased_squared_calibration_error` is not. NaN without examples; other arguments as
    :func:`reliability_bins`.
    """
    bins = reliability_bins(confidence, correct, num_bins=num_bins, mask=mask)
    return _mean_over_bins(bins, np.abs(bins.accuracy - bins.confidence))


def debiased_squared_calibration_error(
    confidence: Float[np.ndarray, "n"],
    correct: Float[np.ndarray, "n"],
    *,
    num_bins: int = NUM_BINS,
    mask: Bool[np.ndarray, "n"] | None = None,
) -> float:
    r"""Squared calibration error less the part that chance alone explains (Kumar, Liang & Ma, 2019, section 5).

    .. math:: \sum_b \frac{n_b}{n} \left[(\mathrm{acc}_b - \mathrm{conf}_b)^2
        - \frac{\mathrm{acc}_b (1 - \mathrm{acc}_b)}{n_b - 1}\right]

    About 0 for a calibrated model whatever the number of examples; it can be negative. Bins of one example, whose
    variance cannot be estimated, are left out. NaN if nothing is left; arguments as :func:`reliability_bins`.
    """
    bins = reliability_bins(confidence, correct, num_bins=num_bins, mask=mask)
    bins = bins._replace(count=np.where(bins.count > 1, bins.count, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = bins.accuracy * (1 - bins.accuracy) / (bins.count - 1)
    return _mean_over_bins(bins, (bins.accuracy - bins.confidence) ** 2 - chance)


def _mean_over_bins(bins: ReliabilityBins, values: Float[np.ndarray, "bins"]) -> float:
    filled = bins.count > 0
    return float(np.average(values[filled], weights=bins.count[filled])) if filled.any() else float("nan")
