"""Measures of classifiers: pure functions of logits and labels, and statistics of many of them."""

from robust_jax.metrics.calibration import (
    ReliabilityBins,
    bin_index,
    binned_gaps,
    debiased_squared_calibration_error,
    expected_calibration_error,
    reliability_bins,
)
from robust_jax.metrics.classification import brier, confidence, errors, nll
from robust_jax.metrics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_intervals,
    bootstrap_means,
    proportion_interval,
)
from robust_jax.metrics.robustness import imperceptible_corruption_error, mean_corruption_error

__all__ = [
    "Interval",
    "ReliabilityBins",
    "bin_index",
    "binned_gaps",
    "bootstrap_interval",
    "bootstrap_intervals",
    "bootstrap_means",
    "brier",
    "confidence",
    "debiased_squared_calibration_error",
    "errors",
    "expected_calibration_error",
    "imperceptible_corruption_error",
    "mean_corruption_error",
    "nll",
    "proportion_interval",
    "reliability_bins",
]
