"""Colour spaces: HSV, luma, YCbCr and CIE Lab. Their gradients are finite everywhere, on greys and on black too."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601."""

# JFIF 1.02, page 3: luma, blue difference, red difference.
_TO_YCBCR = np.array([LUMA, (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411)])
_FROM_YCBCR = np.linalg.inv(_TO_YCBCR)
# Linear sRGB to XYZ, and the white of D65 for the observer of 2 degrees (CIE 15; IEC 61966-2-1).
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
# Differences of channels below this count as none: hue is then undefined, and taken as 0.
_GREY = 1e-6


def grey(image: Float[Array, "h w c"]) -> Float[Array, "h w"]:
    """The luma of ITU-R BT.601, .299 R + .587 G + .114 B; of one channel, that channel."""
    if image.shape[-1] == 1:
        return image[..., 0]
    red, green, blue = (weight * image[..., channel] for channel, weight in enumerate(LUMA))
    return red + green + blue


def rgb_to_hsv(image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Hue, saturation and value, all in [0, 1]: V = max, S = (max − min) / max, hue a turn from red over green.

    As ``skimage.color.rgb2hsv``: greys have hue and saturation 0. There their gradient is 0.
    """
    red, green, blue = (image[..., channel] for channel in range(3))
    value = jnp.maximum(jnp.maximum(red, green), blue)
    delta = value - jnp.minimum(jnp.minimum(red, green), blue)
    coloured = delta > _GREY
    safe = jnp.where(coloured, delta, 1)
    sixths = jnp.where(
        blue == value,
        4 + (red - green) / safe,
        jnp.where(green == value, 2 + (blue - red) / safe, (green - blue) / safe % 6),
    )
    hue = jnp.where(coloured, sixths / 6, 0)
    saturation = jnp.where(coloured, delta / jnp.where(coloured, value, 1), 0)
    return jnp.stack([hue, saturation, value], axis=-1)


def hsv_to_rgb(image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """The inverse of :func:`rgb_to_hsv`; hue is taken modulo 1."""
    hue, saturation, value = (image[..., channel, None] for channel in range(3))
    # Distance on the circle from where a channel is lowest, in sixths of a turn.
    sixths = (hue * 6 + jnp.array([[[5.0, 3.0, 1.0]]])) % 6
    lack = jnp.clip(jnp.minimum(sixths, 4 - sixths), 0, 1)
    return value * (1 - saturation * lack)


def rgb_to_ycbcr(image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Luma and the two colour differences of JFIF, all in [0, 1]; greys have differences of 128/255."""
    return _linear(image, _TO_YCBCR) + jnp.array([[[0, 128 / 255, 128 / 255]]], image.dtype)


def ycbcr_to_rgb(image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """The inverse of :func:`rgb_to_ycbcr`; not clipped."""
    return _linear(image - jnp.array([[[0, 128 / 255, 128 / 255]]], image.dtype), _FROM_YCBCR)


def rgb_to_lab(image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """CIE L*a*b* of an sRGB image under D65: L in [0, 100], a and b within about ±110."""
    low = image <= 0.04045
    linear = jnp.where(low, image / 12.92, ((jnp.where(low, 1, image) + 0.055) / 1.055) ** 2.4)
    xyz = _linear(linear, _TO_XYZ / _WHITE[:, None])
    small = xyz <= (6 / 29) ** 3
    root = jnp.where(small, xyz * (29 / 6) ** 2 / 3 + 4 / 29, jnp.cbrt(jnp.where(small, 1, xyz)))
    return _linear(root, np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]])) - jnp.array([[[16.0, 0, 0]]])


def lab_to_rgb(image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """The inverse of :func:`rgb_to_lab`, clipped to the colours that sRGB has."""
    to_root = np.array([[1 / 116, 1 / 500, 0], [1 / 116, 0, 0], [1 / 116, 0, -1 / 200]])
    root = _linear(image + jnp.array([[[16.0, 0, 0]]]), to_root)
    xyz = jnp.where(root <= 6 / 29, (root - 4 / 29) * 3 * (6 / 29) ** 2, root**3)
    linear = jnp.clip(_linear(xyz, np.linalg.inv(_TO_XYZ / _WHITE[:, None])), 0, 1)
    low = linear <= 0.0031308
    return jnp.where(low, linear * 12.92, 1.055 * jnp.where(low, 1, linear) ** (1 / 2.4) - 0.055)


def _linear(image: Float[Array, "h w 3"], matrix: np.ndarray) -> Float[Array, "h w 3"]:
    return jnp.matmul(image, jnp.asarray(matrix.T, image.dtype), precision=jax.lax.Precision.HIGHEST)
