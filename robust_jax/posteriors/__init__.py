"""Distributions over weights, and predictions averaged over them: logits functions as any other."""

from robust_jax.posteriors.ensemble import Ensemble, ensemble, stack
from robust_jax.posteriors.isotonic import Isotonic, IsotonicRegression
from robust_jax.posteriors.laplace import Coverage, Laplace
from robust_jax.posteriors.laplace_posterior import LaplacePosterior, PriorSearch
from robust_jax.posteriors.links import laplace_bridge, monte_carlo, probit
from robust_jax.posteriors.monte_carlo_dropout import MonteCarloDropout, MonteCarloDropoutPosterior
from robust_jax.posteriors.scaling import Scaled, TemperatureScaling, VectorScaling
from robust_jax.posteriors.subnetworks import LargestMagnitude, LargestVariance, RandomWeights

__all__ = [
    "Coverage",
    "Ensemble",
    "Isotonic",
    "IsotonicRegression",
    "Laplace",
    "LaplacePosterior",
    "LargestMagnitude",
    "LargestVariance",
    "MonteCarloDropout",
    "MonteCarloDropoutPosterior",
    "PriorSearch",
    "RandomWeights",
    "Scaled",
    "TemperatureScaling",
    "VectorScaling",
    "ensemble",
    "laplace_bridge",
    "monte_carlo",
    "probit",
    "stack",
]
