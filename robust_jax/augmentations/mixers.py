"""Mixers: the examples of a batch combined in pairs, and their labels with them: ``mixer(key, batch) -> batch``.

Every example has a partner, by a random permutation of the batch. Labels are class probabilities; in training, integers
are made so before the first mixer sees them.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.augmentations.rectangles import rectangle
from robust_jax.core.checks import check_fraction, check_positive
from robust_jax.core.keys import example_keys
from robust_jax.types import Batch, Images, PRNGKey


@dataclasses.dataclass(frozen=True)
class Mixup:
    r"""Convex combinations of pairs.

    .. math:: \lambda x_i + (1 - \lambda) x_j, \; \lambda y_i + (1 - \lambda) y_j, \quad
        \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    Raises:
        ValueError: if α is not positive; when called, if labels are integers.

    References:
        Zhang, Cissé, Dauphin & Lopez-Paz (arXiv 1710.09412): α = 1 on CIFAR, 0.2 on ImageNet.
    """

    alpha: float = 1.0
    """α."""
    per_example: bool = False
    """Draw λ for every pair; as published, it is one of the batch."""

    def __post_init__(self):
        check_positive("alpha", self.alpha)

    def __call__(self, key: PRNGKey, batch: Batch) -> Batch:
        partner_key, share_key = jax.random.split(key)
        share = beta_shares(share_key, batch, self.alpha, per_example=self.per_example)
        return mix_batch(batch, random_partners(partner_key, batch), share)


@dataclasses.dataclass(frozen=True)
class CutMix:
    r"""A rectangle of the image replaced by the partner's, and labels mixed by area.

    Its sides are the image's times :math:`\sqrt{1 - \lambda}`, λ ~ Beta(α, α), about a random pixel; what would lie
    beyond the border is cut off.

    Raises:
        ValueError: if a number is out of range; when called, if labels are integers.

    References:
        Yun, Han, Oh, Chun, Choe & Yoo (arXiv 1905.04899), algorithm A1: α = 1, with probability 0.5 on CIFAR and 1 on
        ImageNet.
    """

    alpha: float = 1.0
    """α."""
    probability: float = 1.0
    """Of mixing at all."""
    per_example: bool = False
    """Draw λ, the place and whether to mix for every pair; as published, they are those of the batch."""

    def __post_init__(self):
        check_positive("alpha", self.alpha)
        check_fraction("probability", self.probability)

    def __call__(self, key: PRNGKey, batch: Batch) -> Batch:
        partner_key, share_key, place_key, chance_key = jax.random.split(key, 4)
        share = beta_shares(share_key, batch, self.alpha, per_example=self.per_example)
        shape = batch.image.shape[1:]

        def cover(place_key: PRNGKey, chance_key: PRNGKey, share: Float[Array, ""]) -> Float[Array, "h w 1"]:
            side = jnp.sqrt(1 - share)
            height, width = (jnp.floor(length * side).astype(jnp.int32) for length in shape[:2])
            row, column = jax.random.randint(place_key, (2,), 0, jnp.asarray(shape[:2]))
            covered = rectangle(shape, row - height // 2, column - width // 2, height, width)
            return covered & (jax.random.uniform(chance_key) < self.probability)

        num = len(batch.id)
        places = _keys(place_key, batch, self.per_example)
        chances = _keys(chance_key, batch, self.per_example)
        covered = jnp.broadcast_to(jax.vmap(cover)(places, chances, share[: len(places)]), (num, *shape[:2], 1))
        partner = random_partners(partner_key, batch)
        images = jnp.where(covered, batch.image[partner], batch.image)
        kept = 1 - jnp.mean(covered, axis=(1, 2, 3))
        return mix_batch(batch, partner, kept)._replace(image=images)


def random_partners(key: PRNGKey, batch: Batch) -> Int[Array, "b"]:
    """A permutation of the batch."""
    return jax.random.permutation(key, len(batch.id))


def beta_shares(key: PRNGKey, batch: Batch, alpha: float, *, per_example: bool) -> Float[Array, "b"]:
    """What each example keeps of itself: λ ~ Beta(α, α), its own or one of the whole batch."""
    keys = _keys(key, batch, per_example)
    return jnp.broadcast_to(jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys), (len(batch.id),))


def mix_batch(batch: Batch, partner: Int[Array, "b"], share: Float[Array, "b"]) -> Batch:
    """Images and labels that keep a share of themselves and take the rest of their partners."""
    if batch.label.ndim != 2:
        raise ValueError(
            f"Expected labels as class probabilities [b, k], got {batch.label.dtype} of shape {batch.label.shape}: "
            "make them so by objectives.smooth_labels(labels, num_classes)."
        )
    images = mix_pairs(batch.image, partner, share)
    labels = mix_pairs(batch.label, partner, share)
    return Batch(images, labels, batch.mask & batch.mask[partner], batch.id)


def mix_pairs(values: Images | Array, partner: Int[Array, "b"], share: Float[Array, "b"]) -> Array:
    """Along the leading axis, shares of values and the rest of their partners'."""
    share = share.reshape(-1, *(1,) * (values.ndim - 1)).astype(values.dtype)
    return share * values + (1 - share) * values[partner]


def _keys(key: PRNGKey, batch: Batch, per_example: bool) -> Array:
    return example_keys(key, batch.id) if per_example else key[None]
