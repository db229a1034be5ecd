"""Distributions over weights, and predictions averaged over them: logits functions as any other."""

from robust_jax.posteriors.ensemble import Ensemble, ensemble, stack
from robust_jax.posteriors.last_layer_laplace import (
    LastLayerLaplace,
    LastLayerPosterior,
    laplace_bridge,
    probit,
)
from robust_jax.posteriors.monte_carlo_dropout import MonteCarloDropout, MonteCarloDropoutPosterior

__all__ = [
    "Ensemble",
    "LastLayerLaplace",
    "LastLayerPosterior",
    "MonteCarloDropout",
    "MonteCarloDropoutPosterior",
    "ensemble",
    "laplace_bridge",
    "probit",
    "stack",
]
