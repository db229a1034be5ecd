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

    Of a generalised Gauss–Newton matrix that is the Hessian,
    :math:`\mathrm{diag}(p) - p p^\top = \sum_c u_c u_c^\top` with :math:`u_c = \sqrt{p_c} (e_c - p)`, or I / σ²;
    of an empirical Fisher matrix the gradient's outer product with itself.
    """
    if fisher == "empirical":
        means = logits if kind == "gaussian" else jax.nn.softmax(logits)
        return ((means - _targets(logits, labels)) / (sigma**2 if kind == "gaussian" else 1))[:, None]
    identity = jnp.eye(logits.shape[-1])[None]
    if kind == "gaussian":
        return jnp.broadcast_to(identity / sigma, (len(logits), *identity.shape[1:]))
    probs = jax.nn.softmax(logits)
    return jnp.sqrt(probs)[:, :, None] * (identity - probs[:, None])


def _targets(logits: Logits, labels: Labels) -> Float[Array, "b k"]:
    return jax.nn.one_hot(labels, logits.shape[-1]) if jnp.issubdtype(labels.dtype, jnp.integer) else labels
