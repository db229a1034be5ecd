"""Log-likelihoods of labels, and the roots of their curvature in a network's logits."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.types import Labels

LIKELIHOODS = ("categorical", "gaussian")
Likelihood = Literal["categorical", "gaussian"]
FISHERS = ("ggn", "empirical")
Fisher = Literal["ggn", "empirical"]

Logits = Float[Array, "b k"]


def log_likelihoods(kind: Likelihood, sigma: float, logits: Logits, labels: Labels) -> Float[Array, "b"]:
    """Of each example; labels are classes or their probabilities, or real numbers of a normal distribution."""
    if kind == "gaussian":
        errors = jnp.sum((labels - logits) ** 2, axis=-1)
        return -0.5 * (errors / sigma**2 + logits.shape[-1] * math.log(2 * math.pi * sigma**2))
    return jnp.sum(_targets(logits, labels) * jax.nn.log_softmax(logits), axis=-1)


def curvature_roots(
    kind: Likelihood, fisher: Fisher, sigma: float, logits: Logits, labels: Labels
) -> Float[Array, "b c k"]:
    r"""Vectors whose outer products sum to the curvature of the negative log-likelihood in the logits.

    Of a generalised Gauss–Newton matrix that is the Hessian, I / σ², or
    :math:`\mathrm{diag}(p) - p p^\top = \sum_{c < K} u_c u_c^\top`, of rank K - 1, by Cholesky's factor in closed form,

    .. math:: u_{cc} = \sqrt{\frac{p_c q_c}{q_{c-1}}}, \quad u_{ci} = -p_i \sqrt{\frac{p_c}{q_c q_{c-1}}}
        \text{ for } i > c, \quad q_c = \sum_{i > c} p_i;

    of an empirical Fisher matrix the gradient's outer product with itself.

    References:
        Tanabe and Sagae, "An exact Cholesky decomposition and the generalized inverse of the variance-covariance matrix
        of the multinomial distribution" (1992).
    """
    if fisher == "empirical":
        means = logits if kind == "gaussian" else jax.nn.softmax(logits)
        return ((means - _targets(logits, labels)) / (sigma**2 if kind == "gaussian" else 1))[:, None]
    identity = jnp.eye(logits.shape[-1])[None]
    if kind == "gaussian":
        return jnp.broadcast_to(identity / sigma, (len(logits), *identity.shape[1:]))
    # In logarithms, since the last sums q may be below the least number.
    log_probs = jax.nn.log_softmax(logits)
    log_sums = jax.lax.cumlogsumexp(log_probs, axis=1, reverse=True)
    own, before, after = log_probs[:, :-1, None], log_sums[:, :-1, None], log_sums[:, 1:, None]
    on_diagonal = jnp.exp(0.5 * (own + after - before))
    beyond = -jnp.exp(log_probs[:, None] + 0.5 * (own - after - before))
    return identity[:, :-1] * on_diagonal + jnp.triu(beyond, 1)


def _targets(logits: Logits, labels: Labels) -> Float[Array, "b k"]:
    return jax.nn.one_hot(labels, logits.shape[-1]) if jnp.issubdtype(labels.dtype, jnp.integer) else labels
