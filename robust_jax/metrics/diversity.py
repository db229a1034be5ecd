"""How much the members of an ensemble differ; logits are ``[members, b, k]``."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.mathematics.mixtures import mixture_logits

MemberLogits = Float[Array, "members b k"]
PerExample = Float[Array, "b"]


def entropy(logits: Float[Array, "... k"]) -> Float[Array, "..."]:
    """Of the predicted distribution, in nats."""
    log_probs = jax.nn.log_softmax(logits)
    # 0 log 0 is 0, for logits of -inf.
    return -jnp.sum(jnp.where(jnp.isneginf(log_probs), 0, jnp.exp(log_probs) * log_probs), axis=-1)


def mutual_information(logits: MemberLogits) -> PerExample:
    r"""Of the class and the member, :math:`H(\bar p) - \frac{1}{M} \sum_m H(p_m)`, in nats, from 0 to log M."""
    return jnp.maximum(entropy(mixture_logits(logits)) - jnp.mean(entropy(logits), axis=0), 0)


def disagreement(logits: MemberLogits) -> PerExample:
    """The share of pairs of members that predict different classes.

    Divided by the members' mean error it is the normalised disagreement (Fort, Hu & Lakshminarayanan, arXiv
    1912.02757).

    Raises:
        ValueError: if there are fewer than two members.
    """
    first, second = _pairs(len(logits))
    predicted = jnp.argmax(logits, axis=-1)
    return jnp.mean(predicted[first] != predicted[second], axis=0)


def kl_divergence(logits: MemberLogits) -> PerExample:
    r"""The mean of :math:`\mathrm{KL}(p_i \| p_j)` over ordered pairs of members, in nats.

    Raises:
        ValueError: if there are fewer than two members.
    """
    first, second = _pairs(len(logits))
    log_probs = jax.nn.log_softmax(logits)
    difference = log_probs[first] - log_probs[second]
    # The sum of both directions, of which each pair has half.
    return jnp.mean(jnp.sum((jnp.exp(log_probs[first]) - jnp.exp(log_probs[second])) * difference, axis=-1), axis=0) / 2


def deep_ensemble_equivalent(nll: float, ensemble_nlls: Sequence[float]) -> float:
    """How many members a deep ensemble needs for the same NLL, interpolated linearly between whole numbers.

    Args:
        nll: of the method.
        ensemble_nlls: of deep ensembles of 1, 2, … members, calibrated alike.

    Returns:
        From 1, also for what is worse than one member, to as many as there are, also for what is better.

    Raises:
        ValueError: if there is no ensemble.

    References:
        Ashukha, Lyzhov, Molchanov & Vetrov (arXiv 2002.06470), equation 6.
    """
    if not len(ensemble_nlls):
        raise ValueError("Expected the NLL of one ensemble or more, got none.")
    # The best of all that are no larger, where it gets better, so that the curve falls.
    best = np.minimum.accumulate(np.asarray(ensemble_nlls, np.float64))
    better = np.concatenate([[True], np.diff(best) < 0])
    return float(np.interp(-nll, -best[better], np.flatnonzero(better) + 1))


def _pairs(num_members: int) -> tuple[np.ndarray, np.ndarray]:
    if num_members < 2:
        raise ValueError(f"Expected two members or more, got {num_members}.")
    return np.triu_indices(num_members, 1)
