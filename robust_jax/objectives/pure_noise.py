"""Training on images of pure noise in place of repeated ones (OPeN)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from robust_jax.core.checks import check_fraction, check_positive
from robust_jax.core.keys import example_keys
from robust_jax.core.random_words import random_normal
from robust_jax.objectives.cross_entropy import (
    classification_metrics,
    cross_entropy,
    masked_mean,
    plain_loss,
    smooth_labels,
)
from robust_jax.objectives.routing import routed_batch_norm
from robust_jax.types import Batch, Context, Forward, Images, Loss, Objective, PRNGKey


@dataclasses.dataclass(frozen=True)
class PureNoise(Objective):
    r"""Cross-entropy, with images of rare classes replaced by noise that keeps their labels.

    An image of class c becomes noise with probability :math:`(1 - n_c / \max n)\, \delta`: each channel normal with the
    mean and standard deviation of the training set, clipped to [0, 1]. For data in which every class is made equally
    frequent by repetition, as by :class:`~robust_jax.data.Oversampled`.

    Raises:
        ValueError: if a number is out of range; when run, if the counts are not as many as the classes, or the channels
            fit neither the means nor the standard deviations.

    References:
        Zada, Benou & Irani (arXiv 2112.08810): section 3, algorithm 1; δ = 1/3.
    """

    counts: tuple[int, ...]
    """n, how many different examples each class has."""
    delta: float = 1 / 3
    """δ."""
    mean: tuple[float, ...] = (0.5,)
    """Of the training set: of each channel, or of all."""
    std: tuple[float, ...] = (0.25,)
    """Of the training set: of each channel, or of all."""
    routed: bool = True
    """Noise has batch statistics of its own (DAR-BN)."""
    label_smoothing: float = 0.0
    """Share of probability spread evenly over the classes."""

    def __post_init__(self):
        if not self.counts:
            raise ValueError("Expected counts of one or more classes, got none.")
        for count in self.counts:
            check_positive("counts", count)
        for std in self.std:
            check_positive("std", std)
        check_fraction("delta", self.delta)
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        noise_key, key = jax.random.split(key)
        images, noise = self.replace(noise_key, batch)
        interceptors = (routed_batch_norm(noise),) if self.routed else ()
        output, model_state = forward(params, images, key=key, train=True, interceptors=interceptors)
        if output.prediction.shape[-1] != len(self.counts):
            raise ValueError(f"Expected {output.prediction.shape[-1]} counts, one a class, got {len(self.counts)}.")
        targets = smooth_labels(batch.label, output.prediction.shape[-1], smoothing=self.label_smoothing)
        metrics = classification_metrics(output.prediction, targets, batch, output)
        metrics["noise_share"] = masked_mean(noise, batch.mask)
        return plain_loss(cross_entropy(output.prediction, targets), model_state, state, metrics)

    def replace(self, key: PRNGKey, batch: Batch) -> tuple[Images, Bool[Array, "b"]]:
        """Images of which some are noise, and which these are."""
        channels = batch.image.shape[-1]
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, channels):
                raise ValueError(f"Expected {name} of 1 or {channels} channels, got {name}={getattr(self, name)!r}.")
        chances = (1 - jnp.asarray(self.counts) / max(self.counts)) * self.delta
        mean, std = jnp.asarray(self.mean)[None, None], jnp.asarray(self.std)[None, None]

        def one(key: PRNGKey, chance: Float[Array, ""], image: Array) -> tuple[Array, Array]:
            chance_key, noise_key = jax.random.split(key)
            noise = jax.random.uniform(chance_key) < chance
            drawn = jnp.clip(mean + std * random_normal(noise_key, image.shape), 0, 1)
            return jnp.where(noise, drawn, image), noise

        return jax.vmap(one)(example_keys(key, batch.id), chances[batch.label], batch.image)
