"""You Only Cut Once: the halves of an image augmented each for itself."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from robust_jax.augmentations.maps import moving_maps
from robust_jax.augmentations.policies import RandAugment
from robust_jax.types import Augmentation, Image, LabelMap, PRNGKey, PRNGKeys


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
        axis_key, *keys = _keys(key, image)
        cut = [
            jnp.concatenate([self.augmentation(*half) for half in zip(keys, _halves(image, axis), strict=True)], axis)
            for axis in (0, 1)
        ]
        return jnp.where(jax.random.bernoulli(axis_key), *cut)

    def with_map(self, key: PRNGKey, image: Image, label_map: LabelMap) -> tuple[Image, LabelMap]:
        """Augment image and label map, half by half."""
        axis_key, *keys = _keys(key, image)
        cut = []
        for axis in (0, 1):
            halves = zip(keys, _halves(image, axis), _halves(label_map, axis), strict=True)
            moved = zip(*(moving_maps(self.augmentation).with_map(*half) for half in halves), strict=True)
            cut.append([jnp.concatenate(parts, axis) for parts in moved])
        first = jax.random.bernoulli(axis_key)
        images, maps = zip(*cut, strict=True)
        return jnp.where(first, *images), jnp.where(first, *maps)


def _keys(key: PRNGKey, image: Image) -> PRNGKeys:
    height, width, _ = image.shape
    if min(height, width) < 2:
        raise ValueError(f"Expected an image of at least 2 x 2 pixels to cut in two, got {height} x {width}.")
    return jax.random.split(key, 3)


def _halves(image: Array, axis: int) -> list[Array]:
    return jnp.split(image, [image.shape[axis] // 2], axis)
