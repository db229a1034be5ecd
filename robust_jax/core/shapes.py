"""Shapes of images."""

from __future__ import annotations

from robust_jax.types import Shaped


def image_shape(images: Shaped) -> tuple[int, int, int]:
    """Return (h, w, c) of a batch of images, or of several batches."""
    *_, height, width, channels = images.shape
    return height, width, channels
