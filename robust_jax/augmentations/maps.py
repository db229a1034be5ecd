"""Augmentations that move a label map with its image.

An augmentation declares it by a method ``with_map(key, image, label_map)``, whose image is that of ``(key, image)``.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import PyTree

from robust_jax.types import IGNORED, Augmentation, Image, LabelMap, PRNGKey


@runtime_checkable
class MovesMaps(Protocol):
    """An augmentation that can move a label map with its image."""

    def with_map(self, key: PRNGKey, image: Image, label_map: LabelMap) -> tuple[Image, LabelMap]:
        """Return the augmented image and its label map."""
        ...


class Photometric:
    """Base class of augmentations under which every pixel keeps its place, so that a label map does not change."""

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        raise NotImplementedError

    def with_map(self, key: PRNGKey, image: Image, label_map: LabelMap) -> tuple[Image, LabelMap]:
        """Return the augmented image and the label map unchanged."""
        return self(key, image), label_map


class Geometric:
    """Base class of augmentations that draw a transform and apply it: to an image, or as well to its label map.

    A label map is read at the nearest pixel, and is :data:`~robust_jax.types.IGNORED` beyond the image's border.
    """

    def draw(self, key: PRNGKey, shape: tuple[int, ...]) -> PyTree:
        """Draw a transform of images of a shape (h, w, c)."""
        raise NotImplementedError

    def warp(self, drawn: Any, image: Image, *, order: int = 1, beyond: float = 0.0) -> Image:
        """Apply the geometric part of a drawn transform.

        Args:
            drawn: the transform.
            image: the image, or a label map as float32 [h, w, 1].
            order: 0, the nearest pixel; 1, bilinear.
            beyond: value of pixels beyond the border, where it is not extended.
        """
        raise NotImplementedError

    def apply(self, drawn: Any, image: Image) -> Image:
        """Apply a drawn transform to an image."""
        return self.warp(drawn, image)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        return self.apply(self.draw(key, image.shape), image)

    def with_map(self, key: PRNGKey, image: Image, label_map: LabelMap) -> tuple[Image, LabelMap]:
        """Return the augmented image and its label map, by one draw."""
        drawn = self.draw(key, image.shape)
        # Classes are whole numbers, which float32 holds exactly.
        moved = self.warp(drawn, label_map.astype(jnp.float32)[..., None], order=0, beyond=float(IGNORED))
        return self.apply(drawn, image), moved[..., 0].astype(label_map.dtype)


def moving_maps(augmentation: Augmentation) -> MovesMaps:
    """Return the augmentation if it can move label maps with their images.

    Raises:
        TypeError: if it does not declare ``with_map``, as those that mix images.
    """
    if not isinstance(augmentation, MovesMaps):
        raise TypeError(
            f"Expected an augmentation that moves label maps with their images, got {type(augmentation).__name__}; "
            "give it a method with_map, or use a geometric or photometric one."
        )
    return augmentation
