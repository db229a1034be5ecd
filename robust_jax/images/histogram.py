"""Histogram equalisation of a plane of 256 levels, as a whole (global) and by tiles (CLAHE)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.core.checks import check_positive

LEVELS = 256


def equalise(plane: Float[Array, "h w"]) -> Float[Array, "h w"]:
    r"""The plane with its levels spread so that their distribution is as even as it can be.

    .. math:: v \mapsto \mathrm{round}\Big(255\, \frac{N(v) - N(v_0)}{n - N(v_0)}\Big), \quad
        N(v) = \#\{\text{pixels} \le v\}, \; v_0 \text{ the least level that occurs.}

    As ``cv2.equalizeHist``; a constant plane stays. The gradient is 0.

    Args:
        plane: in [0, 1]; clipped and rounded to eight bits first.
    """
    return equalise_levels(_levels(plane)).astype(plane.dtype) / 255


def equalise_levels(levels: Int[Array, "h w"]) -> Int[Array, "h w"]:
    """As :func:`equalise`, on levels from 0 to 255."""
    count = histogram(levels)
    least = jnp.argmax(count > 0)
    # So that the least level becomes 0, its own pixels do not count.
    below = jnp.cumsum(jnp.where(jnp.arange(LEVELS) == least, 0, count))
    scale = 255 / jnp.maximum(below[-1], 1).astype(jnp.float32)
    new = jnp.round(below.astype(jnp.float32) * scale).astype(levels.dtype)
    return jnp.where(below[-1] > 0, new, least.astype(levels.dtype))[levels]


def clahe(
    plane: Float[Array, "h w"], *, clip_limit: float | Float[Array, ""] = 2.0, tiles: tuple[int, int] = (8, 8)
) -> Float[Array, "h w"]:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994), as ``cv2.createCLAHE``.

    Every tile has a map of levels of its own, from its histogram after what exceeds the limit has been spread evenly
    over all levels; a pixel's new level is interpolated bilinearly between the maps of the four nearest tiles. The
    gradient is 0.

    Args:
        plane: in [0, 1]; clipped and rounded to eight bits first.
        clip_limit: the most that a level may hold, in multiples of a tile's mean; at least one pixel. May be traced.
        tiles: how many, down and across; a plane that they do not divide is mirrored beyond its end.

    Raises:
        ValueError: if a number of tiles is not positive, or the plane too small to be mirrored as far as needed.
    """
    for number in tiles:
        check_positive("tiles", number)
    levels = _levels(plane)
    padded = _whole_tiles(levels, tiles)
    size = tuple(side // number for side, number in zip(padded.shape, tiles, strict=True))
    blocks = padded.reshape(tiles[0], size[0], tiles[1], size[1]).swapaxes(1, 2).reshape(-1, size[0] * size[1])
    limit = jnp.maximum(jnp.floor(clip_limit * blocks.shape[1] / LEVELS), 1).astype(jnp.int32)
    # One histogram of all tiles, each with levels of its own.
    offset = LEVELS * jnp.arange(len(blocks), dtype=jnp.int32)[:, None]
    count = histogram(blocks + offset, LEVELS * len(blocks)).reshape(-1, LEVELS)
    total = jnp.cumsum(_clip_counts(count, limit), axis=1).astype(jnp.float32)
    maps = jnp.clip(jnp.round(total * (255 / blocks.shape[1])), 0, 255).reshape(-1)
    (top, bottom, down), (left, right, across) = (
        _tile_neighbours(side, length, number) for side, length, number in zip(plane.shape, size, tiles, strict=True)
    )
    read = lambda row, column: maps[(row[:, None] * tiles[1] + column[None]) * LEVELS + levels]  # noqa: E731
    across, down = across[None], down[:, None]
    upper = read(top, left) * (1 - across) + read(top, right) * across
    lower = read(bottom, left) * (1 - across) + read(bottom, right) * across
    return jnp.round(upper * (1 - down) + lower * down).astype(plane.dtype) / 255


def histogram(levels: Int[Array, "..."], num_levels: int = LEVELS) -> Int[Array, "num_levels"]:
    """How often each level from 0 to ``num_levels - 1`` occurs."""
    return jnp.zeros(num_levels, jnp.int32).at[levels.reshape(-1)].add(1, mode="promise_in_bounds")


def _levels(plane: Float[Array, "h w"]) -> Int[Array, "h w"]:
    return jnp.floor(jnp.clip(plane, 0, 1) * 255 + 0.5).astype(jnp.int32)


def _clip_counts(count: Int[Array, "tiles 256"], limit: Int[Array, ""]) -> Int[Array, "tiles 256"]:
    clipped = jnp.minimum(count, limit)
    excess = jnp.sum(count - clipped, axis=1, keepdims=True)
    # What does not divide by the number of levels goes to levels spread over the range, one each.
    rest = excess % LEVELS
    step = jnp.maximum(LEVELS // jnp.maximum(rest, 1), 1)
    level = jnp.arange(LEVELS)[None]
    return clipped + excess // LEVELS + ((level % step == 0) & (level // step < rest))


def _whole_tiles(levels: Int[Array, "h w"], tiles: tuple[int, int]) -> Int[Array, "H W"]:
    rest = [side % number for side, number in zip(levels.shape, tiles, strict=True)]
    if not any(rest):
        return levels
    # OpenCV extends both axes once either needs it, one that divides by a pixel for each tile.
    edges = [number - part for part, number in zip(rest, tiles, strict=True)]
    if any(edge >= side for edge, side in zip(edges, levels.shape, strict=True)):
        raise ValueError(f"Expected a plane larger than its {tiles[0]}x{tiles[1]} tiles, got {levels.shape}.")
    return jnp.pad(levels, [(0, edge) for edge in edges], mode="reflect")


def _tile_neighbours(side: int, length: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel of an axis the tiles before and after, by their centres, and the weight of the latter."""
    position = np.arange(side, dtype=np.float32) * np.float32(1 / length) - np.float32(0.5)
    before = np.floor(position).astype(np.int32)
    weight = (position - before).astype(np.float32)
    return np.maximum(before, 0), np.minimum(before + 1, number - 1), weight
