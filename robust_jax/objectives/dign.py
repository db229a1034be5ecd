"""Consistency under Gaussian noise of many strengths (DiGN)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_fraction, check_non_negative, check_positive
from robust_jax.core.random_words import random_normal
from robust_jax.objectives.cross_entropy import (
    classification_metrics,
    cross_entropy,
    masked_mean,
    plain_loss,
    smooth_labels,
)
from robust_jax.objectives.jensen_shannon import jensen_shannon
from robust_jax.objectives.views import augmented_views
from robust_jax.types import Augmentation, Batch, Context, Forward, Image, Loss, Objective, PRNGKey


def kl_to_views(logits: Float[Array, "v b k"]) -> Float[Array, "b"]:
    r"""The mean divergence from the first distribution to the others, in nats.

    .. math:: \frac{1}{v - 1} \sum_{i=1}^{v-1} \mathrm{KL}(p_0 \,\|\, p_i), \quad p_i = \mathrm{softmax}(z_i)
    """
    log_probs = jax.nn.log_softmax(logits)
    first = log_probs[:1]
    return jnp.mean(jnp.sum(jnp.exp(first) * (first - log_probs[1:]), axis=-1), axis=0)


@dataclasses.dataclass(frozen=True)
class Dign(Objective):
    r"""Cross-entropy on the images, and the divergence to what is predicted under noise of random strengths.

    .. math:: L + \lambda_1 \frac{1}{n} \sum_{i=1}^n \mathrm{KL}(p(x) \,\|\, p(x + \sigma_i z_i))
        + \lambda_2 \mathrm{JS}(p(x), p(x'), p(x'')), \quad \sigma_i \sim U(0, \sigma), \; z_i \sim \mathcal N(0, I)

    with two augmented views x' and x'', where there is an augmentation. Noisy images are not clipped. All pass through
    the network as one batch; the published code has batch norm see each view by itself.

    Raises:
        ValueError: if a number is out of range.

    References:
        Tsiligkaridis & Tsiligkaridis (arXiv 2104.01231). The published code adds noise to normalised images,
        with σ = 0.2 on CIFAR, which is 0.05 of the images' range, three draws, λ₁ = 0.2, and 12 for λ₂ with AugMix.
    """

    sigma: float = 0.05
    """σ, the most that a standard deviation may be, in units of the images' range."""
    num_draws: int = 3
    """n, of noise."""
    weight: float = 0.2
    """λ₁."""
    augmentation: Augmentation | None = None
    """Of the two further views; None leaves them out."""
    augmentation_weight: float = 12.0
    """λ₂."""
    label_smoothing: float = 0.0
    """Share of probability spread evenly over the classes."""

    def __post_init__(self):
        for name in ("sigma", "weight", "augmentation_weight"):
            check_non_negative(name, getattr(self, name))
        check_positive("num_draws", self.num_draws)
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        view_key, key = jax.random.split(key)
        changes = [self.add_noise] * self.num_draws + ([] if self.augmentation is None else [self.augmentation] * 2)
        views = augmented_views(view_key, changes, batch)
        output, model_state = forward(params, jnp.concatenate([batch.image, *views]), key=key, train=True)
        logits = output.prediction.reshape(1 + len(views), *batch.mask.shape, -1)
        targets = smooth_labels(batch.label, logits.shape[-1], smoothing=self.label_smoothing)
        fit = cross_entropy(logits[0], targets)
        noisy, others = jnp.split(logits[1:], [self.num_draws])
        divergence = kl_to_views(jnp.concatenate([logits[:1], noisy]))
        loss = fit + self.weight * divergence
        parts = {"cross_entropy": fit, "kl_noise": divergence}
        if self.augmentation is not None:
            between = parts["jensen_shannon"] = jensen_shannon(jnp.concatenate([logits[:1], others]))
            loss += self.augmentation_weight * between
        metrics = classification_metrics(logits[0], targets, batch, output)
        metrics |= {name: masked_mean(part, batch.mask) for name, part in parts.items()}
        return plain_loss(loss, model_state, state, metrics)

    def add_noise(self, key: PRNGKey, image: Image) -> Image:
        """An image under noise of one strength."""
        sigma_key, noise_key = jax.random.split(key)
        return image + self.sigma * jax.random.uniform(sigma_key) * random_normal(noise_key, image.shape)
