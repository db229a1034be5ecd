"""Distributions over weights, and predictions averaged over them: logits functions as any other."""

from robust_jax.posteriors.emp_cov import EmpCov, input_covariance
from robust_jax.posteriors.ensemble import Ensemble, ensemble, stack
from robust_jax.posteriors.hamiltonian import Hmc, Nuts
from robust_jax.posteriors.langevin import Sghmc, Sgld
from robust_jax.posteriors.last_layer_laplace import (
    LastLayerLaplace,
    LastLayerPosterior,
    laplace_bridge,
    probit,
)
from robust_jax.posteriors.priors import FittedPrior, GaussianPrior, LaplacePrior, StudentPrior
from robust_jax.posteriors.sampler import Samples

__all__ = [
    "EmpCov",
    "Ensemble",
    "FittedPrior",
    "GaussianPrior",
    "Hmc",
    "LaplacePrior",
    "LastLayerLaplace",
    "LastLayerPosterior",
    "Nuts",
    "Samples",
    "Sghmc",
    "Sgld",
    "StudentPrior",
    "ensemble",
    "input_covariance",
    "laplace_bridge",
    "probit",
    "stack",
]
