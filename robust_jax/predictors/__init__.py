"""Predictors: functions from images in [0, 1] to logits, as pytrees that pass through ``jit`` and ``vmap``."""

from robust_jax.predictors.base import (
    Draws,
    Function,
    HasFeatures,
    HasMembers,
    MemberPredictor,
    Predictor,
    as_predictor,
    wrap_field,
)
from robust_jax.predictors.composition import Bpda, Scaled
from robust_jax.predictors.ensemble import Ensemble, Mixture, ensemble, stack
from robust_jax.predictors.network import MemberNetwork, Network, apply_network
from robust_jax.predictors.randomised import Randomised, Vote, check_randomised, draw, through

__all__ = [
    "Bpda",
    "Draws",
    "Ensemble",
    "Function",
    "HasFeatures",
    "HasMembers",
    "MemberNetwork",
    "MemberPredictor",
    "Mixture",
    "Network",
    "Predictor",
    "Randomised",
    "Scaled",
    "Vote",
    "apply_network",
    "as_predictor",
    "check_randomised",
    "draw",
    "ensemble",
    "stack",
    "through",
    "wrap_field",
]
