"""From normally distributed logits to probabilities."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.mathematics.mixtures import mixture_logits
from robust_jax.types import PRNGKey

LINKS = ("probit", "bridge", "monte_carlo")
Link = Literal["probit", "bridge", "monte_carlo"]

Logits = Float[Array, "b k"]
Covariances = Float[Array, "b k k"]


def probit(mean: Logits, covariance: Covariances) -> Logits:
    r"""Logits divided by :math:`\sqrt{1 + \pi \sigma^2 / 8}`, σ² being their variances (MacKay, 1992)."""
    return mean / jnp.sqrt(1 + jnp.pi / 8 * jnp.diagonal(covariance, axis1=-2, axis2=-1))


def laplace_bridge(mean: Logits, covariance: Covariances) -> Logits:
    r"""Log-probabilities of the mean of a Dirichlet distribution, from a normal one on logits that sum to 0.

    .. math:: \alpha_k = \frac{1}{\Sigma_{kk}} \Big(1 - \frac{2}{K} + \frac{e^{\mu_k}}{K^2} \sum_l e^{-\mu_l}\Big)

    References:
        Hobbhahn, Kristiadi & Hennig (arXiv 2003.01227), equation 8.
    """
    num_classes = mean.shape[-1]
    across = jnp.sum(covariance, axis=-1)
    total = jnp.sum(across, axis=-1, keepdims=True)
    mean = mean - across * jnp.sum(mean, axis=-1, keepdims=True) / total
    variance = jnp.diagonal(covariance, axis1=-2, axis2=-1) - across**2 / total
    inverse_sum = jax.nn.logsumexp(-mean, axis=-1, keepdims=True)
    alpha = (1 - 2 / num_classes + jnp.exp(mean + inverse_sum) / num_classes**2) / variance
    return jnp.log(alpha) - jnp.log(jnp.sum(alpha, axis=-1, keepdims=True))


def monte_carlo(key: PRNGKey, mean: Logits, covariance: Covariances, *, num_samples: int) -> Logits:
    """Log-probabilities of the mean over draws, which are the same for every image: each depends on itself alone."""
    values, vectors = jnp.linalg.eigh(covariance)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0))[..., None, :]
    noise = jax.random.normal(key, (num_samples, mean.shape[-1]))
    return mixture_logits(mean[None] + jnp.einsum("bkj,sj->sbk", root, noise, precision="highest"))
