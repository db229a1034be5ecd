"""Random rectangles of an image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from robust_jax.types import PRNGKey

ATTEMPTS = 10
"""At a rectangle that fits into the image, as in torchvision."""


def rectangle(
    shape: tuple[int, ...], top: Array, left: Array, height: Array | int, width: Array | int
) -> Bool[Array, "h w 1"]:
    """True on the part of an image of ``shape`` that lies in a rectangle; all numbers may be traced."""
    rows, columns = jnp.arange(shape[0])[:, None, None], jnp.arange(shape[1])[None, :, None]
    return (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)


def random_square(key: PRNGKey, shape: tuple[int, ...], size: Int[Array, ""] | int) -> Bool[Array, "h w 1"]:
    """A square of ``size`` pixels about any of the image's, with what lies beyond the border cut off."""
    row, column = jax.random.randint(key, (2,), 0, jnp.asarray(shape[:2]))
    return rectangle(shape, row - size // 2, column - size // 2, size, size)


def random_rectangle(
    key: PRNGKey, shape: tuple[int, ...], *, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Int[Array, ""], Int[Array, ""], Int[Array, ""], Int[Array, ""], Bool[Array, ""]]:
    """Top, left, height and width of a random rectangle inside an image of ``shape``, and whether one was found.

    Args:
        key: of the draws.
        shape: of the image.
        area: range of its share of the image, drawn evenly.
        ratio: range of its height divided by its width, drawn evenly in the logarithm.
    """
    share, slope, down, across = jax.random.uniform(key, (4, ATTEMPTS))
    pixels = shape[0] * shape[1] * (area[0] + (area[1] - area[0]) * share)
    low, high = (jnp.log(jnp.float32(side)) for side in ratio)
    root = jnp.exp((low + (high - low) * slope) / 2)
    heights, widths = jnp.round(jnp.sqrt(pixels) * root), jnp.round(jnp.sqrt(pixels) / root)
    fits = (heights <= shape[0]) & (widths <= shape[1]) & (heights > 0) & (widths > 0)
    first = jnp.argmax(fits)
    height, width = heights[first], widths[first]
    top, left = jnp.floor(down[first] * (shape[0] - height + 1)), jnp.floor(across[first] * (shape[1] - width + 1))
    top, left, height, width = (number.astype(jnp.int32) for number in (top, left, height, width))
    return top, left, height, width, fits[first]


def check_share_and_ratio(*, area: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Raises ``ValueError`` unless they are ranges of an area's share and of a positive ratio."""
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(f"Expected area as 0 < least <= greatest <= 1, got area={area!r}.")
    if not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"Expected ratio as 0 < least <= greatest, got ratio={ratio!r}.")
