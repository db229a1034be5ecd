"""Distributions over weights, and predictions averaged over them: logits functions as any other."""

from robust_jax.posteriors.ensemble import Ensemble, ensemble, stack
from robust_jax.posteriors.isotonic import Isotonic, IsotonicRegression
from robust_jax.posteriors.last_layer_laplace import (
    LastLayerLaplace,
    LastLayerPosterior,
    laplace_bridge,
    probit,
)
from robust_jax.posteriors.monte_carlo_dropout import MonteCarloDropout, MonteCarloDropoutPosterior
from robust_jax.posteriors.scaling import Scaled, TemperatureScaling, VectorScaling

__all__ = [
    "Ensemble",
    "Isotonic",
    "IsotonicRegression",
    "LastLayerLaplace",
    "LastLayerPosterior",
    "MonteCarloDropout",
    "MonteCarloDropoutPosterior",
    "Scaled",
    "TemperatureScaling",
    "VectorScaling",
    "ensemble",
    "laplace_bridge",
    "probit",
    "stack",
]
