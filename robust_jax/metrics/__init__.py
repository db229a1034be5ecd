"""Measures of classifiers: pure functions of logits and labels, and statistics of many of them."""

from robust_jax.metrics.calibration import (
    ReliabilityBins,
    bin_index,
    binned_gaps,
    debiased_squared_calibration_error,
    expected_calibration_error,
    reliability_bins,
)
from robust_jax.metrics.class_separation import (
    Separation,
    minimal_separation_robustness,
    nearest_classes,
)
from robust_jax.metrics.classification import brier, confidence, errors, nll
from robust_jax.metrics.common_corruptions import (
    alexnet_mce,
    mean_error,
    mean_error_15,
    mean_error_15_without_noise,
    mean_error_19,
    mean_error_19_without_noise,
    relative_alexnet_mce,
    retained_accuracy,
    worst_severity_error,
)
from robust_jax.metrics.denoising import psnr
from robust_jax.metrics.effective_robustness import (
    Baseline,
    effective_robustness,
    fit_baseline,
    relative_robustness,
)
from robust_jax.metrics.flips import (
    flip_probability,
    mean_flip_probability,
    mean_flip_rate,
    mean_rate,
    top5_distance,
)
from robust_jax.metrics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_intervals,
    bootstrap_means,
    proportion_interval,
)
from robust_jax.metrics.robustness import imperceptible_corruption_error, mean_corruption_error
from robust_jax.metrics.sample_distance import minimal_sample_distance, transform_features

__all__ = [
    "Baseline",
    "Interval",
    "ReliabilityBins",
    "Separation",
    "alexnet_mce",
    "bin_index",
    "binned_gaps",
    "bootstrap_interval",
    "bootstrap_intervals",
    "bootstrap_means",
    "brier",
    "confidence",
    "debiased_squared_calibration_error",
    "effective_robustness",
    "errors",
    "expected_calibration_error",
    "fit_baseline",
    "flip_probability",
    "imperceptible_corruption_error",
    "mean_corruption_error",
    "mean_error",
    "mean_error_15",
    "mean_error_15_without_noise",
    "mean_error_19",
    "mean_error_19_without_noise",
    "mean_flip_probability",
    "mean_flip_rate",
    "mean_rate",
    "minimal_sample_distance",
    "minimal_separation_robustness",
    "nearest_classes",
    "nll",
    "proportion_interval",
    "psnr",
    "relative_alexnet_mce",
    "relative_robustness",
    "reliability_bins",
    "retained_accuracy",
    "top5_distance",
    "transform_features",
    "worst_severity_error",
]
