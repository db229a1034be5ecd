"""Distributions over weights, and predictions averaged over them: logits functions as any other."""

from robust_jax.posteriors.ensemble import Ensemble, ensemble, stack
from robust_jax.posteriors.laplace import Coverage, Laplace
from robust_jax.posteriors.laplace_posterior import LaplacePosterior, PriorSearch
from robust_jax.posteriors.links import laplace_bridge, monte_carlo, probit
from robust_jax.posteriors.subnetworks import LargestMagnitude, LargestVariance, RandomWeights

__all__ = [
    "Coverage",
    "Ensemble",
    "Laplace",
    "LaplacePosterior",
    "LargestMagnitude",
    "LargestVariance",
    "PriorSearch",
    "RandomWeights",
    "ensemble",
    "laplace_bridge",
    "monte_carlo",
    "probit",
    "stack",
]
