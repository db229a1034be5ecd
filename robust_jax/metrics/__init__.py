"""Measures of classifiers: pure functions of logits and labels, and statistics of many of them."""

from robust_jax.metrics.bootstrap import Interval, bootstrap_interval, bootstrap_means, percentile_interval
from robust_jax.metrics.calibration import ReliabilityBins, bin_index, expected_calibration_error, reliability_bins
from robust_jax.metrics.classification import brier, confidence, errors, nll
from robust_jax.metrics.robustness import imperceptible_corruption_error

__all__ = [
    "Interval",
    "ReliabilityBins",
    "bin_index",
    "bootstrap_interval",
    "bootstrap_means",
    "brier",
    "confidence",
    "errors",
    "expected_calibration_error",
    "imperceptible_corruption_error",
    "nll",
    "percentile_interval",
    "reliability_bins",
]
