"""Training on adversarial images beside the clean ones."""

from __future__ import annotations

import dataclasses

import jax
from jaxtyping import PyTree

from robust_jax.core.checks import check_fraction
from robust_jax.objectives.cross_entropy import (
    classification_metrics,
    cross_entropy,
    masked_mean,
    plain_loss,
    smooth_labels,
)
from robust_jax.objectives.inner import InnerMaximisation, Passes, train_passes
from robust_jax.types import Batch, Context, Forward, Loss, PRNGKey


@dataclasses.dataclass(frozen=True)
class Adversarial(InnerMaximisation):
    r"""Cross-entropy on the images and on what an attack makes of them.

    .. math:: (1 - w)\, L(f(x), y) + w\, L(f(x + \delta), y)

    No gradient passes through the attack. With ``w = 1/2`` and ``attacks.FGSM(eps=0.01)``, one step of 1 % of the
    range, the members are those of the paper's ensembles; ``w = 1`` is adversarial training (Madry et al., arXiv
    1706.06083). Soft labels, as mixers make them, go with the gradient attacks that support them.

    Raises:
        ValueError: if a number is out of range or a name unknown; when run, if the attack does not support the labels.

    References:
        Goodfellow, Shlens & Szegedy (arXiv 1412.6572), section 6; Lakshminarayanan, Pritzel & Blundell (arXiv
        1612.01474), section 2.3 and algorithm 1.
    """

    weight: float = 0.5
    """Weight w of the adversarial images in the loss; 0 is plain cross-entropy."""
    passes: Passes = dataclasses.field(default="joint", kw_only=True)
    """Passes of clean and adversarial images through the network in training: "joint" or "separate"."""

    def __post_init__(self):
        super().__post_init__()
        check_fraction("weight", self.weight)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        attack_key, key = jax.random.split(key)
        perturbed = self.perturb(attack_key, forward, params, batch, context)
        clean, moved, model_state = train_passes(key, forward, params, batch.image, perturbed, self.passes)
        targets = smooth_labels(batch.label, clean.prediction.shape[-1], smoothing=self.label_smoothing)
        losses = [cross_entropy(output.prediction, targets) for output in (clean, moved)]
        metrics = classification_metrics(clean.prediction, targets, batch, clean)
        metrics["cross_entropy"] = masked_mean(losses[0], batch.mask)
        metrics["adversarial_cross_entropy"] = masked_mean(losses[1], batch.mask)
        return plain_loss((1 - self.weight) * losses[0] + self.weight * losses[1], model_state, state, metrics)
