"""Tone, colour and sharpness of an image, as Pillow's ``ImageOps`` and ``ImageEnhance`` change them.

Images are in [0, 1] and read as grey levels from 0 to 255, as eight bits hold them; results are whole levels again. An
image of eight bits gives what Pillow does, level for level. The gradient is that of the formula without its rounding,
and is 0 where the levels are counted.

A factor of :func:`brightness`, :func:`contrast`, :func:`saturation` and :func:`sharpness` says how much of the image to
keep: 1 is the image, 0 what the function takes away from it, and above 1 the opposite of that.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from robust_jax.images.colour import hsv_to_rgb, rgb_to_hsv
from robust_jax.images.histogram import LEVELS, histogram
from robust_jax.images.quantise import quantise, straight_through
from robust_jax.types import Image

Scalar = float | Float[Array, ""]


def auto_contrast(image: Image) -> Image:
    """Each channel's least level becomes 0 and its greatest 1, the others between; a constant channel stays."""
    height, width, channels = image.shape
    levels = _levels(image)
    # Of whole columns first, which XLA vectorises on a CPU.
    columns = levels.reshape(height, width * channels)
    low, high = (
        reduce(reduce(columns, axis=0).reshape(width, channels), axis=0, keepdims=True)[None]
        for reduce in (jnp.min, jnp.max)
    )
    scale = 255 / jnp.maximum(high - low, 1)
    # Truncated as by Pillow, which computes in double precision: whole levels must not fall below themselves.
    stretched = _truncate(levels * scale - low * scale + 1e-4)
    return jnp.where(high > low, stretched, levels) / 255


def equalise_channels(image: Image) -> Image:
    r"""Each channel's levels spread as evenly as Pillow's ``ImageOps.equalize`` does.

    .. math:: v \mapsto \lfloor (\lfloor s / 2 \rfloor + \#\{\text{pixels} < v\}) / s \rfloor, \quad
        s = \lfloor (n - \#\{\text{pixels of the greatest level}\}) / 255 \rfloor

    A channel stays where s is 0. The gradient is 0.
    """
    levels = jax.lax.stop_gradient(_levels(image)).astype(jnp.uint8)
    return equalise_channel_levels(levels).astype(image.dtype) / 255


def equalise_channel_levels(levels: UInt8[Array, "h w c"]) -> UInt8[Array, "h w c"]:
    """As :func:`equalise_channels`, from eight bits to eight bits."""
    height, width, channels = levels.shape
    # One histogram of all channels, each with levels of its own.
    index = levels.astype(jnp.int32) + LEVELS * jnp.arange(channels)[None, None]
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
    table = jnp.zeros(entry.shape, jnp.uint8).at[entry].set(table.reshape(-1).astype(jnp.uint8))
    return table.at[index].get(mode="promise_in_bounds")


def posterise(image: Image, bits: Scalar) -> Image:
    """Keeps the highest bits of the eight, a whole number of them; 8 keeps all, 0 none."""
    size = 2.0 ** (8 - jnp.round(bits))
    levels = _levels(image)
    return straight_through(levels, jnp.floor(levels / size) * size) / 255


def solarise(image: Image, threshold: Scalar) -> Image:
    """Inverts what is at least as bright as the threshold, in [0, 1]; above 1 inverts nothing."""
    levels = _levels(image)
    return jnp.where(levels >= 255 * threshold, 255 - levels, levels) / 255


def invert(image: Image) -> Image:
    """1 less the image."""
    return 1 - quantise(image)


def brightness(image: Image, factor: Scalar) -> Image:
    """Blends with black."""
    levels = _levels(image)
    return _blend(jnp.zeros_like(levels), levels, factor)


def contrast(image: Image, factor: Scalar) -> Image:
    """Blends with the mean of the image's luma."""
    levels = _levels(image)
    height, width, _ = image.shape
    # As a product, which XLA vectorises; the sum of whole levels is exact.
    total = jnp.sum(jnp.matmul(_luma(levels), np.ones(width, np.float32)))
    mean = jnp.floor(total / (height * width) + 0.5)
    return _blend(jnp.full_like(levels, mean), levels, factor)


def saturation(image: Image, factor: Scalar) -> Image:
    """Blends with the image's luma; of one channel, nothing changes. Pillow's ``ImageEnhance.Color``."""
    levels = _levels(image)
    return _blend(jnp.broadcast_to(_luma(levels)[..., None], levels.shape), levels, factor)


def hue(image: Image, turn: Scalar) -> Image:
    """Moves the hue by a share of the full circle; of one channel, nothing changes.

    torchvision does so on HSV of eight bits each, and comes out a few levels beside this.
    """
    if image.shape[-1] == 1:
        return quantise(image)
    hsv = rgb_to_hsv(quantise(image))
    turned = jnp.concatenate([(hsv[..., :1] + turn) % 1, hsv[..., 1:]], axis=-1)
    return quantise(hsv_to_rgb(turned))


def sharpness(image: Image, factor: Scalar) -> Image:
    """Blends with the image smoothed by the kernel (1 1 1, 1 5 1, 1 1 1) / 13, whose outer pixels stay."""
    height, width, channels = image.shape
    # Channels side by side, for the long rows that XLA vectorises on a CPU.
    levels = _levels(image).reshape(height, width * channels)
    padded = jnp.pad(levels, ((1, 1), (channels, channels)))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    window = rows[:, : -2 * channels] + rows[:, channels:-channels] + rows[:, 2 * channels :]
    smooth = (window + 4 * levels) / 13
    smooth = straight_through(smooth, jnp.floor(smooth + 0.5))
    inner = np.pad(np.ones((height - 2, (width - 2) * channels), bool), ((1, 1), (channels, channels)))
    return _blend(jnp.where(inner, smooth, levels), levels, factor).reshape(image.shape)


def _levels(image: Image) -> Image:
    return 255 * quantise(image)


def _luma(levels: Image) -> Float[Array, "h w"]:
    """That of ITU-R BT.601 in whole numbers, as Pillow computes it; single precision holds them all."""
    if levels.shape[-1] == 1:
        return levels[..., 0]
    weighted = jnp.matmul(levels, np.array([19595, 38470, 7471], np.float32), precision=jax.lax.Precision.HIGHEST)
    return straight_through(weighted / 65536, jnp.floor((weighted + 32768) / 65536))


def _blend(other: Image, levels: Image, factor: Scalar) -> Image:
    return _truncate(jnp.clip(other + factor * (levels - other), 0, 255)) / 255


def _truncate(levels: Image) -> Image:
    return straight_through(levels, jnp.floor(levels))
