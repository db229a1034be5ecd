"""Tone, colour and sharpness of grey levels, as Pillow's ``ImageOps`` and ``ImageEnhance`` change them.

Levels are whole numbers from 0 to 255, and so are results, level for level those of Pillow: of type uint8, or floats,
which are slower and have derivatives. These are those of the formula without its rounding, and 0 where levels are
counted.

A factor of :func:`brightness`, :func:`contrast`, :func:`saturation` and :func:`sharpness` says how much of the image to
keep: 1 is the image, 0 what the function takes away from it, and above 1 the opposite of that.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from robust_jax.images.histogram import LEVELS, histogram
from robust_jax.images.quantise import straight_through

Scalar = float | Float[Array, ""]
Levels = UInt8[Array, "h w c"] | Float[Array, "h w c"]


def auto_contrast(levels: Levels) -> Levels:
    """Each channel's least level becomes 0 and its greatest 255, the others between; a constant channel stays."""
    height, width, channels = levels.shape
    # Channels side by side, for the long rows that XLA vectorises on a CPU.
    rows = levels.reshape(height, width * channels)
    low, high = (
        _floats(reduce(reduce(rows, axis=0).reshape(width, channels), axis=0)) for reduce in (jnp.min, jnp.max)
    )
    scale = jnp.where(high > low, 255 / jnp.maximum(high - low, 1), 1)
    # Pillow truncates in double precision: whole levels must not fall below themselves.
    start = jnp.where(high > low, low * scale - 1e-4, 0)
    of_rows = lambda values: jnp.tile(values, width)[None]  # noqa: E731
    return _truncated(_floats(rows) * of_rows(scale) - of_rows(start), levels.dtype).reshape(levels.shape)


def equalise(levels: Levels) -> Levels:
    r"""Each channel's levels spread as evenly as they can be.

    .. math:: v \mapsto \lfloor (\lfloor s / 2 \rfloor + \#\{\text{pixels} < v\}) / s \rfloor, \quad
        s = \lfloor (n - \#\{\text{pixels of the greatest level}\}) / 255 \rfloor

    A channel stays where s is 0. The derivative is 0.
    """
    height, width, channels = levels.shape
    # One histogram of all channels, each with levels of its own.
    index = jax.lax.stop_gradient(levels).astype(jnp.int32) + LEVELS * jnp.arange(channels)[None, None]
    count = histogram(index, LEVELS * channels).reshape(channels, LEVELS)
    greatest = jnp.max(jnp.where(count > 0, jnp.arange(LEVELS)[None], 0), axis=1)
    step = (height * width - jnp.take_along_axis(count, greatest[:, None], axis=1)) // 255
    # As a product, exact up to 2^24 pixels; a cumulative sum takes XLA several times as long as all the rest.
    earlier = np.triu(np.ones((LEVELS, LEVELS), np.float32), 1)
    below = jnp.matmul(count.astype(jnp.float32), earlier, precision=jax.lax.Precision.HIGHEST).astype(jnp.int32)
    spread = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    table = jnp.where(step > 0, spread, jnp.arange(LEVELS)[None])
    # Written by a scatter, which XLA fuses with no reader: else it computes the table anew for every pixel.
    entry = jnp.arange(LEVELS * channels)
    table = jnp.zeros(entry.shape, levels.dtype).at[entry].set(table.reshape(-1).astype(levels.dtype))
    return table.at[index].get(mode="promise_in_bounds")


def posterise(levels: Levels, bits: Scalar) -> Levels:
    """Keeps the highest bits of the eight, a whole number of them; 8 keeps all, 0 none."""
    kept = jnp.left_shift(255, 8 - jnp.round(bits).astype(jnp.int32)).astype(jnp.uint8)
    found = levels.astype(jnp.uint8) & kept
    return found if levels.dtype == jnp.uint8 else straight_through(levels, found.astype(levels.dtype))


def solarise(levels: Levels, threshold: Scalar) -> Levels:
    """Inverts levels from the threshold on, a share of 255; above 1 inverts nothing."""
    least = jnp.clip(jnp.ceil(255 * jnp.asarray(threshold)), 0, 255).astype(levels.dtype)
    return jnp.where((levels >= least) & (threshold <= 1), 255 - levels, levels)


def invert(levels: Levels) -> Levels:
    """255 less the levels."""
    return 255 - levels


def brightness(levels: Levels, factor: Scalar) -> Levels:
    """Blends with black."""
    return _blend(0, levels, factor)


def contrast(levels: Levels, factor: Scalar) -> Levels:
    """Blends with the mean of the image's luma."""
    height, width, _ = levels.shape
    # As a product, which XLA vectorises; the sum of whole levels is exact.
    luma, ones = _luma(_planes(levels)).reshape(height, width), np.ones(width, np.float32)
    total = jnp.sum(jnp.matmul(luma, ones, precision=jax.lax.Precision.HIGHEST))
    return _blend(jnp.floor(total / (height * width) + 0.5), levels, factor)


def saturation(levels: Levels, factor: Scalar) -> Levels:
    """Blends with the image's luma; of one channel, nothing changes. Pillow's ``ImageEnhance.Color``."""
    planes = _planes(levels)
    luma = _luma(planes)
    return jnp.stack([_blend(luma, plane, factor) for plane in planes]).T.reshape(levels.shape)


def sharpness(levels: Levels, factor: Scalar) -> Levels:
    """Blends with the image smoothed by the kernel (1 1 1, 1 5 1, 1 1 1) / 13, whose outer pixels stay."""
    height, width, channels = levels.shape
    levels_in_rows = levels.reshape(height, width * channels)
    # Sums of eight bits fit sixteen.
    wide = levels_in_rows.astype(jnp.int16) if levels.dtype == jnp.uint8 else levels_in_rows
    sums = wide[:-2] + wide[1:-1] + wide[2:]
    sums = sums[:, : -2 * channels] + sums[:, channels:-channels] + sums[:, 2 * channels :]
    inner = (slice(1, -1), slice(channels, -channels))
    smooth = _floats(sums + 4 * wide[inner]) / 13
    smooth = straight_through(smooth, jnp.floor(smooth + 0.5))
    return levels_in_rows.at[inner].set(_blend(smooth, levels_in_rows[inner], factor)).reshape(levels.shape)


def _planes(levels: Levels) -> list[Array]:
    """One row of pixels for each channel, which XLA vectorises on a CPU; channels side by side it does not."""
    return list(levels.reshape(-1, levels.shape[-1]).T)


def _luma(planes: list[Array]) -> Float[Array, "n"]:
    """That of ITU-R BT.601 in whole numbers, as Pillow computes it; single precision holds them all."""
    if len(planes) == 1:
        return _floats(planes[0])
    red, green, blue = map(_floats, planes)
    weighted = 19595 * red + 38470 * green + 7471 * blue
    return straight_through(weighted / 65536, jnp.floor((weighted + 32768) / 65536))


def _blend(other: Scalar | Array, levels: Array, factor: Scalar) -> Array:
    return _truncated(jnp.clip(other + factor * (_floats(levels) - other), 0, 255), levels.dtype)


def _floats(levels: Array) -> Float[Array, "..."]:
    return levels if jnp.issubdtype(levels.dtype, jnp.floating) else levels.astype(jnp.float32)


def _truncated(values: Float[Array, "..."], dtype: jnp.dtype) -> Array:
    """Downwards to whole levels of a type."""
    if dtype == jnp.uint8:
        # By way of integers, which is twice as fast on a CPU.
        return values.astype(jnp.int32).astype(jnp.uint8)
    return straight_through(values, jnp.floor(values))
