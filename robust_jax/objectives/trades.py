"""TRADES: cross-entropy on clean images, and the divergence of predictions on adversarial ones."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from robust_jax.attacks import PGD, Gaussian
from robust_jax.core.checks import check_non_negative
from robust_jax.core.keys import named_key
from robust_jax.objectives.cross_entropy import (
    classification_metrics,
    cross_entropy,
    masked_mean,
    plain_loss,
    smooth_labels,
)
from robust_jax.objectives.inner import InnerMaximisation, attacked_network, train_passes
from robust_jax.types import Batch, Context, Forward, Loss, Output, PRNGKey


def kl_divergence(logits: Float[Array, "b k"], others: Float[Array, "b k"]) -> Float[Array, "b"]:
    r"""Compute :math:`\mathrm{KL}(p \,\Vert\, q) = \sum_k p_k (\log p_k - \log q_k)` per example, in nats.

    Args:
        logits: of p.
        others: logits of q.
    """
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(others)
    # A class of probability 0 adds nothing, also where q is 0 there.
    difference = jnp.where(jnp.isneginf(log_p), 0, log_p - log_q)
    return jnp.sum(jnp.exp(log_p) * difference, axis=-1)


@dataclasses.dataclass(frozen=True)
class Trades(InnerMaximisation):
    r"""Cross-entropy on clean images, plus the divergence from clean to adversarial predictions.

    .. math:: L(f(x), y) + \beta\, \mathrm{KL}(p(x) \,\Vert\, p(x')), \quad
        x' = \arg\max_{x'} \mathrm{KL}(p(x) \,\Vert\, p(x'))

    Gradients pass through both arguments of the divergence, and not through the maximisation. At :math:`x' = x` the
    divergence and its gradient are zero, hence the start at Gaussian noise. The published code sends the clean images
    through the network twice in training, so that the running averages of batch norm move three times a step, here
    twice.

    Raises:
        ValueError: if a number is out of range or a name unknown.

    References:
        Zhang, Yu, Jiao, Xing, El Ghaoui & Jordan, "Theoretically principled trade-off between robustness and accuracy"
        (arXiv 1901.08573), equation 5 and algorithm 1; defaults of the code for CIFAR-10.
    """

    attack: PGD = PGD(eps=0.031, steps=10, step_size=0.007, start=Gaussian(0.001), keep="last")
    """Settings of the maximisation; the attack's own loss is not used."""
    beta: float = 6.0
    """Weight of the divergence, β; 0 is cross-entropy."""

    def __post_init__(self):
        super().__post_init__()
        check_non_negative("beta", self.beta)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        attack_key = named_key(key, "attack")
        network = attacked_network(attack_key, forward, self.statistics)
        reference = jax.lax.stop_gradient(network(params, batch.image).prediction)
        climbed = Partial(_divergence_from, reference)
        perturbed = self.perturb(attack_key, forward, params, batch, context, climbed)
        clean, moved, model_state = train_passes(key, forward, params, batch.image, perturbed, self.passes)
        targets = smooth_labels(batch.label, clean.prediction.shape[-1], smoothing=self.label_smoothing)
        loss = cross_entropy(clean.prediction, targets)
        divergence = kl_divergence(clean.prediction, moved.prediction)
        metrics = classification_metrics(clean.prediction, targets, batch, clean)
        robust = moved.prediction.argmax(axis=-1) == targets.argmax(axis=-1)
        metrics["cross_entropy"] = masked_mean(loss, batch.mask)
        metrics["divergence"] = masked_mean(divergence, batch.mask)
        metrics["adversarial_accuracy"] = masked_mean(robust, batch.mask)
        if perturbed.zero_gradient is not None:
            metrics["zero_gradient"] = masked_mean(perturbed.zero_gradient, batch.mask)
        return plain_loss(loss + self.beta * divergence, model_state, state, metrics)


def _divergence_from(reference: Float[Array, "b k"], output: Output) -> Float[Array, "b"]:
    return kl_divergence(reference, output.prediction)
