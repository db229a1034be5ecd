"""Mixtures of predictions as one prediction."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def mixture_logits(logits: Float[Array, "members b k"]) -> Float[Array, "b k"]:
    r"""Log-probabilities of the mean of several predictions, :math:`\log \frac{1}{M} \sum_m \mathrm{softmax}(z_m)`."""
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(logits.shape[0])
