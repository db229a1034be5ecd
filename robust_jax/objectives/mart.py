"""MART: adversarial training that weighs misclassified examples."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
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
from robust_jax.objectives.inner import InnerMaximisation, train_passes
from robust_jax.objectives.trades import kl_divergence
from robust_jax.types import Batch, Context, Forward, Loss, PRNGKey

MARGIN = 1e-4
"""Added to 1 − p in the margin term by the authors' code, which bounds the term by 9.2."""


def boosted_cross_entropy(logits: Float[Array, "b k"], targets: Float[Array, "b k"]) -> Float[Array, "b"]:
    r"""Compute cross-entropy plus a margin term, :math:`-\log p_y - \log(1.0001 - \max_{k \ne y} p_k)`, in nats.

    Args:
        logits: predictions.
        targets: probabilities; the most probable class is y in the margin term.
    """
    others = jnp.where(_is_class(targets), 0, jax.nn.softmax(logits))
    return cross_entropy(logits, targets) - jnp.log1p(MARGIN - others.max(axis=-1))


@dataclasses.dataclass(frozen=True)
class Mart(InnerMaximisation):
    r"""Boosted cross-entropy on adversarial images, plus the divergence weighted by the doubt in the clean prediction.

    .. math:: \mathrm{BCE}(f(x'), y) + \lambda\, \mathrm{KL}(p(x) \,\Vert\, p(x'))\, (1 - p_y(x)), \quad
        x' = \arg\max_{x'} L(f(x'), y)

    Gradients pass through both arguments of the divergence and through the weight, and not through the maximisation.
    The boosted cross-entropy is :func:`boosted_cross_entropy`. The authors' code adds 1e-7 to the weight and 1e-12 to
    probabilities inside logarithms, which is not done here.

    Raises:
        ValueError: if a number is out of range or a name unknown.

    References:
        Wang, Zou, Yi, Bailey, Ma & Gu, "Improving adversarial robustness requires revisiting misclassified examples"
        (ICLR 2020), equation 11; defaults of the code for WideResNets.
    """

    attack: PGD = PGD(eps=0.031, steps=10, step_size=0.007, start=Gaussian(0.001), keep="last")
    """Attack on the cross-entropy that makes the adversarial images."""
    lam: float = 6.0
    """Weight of the divergence, λ."""

    def __post_init__(self):
        super().__post_init__()
        check_non_negative("lam", self.lam)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        perturbed = self.perturb(named_key(key, "attack"), forward, params, batch, context)
        clean, moved, model_state = train_passes(key, forward, params, batch.image, perturbed, self.passes)
        targets = smooth_labels(batch.label, clean.prediction.shape[-1], smoothing=self.label_smoothing)
        boosted = boosted_cross_entropy(moved.prediction, targets)
        divergence = kl_divergence(clean.prediction, moved.prediction)
        doubt = 1 - jnp.where(_is_class(targets), jax.nn.softmax(clean.prediction), 0).sum(axis=-1)
        metrics = classification_metrics(clean.prediction, targets, batch, clean)
        robust = moved.prediction.argmax(axis=-1) == targets.argmax(axis=-1)
        metrics["boosted_cross_entropy"] = masked_mean(boosted, batch.mask)
        metrics["divergence"] = masked_mean(divergence, batch.mask)
        metrics["adversarial_accuracy"] = masked_mean(robust, batch.mask)
        return plain_loss(boosted + self.lam * divergence * doubt, model_state, state, metrics)


def _is_class(targets: Float[Array, "b k"]) -> Array:
    """One-hot of the most probable class."""
    return jax.nn.one_hot(targets.argmax(axis=-1), targets.shape[-1], dtype=bool)
