"""Out-of-distribution scores: ``detector.fit(predictor, batches)(predictor, images)``, higher for unknown inputs."""

from robust_jax.detectors.base import Detector, Score
from robust_jax.detectors.logits import Energy, Entropy, MaxLogit, MaxProbability, MutualInformation
from robust_jax.detectors.mahalanobis import Mahalanobis, MahalanobisScore

__all__ = [
    "Detector",
    "Energy",
    "Entropy",
    "Mahalanobis",
    "MahalanobisScore",
    "MaxLogit",
    "MaxProbability",
    "MutualInformation",
    "Score",
]
