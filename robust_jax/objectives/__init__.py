"""Training losses: ``objective(key, forward, params, batch) -> (loss, aux)``."""

from robust_jax.objectives.cross_entropy import CrossEntropy, cross_entropy, masked_mean, smooth_labels
from robust_jax.objectives.denoising import Denoising
from robust_jax.objectives.jensen_shannon import JensenShannon, jensen_shannon

__all__ = [
    "CrossEntropy",
    "Denoising",
    "JensenShannon",
    "cross_entropy",
    "jensen_shannon",
    "masked_mean",
    "smooth_labels",
]
