"""Training on adversarial images beside the clean ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_fraction
from robust_jax.core.keys import example_keys
from robust_jax.objectives.cross_entropy import classification_scalars, cross_entropy, masked_mean, smooth_labels
from robust_jax.types import Aux, Batch, Forward, PRNGKey


@dataclasses.dataclass(frozen=True)
class Adversarial:
    r"""Cross-entropy on the images and on what an attack makes of them.

    .. math:: (1 - w)\, L(f(x), y) + w\, L(f(x + \delta), y)

    The attack sees the network as it is in evaluation, with running batch statistics; no gradient passes through it.
    Clean and adversarial images then go through the network as one batch. With ``w = 1/2`` and
    ``attacks.FGSM(eps=0.01)``, one step of 1 % of the range, the members are those of the paper's ensembles.

    Raises:
        ValueError: if a number is out of range; when run, if labels are probabilities, as mixers make them.

    References:
        Goodfellow, Shlens & Szegedy (arXiv 1412.6572), section 6; Lakshminarayanan, Pritzel & Blundell (arXiv
        1612.01474), section 2.3 and algorithm 1.
    """

    attack: Any
    """``(keys, predictor, images, labels) -> images``, such as :class:`~robust_jax.attacks.FGSM`."""
    weight: float = 0.5
    """w: share of the adversarial images in the loss; 0 is plain cross-entropy."""
    label_smoothing: float = 0.0
    """Share of probability spread evenly over the classes."""

    def __post_init__(self):
        check_fraction("weight", self.weight)
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch) -> tuple[Float[Array, ""], Aux]:
        if not jnp.issubdtype(batch.label.dtype, jnp.integer):
            raise ValueError(
                f"Expected classes to attack, got labels of type {batch.label.dtype}; train without mixers."
            )
        attack_key, key = jax.random.split(key)

        def predict(params: PyTree, images: Array) -> Array:
            return forward(params, images, train=False)[0].logits

        adversarial = self.attack(
            example_keys(attack_key, batch.id),
            Partial(predict, jax.lax.stop_gradient(params)),
            batch.image,
            batch.label,
        )
        images = jnp.concatenate([batch.image, jax.lax.stop_gradient(adversarial)])
        output, model_state = forward(params, images, key=key, train=True)
        clean, moved = jnp.split(output.logits, 2)
        targets = smooth_labels(batch.label, clean.shape[-1], smoothing=self.label_smoothing)
        losses = [masked_mean(cross_entropy(logits, targets), batch.mask) for logits in (clean, moved)]
        scalars = classification_scalars(clean, targets, batch, output)
        scalars |= {"cross_entropy": losses[0], "adversarial_cross_entropy": losses[1]}
        return (1 - self.weight) * losses[0] + self.weight * losses[1], Aux(model_state, scalars)
