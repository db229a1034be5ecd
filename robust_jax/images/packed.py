"""Images of eight bits with the channels of a pixel packed in one word.

Reading between pixels is a gather, the slowest thing that a warp does on a CPU; of words it is one for all channels.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from robust_jax.core.checks import check_choice
from robust_jax.images.geometry import Matrix, inside_outline, source_points

MAX_CHANNELS = 4


def pack(image: Float[Array, "h w c"]) -> UInt32[Array, "h w"]:
    """The nearest levels from 0 to 255 of an image in [0, 1], the first channel in the lowest bits."""
    levels = jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint32)
    return sum(levels[..., channel] << (8 * channel) for channel in range(image.shape[-1]))


def unpack(words: UInt32[Array, "..."], num_channels: int) -> Float[Array, "... c"]:
    """Levels from 0 to 255."""
    return jnp.stack([((words >> (8 * i)) & 255).astype(jnp.float32) for i in range(num_channels)], axis=-1)


def warp_levels(
    image: Float[Array, "h w c"], matrix: Matrix, *, order: int, cval: float = 0.0
) -> Float[Array, "h w c"]:
    """As :func:`~robust_jax.images.geometry.warp` with the mode ``outline``, of an image rounded to eight bits.

    Up to four channels are read at once. There is no gradient.

    Args:
        image: in [0, 1].
        matrix: where result pixels read.
        order: 0, the nearest pixel; 1, bilinear.
        cval: beyond the border.

    Raises:
        ValueError: if the order is neither, or there are more than four channels.
    """
    height, width, num_channels = image.shape
    check_choice("order", str(order), ("0", "1"))
    if num_channels > MAX_CHANNELS:
        raise ValueError(f"Expected at most {MAX_CHANNELS} channels, got {num_channels}.")
    words = pack(image).reshape(-1)
    rows, columns = source_points(matrix, (height, width))
    inside = inside_outline(rows, height) & inside_outline(columns, width)
    rows, columns = jnp.clip(rows, -1, height), jnp.clip(columns, -1, width)

    def read(row: Array, column: Array) -> Float[Array, "h w c"]:
        row, column = jnp.clip(row.astype(jnp.int32), 0, height - 1), jnp.clip(column.astype(jnp.int32), 0, width - 1)
        return unpack(words.at[row * width + column].get(mode="promise_in_bounds"), num_channels)

    if order == 0:
        values = read(jnp.floor(rows + 0.5), jnp.floor(columns + 0.5))
    else:
        top, left = jnp.floor(rows), jnp.floor(columns)
        down, right = (rows - top)[..., None], (columns - left)[..., None]
        upper = read(top, left) * (1 - right) + read(top, left + 1) * right
        lower = read(top + 1, left) * (1 - right) + read(top + 1, left + 1) * right
        values = upper * (1 - down) + lower * down
    return jnp.where(inside[..., None], values / 255, cval)
