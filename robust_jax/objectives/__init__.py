"""Training losses: ``objective(key, forward, params, batch) -> (loss, aux)``."""

from robust_jax.objectives.cross_entropy import CrossEntropy, cross_entropy, masked_mean, smooth_labels
from robust_jax.objectives.denoising import Denoising

__all__ = ["CrossEntropy", "Denoising", "cross_entropy", "masked_mean", "smooth_labels"]
