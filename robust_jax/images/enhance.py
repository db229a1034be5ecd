"""Tone, colour and sharpness of an image in [0, 1], as Pillow's ``ImageOps`` and ``ImageEnhance`` change them.

Images are read as 256 grey levels, as eight bits hold them, and results are whole levels again: :mod:`.tone`, which
says what each function does, between two changes of scale.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.images import tone
from robust_jax.images.colour import hsv_to_rgb, rgb_to_hsv
from robust_jax.images.quantise import quantise, straight_through
from robust_jax.images.tone import Scalar
from robust_jax.types import Image


def brightness(image: Image, factor: Scalar) -> Image:
    """Blends with black."""
    return on_levels(tone.brightness, image, factor)


def contrast(image: Image, factor: Scalar) -> Image:
    """Blends with the mean of the image's luma."""
    return on_levels(tone.contrast, image, factor)


def saturation(image: Image, factor: Scalar) -> Image:
    """Blends with the image's luma; of one channel, nothing changes."""
    return on_levels(tone.saturation, image, factor)


def hue(image: Image, turn: Scalar) -> Image:
    """Moves the hue by a share of the full circle; of one channel, nothing changes.

    torchvision does so on HSV of eight bits each, and comes out a few levels beside this.
    """
    if image.shape[-1] == 1:
        return quantise(image)
    hsv = rgb_to_hsv(quantise(image))
    turned = jnp.concatenate([(hsv[..., :1] + turn) % 1, hsv[..., 1:]], axis=-1)
    return quantise(hsv_to_rgb(turned))


def on_levels(change: Callable[..., Float[Array, "h w c"]], image: Image, *values: Scalar) -> Image:
    """A change of grey levels, of an image in [0, 1].

    Args:
        change: of :mod:`.tone`.
        image: the image.
        values: what else the change takes.
    """
    levels = 255 * jnp.clip(image, 0, 1)
    return change(straight_through(levels, jnp.floor(levels + 0.5)), *values) / 255
