"""Training losses: ``objective(key, forward, params, batch, state, context) -> Loss``."""

from robust_jax.mathematics.gaussian import gaussian_nll, mean_and_variance
from robust_jax.objectives.adversarial import Adversarial
from robust_jax.objectives.cross_entropy import (
    CrossEntropy,
    cross_entropy,
    masked_mean,
    mean_loss,
    plain_loss,
    smooth_labels,
)
from robust_jax.objectives.denoising import Denoising
from robust_jax.objectives.dign import Dign, kl_to_views
from robust_jax.objectives.gaussian import AdversarialGaussianNll, GaussianNll
from robust_jax.objectives.inner import InnerMaximisation, Perturbed, perturb, warm_up
from robust_jax.objectives.invariance import Invariance
from robust_jax.objectives.jensen_shannon import JensenShannon, jensen_shannon
from robust_jax.objectives.mart import Mart, boosted_cross_entropy
from robust_jax.objectives.noisy_mix import NoisyMix
from robust_jax.objectives.pure_noise import PureNoise
from robust_jax.objectives.repeated import Repeated
from robust_jax.objectives.routing import routed_batch_norm
from robust_jax.objectives.trades import Trades, kl_divergence
from robust_jax.objectives.vat import Vat

__all__ = [
    "Adversarial",
    "AdversarialGaussianNll",
    "CrossEntropy",
    "Denoising",
    "Dign",
    "GaussianNll",
    "InnerMaximisation",
    "Invariance",
    "JensenShannon",
    "Mart",
    "NoisyMix",
    "Perturbed",
    "PureNoise",
    "Repeated",
    "Trades",
    "Vat",
    "boosted_cross_entropy",
    "cross_entropy",
    "gaussian_nll",
    "jensen_shannon",
    "kl_divergence",
    "kl_to_views",
    "masked_mean",
    "mean_and_variance",
    "mean_loss",
    "perturb",
    "plain_loss",
    "routed_batch_norm",
    "smooth_labels",
    "warm_up",
]
