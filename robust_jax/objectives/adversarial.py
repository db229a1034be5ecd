"""Training on adversarial images beside the clean ones."""

from __future__ import annotations

import dataclasses

import jax
from jaxtyping import PyTree

from robust_jax.attacks import Attack
from robust_jax.core.checks import check_choice, check_fraction
from robust_jax.objectives.cross_entropy import (
    classification_metrics,
    cross_entropy,
    masked_mean,
    plain_loss,
    smooth_labels,
)
from robust_jax.objectives.inner import PASSES, STATISTICS, Passes, Statistics, perturb, train_passes, warm_up
from robust_jax.types import Batch, Context, Forward, Loss, Objective, PRNGKey


@dataclasses.dataclass(frozen=True)
class Adversarial(Objective):
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

    attack: Attack
    """``(keys, predictor, images, labels) -> images``, such as :class:`~robust_jax.attacks.FGSM`."""
    weight: float = 0.5
    """w: share of the adversarial images in the loss; 0 is plain cross-entropy."""
    label_smoothing: float = 0.0
    """Share of probability spread evenly over the classes; the attack does not see it."""
    statistics: Statistics = "running"
    """Batch-norm statistics in the passes of the attack."""
    passes: Passes = "joint"
    """Passes of clean and adversarial images through the network in training: "joint" or "separate"."""
    warm_up: float = 0.0
    """Fraction of training over which the attack's radius grows from 0; 0 for a constant radius."""

    def __post_init__(self):
        check_fraction("weight", self.weight)
        check_fraction("label_smoothing", self.label_smoothing)
        check_fraction("warm_up", self.warm_up)
        check_choice("statistics", self.statistics, STATISTICS)
        check_choice("passes", self.passes, PASSES)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        attack_key, key = jax.random.split(key)
        scale = warm_up(context.progress, self.warm_up)
        perturbed = perturb(attack_key, forward, params, batch, self.attack, statistics=self.statistics, scale=scale)
        clean, moved, model_state = train_passes(key, forward, params, batch.image, perturbed, self.passes)
        targets = smooth_labels(batch.label, clean.prediction.shape[-1], smoothing=self.label_smoothing)
        losses = [cross_entropy(output.prediction, targets) for output in (clean, moved)]
        metrics = classification_metrics(clean.prediction, targets, batch, clean)
        metrics["cross_entropy"] = masked_mean(losses[0], batch.mask)
        metrics["adversarial_cross_entropy"] = masked_mean(losses[1], batch.mask)
        return plain_loss((1 - self.weight) * losses[0] + self.weight * losses[1], model_state, state, metrics)
