"""You Only Cut Once: the halves of an image augmented each for itself."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from robust_jax.augmentations.policies import RandAugment
from robust_jax.types import Augmentation, Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class Yoco:
    """The image cut in two, above and below or left and right at random, and each half augmented with its own key.

    Under ``jax.vmap`` both ways to cut are computed and one is kept.

    Raises:
        ValueError: when called, if the image has fewer than two pixels on a side.

    References:
        Han, Fang, Xie, Zhang, Zhang & Ko (arXiv 2201.12078), section 3.
    """

    augmentation: Augmentation = RandAugment()
    """Of either half, which has half the size; an odd side's first half is the smaller."""

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        height, width, _ = image.shape
        if min(height, width) < 2:
            raise ValueError(f"Expected an image of at least 2 x 2 pixels to cut in two, got {height} x {width}.")
        axis_key, *keys = jax.random.split(key, 3)
        cut = [
            jnp.concatenate([self.augmentation(*half) for half in zip(keys, _halves(image, axis), strict=True)], axis)
            for axis in (0, 1)
        ]
        return jnp.where(jax.random.bernoulli(axis_key), *cut)


def _halves(image: Image, axis: int) -> list[Image]:
    return jnp.split(image, [image.shape[axis] // 2], axis)
