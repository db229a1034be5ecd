"""Distributions over weights, and predictions averaged over them; fitted ones are predictors."""

from robust_jax.posteriors.base import Posterior
from robust_jax.posteriors.emp_cov import EmpCov, input_covariance
from robust_jax.posteriors.gaussian_ensemble import GaussianEnsemble, gaussian_ensemble
from robust_jax.posteriors.gaussian_mixture import gaussian_mixture
from robust_jax.posteriors.hamiltonian import Hmc, Nuts
from robust_jax.posteriors.isotonic import Isotonic, IsotonicRegression
from robust_jax.posteriors.langevin import Sghmc, Sgld
from robust_jax.posteriors.laplace import Coverage, Laplace
from robust_jax.posteriors.laplace_posterior import LaplacePosterior, LaplacePredictive, PriorSearch
from robust_jax.posteriors.links import laplace_bridge, monte_carlo, probit
from robust_jax.posteriors.monte_carlo_dropout import MonteCarloDropout, MonteCarloDropoutPosterior
from robust_jax.posteriors.norm_statistics import recomputed_norms
from robust_jax.posteriors.priors import FittedPrior, GaussianPrior, LaplacePrior, Prior, StudentPrior
from robust_jax.posteriors.sampler import Samples
from robust_jax.posteriors.scaling import TemperatureScaling, VectorScaling
from robust_jax.posteriors.subnetworks import LargestMagnitude, LargestVariance, RandomWeights
from robust_jax.posteriors.svi import Svi, SviPosterior
from robust_jax.posteriors.swag import Moments, Swag, SwagPosterior, sample_weights

__all__ = [
    "Coverage",
    "EmpCov",
    "FittedPrior",
    "GaussianEnsemble",
    "GaussianPrior",
    "Hmc",
    "Isotonic",
    "IsotonicRegression",
    "Laplace",
    "LaplacePosterior",
    "LaplacePredictive",
    "LaplacePrior",
    "LargestMagnitude",
    "LargestVariance",
    "Moments",
    "MonteCarloDropout",
    "MonteCarloDropoutPosterior",
    "Nuts",
    "Posterior",
    "Prior",
    "PriorSearch",
    "RandomWeights",
    "Samples",
    "Sghmc",
    "Sgld",
    "StudentPrior",
    "Svi",
    "SviPosterior",
    "Swag",
    "SwagPosterior",
    "TemperatureScaling",
    "VectorScaling",
    "gaussian_ensemble",
    "gaussian_mixture",
    "input_covariance",
    "laplace_bridge",
    "monte_carlo",
    "probit",
    "recomputed_norms",
    "sample_weights",
]
