"""Distributions over weights, and predictions averaged over them: logits functions as any other."""

from robust_jax.posteriors.ensemble import Ensemble, ensemble, stack
from robust_jax.posteriors.gaussian_mixture import gaussian_mixture
from robust_jax.posteriors.last_layer_laplace import (
    LastLayerLaplace,
    LastLayerPosterior,
    laplace_bridge,
    probit,
)
from robust_jax.posteriors.norm_statistics import recomputed_norms
from robust_jax.posteriors.swag import Moments, Swag, SwagPosterior, sample_weights

__all__ = [
    "Ensemble",
    "LastLayerLaplace",
    "LastLayerPosterior",
    "Moments",
    "Swag",
    "SwagPosterior",
    "ensemble",
    "gaussian_mixture",
    "laplace_bridge",
    "probit",
    "recomputed_norms",
    "sample_weights",
    "stack",
]
