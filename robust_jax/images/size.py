"""The size of an image."""

from __future__ import annotations

from jaxtyping import Array, Float


def image_size(image: Float[Array, "h w ..."]) -> tuple[int, int]:
    """Return (height, width) in pixels."""
    return image.shape[0], image.shape[1]
