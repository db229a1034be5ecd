"""Per-example measures of a batch of logits; labels are classes ``int[b]`` or probabilities ``float[b, k]``.

Logits of -inf are probabilities of 0, which a mixture of predictions may well hold.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.types import Labels

Logits = Float[Array, "b k"]
PerExample = Float[Array, "b"]


def errors(logits: Logits, labels: Labels) -> PerExample:
    """1 where the largest logit is not the (most probable) label's, else 0; the first of equal logits counts.

    Logits that hold NaN are an error, whatever the label.
    """
    classes = labels if jnp.issubdtype(labels.dtype, jnp.integer) else labels.argmax(axis=-1)
    wrong = (logits.argmax(axis=-1) != classes) | jnp.isnan(logits).any(axis=-1)
    return wrong.astype(jnp.float32)


def nll(logits: Logits, labels: Labels) -> PerExample:
    r"""Negative log-likelihood :math:`-\sum_k y_k \log \mathrm{softmax}(z)_k`, in nats; 0 log 0 is 0."""
    targets = _probabilities(labels, logits.shape[-1])
    # A NaN must show, although no class of its own is drawn from it.
    undefined = jnp.isnan(logits).any(axis=-1)
    terms = jnp.where(targets > 0, targets * jax.nn.log_softmax(logits), 0)
    return jnp.where(undefined, jnp.nan, -terms.sum(axis=-1))


def brier(logits: Logits, labels: Labels) -> PerExample:
    r"""Brier score :math:`\sum_k (p_k - y_k)^2`, in [0, 2] (Brier, 1950, over all classes)."""
    return jnp.sum((jax.nn.softmax(logits) - _probabilities(labels, logits.shape[-1])) ** 2, axis=-1)


def confidence(logits: Logits) -> PerExample:
    """The largest softmax probability."""
    return jax.nn.softmax(logits).max(axis=-1)


def _probabilities(labels: Labels, num_classes: int) -> Float[Array, "b k"]:
    return jax.nn.one_hot(labels, num_classes) if jnp.issubdtype(labels.dtype, jnp.integer) else labels
