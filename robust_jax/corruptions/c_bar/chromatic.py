"""Colours that a lens magnifies differently."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.random_words import random_uniform
from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.images.quantise import quantise
from robust_jax.images.splines import spline_matrix
from robust_jax.types import Image, PRNGKey

Scalar = Float[Array, ""]

_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


@dataclasses.dataclass(frozen=True)
class TransverseChromaticAberration(BenchmarkCorruption):
    """Magnifies the three channels, in random order, by 1, 1 + l/40 and 1 + l/20 about the centre.

    l is 1, 2, 5, 9, 10. One channel is magnified by one of the three.

    Source: ``transverse_chromatic_abberation`` (spelt so) of CIFAR-10-C-bar (Mintun, Kirillov & Xie, arXiv
    2102.11273). Its quirks: cubic splines without the filter that makes them interpolate, so that all channels are
    blurred, also where the scale is 1; the magnified image has a whole number of pixels and is cropped at a whole
    pixel; eight bits by rounding. ``clean`` magnifies exactly, bilinear, and does not round.
    """

    variable: ClassVar[str] = "optics"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        level = constants((1, 2, 5, 9, 10), severity)
        order = jnp.asarray(_ORDERS)[(6 * random_uniform(key, ())).astype(jnp.int32)][: image.shape[2]]
        scales = 1 + 0.05 * level * jnp.arange(3) / 2
        magnified = magnify_channels(image, scales, order, splines=not self.clean)
        return magnified if self.clean else quantise(magnified, "round_u8")


def magnify_channels(
    image: Image, scales: Float[Array, "3"], order: Array, *, splines: bool
) -> Image:  # fmt: skip
    """Channel i magnified by ``scales[order[i]]``, by quirky splines or bilinear.

    Every scale's matrices are the same for a whole batch: channels are brought in order of scale, and back.
    """
    matrix = _spline_zoom if splines else _linear_zoom
    rows, columns = (jax.vmap(lambda scale, n=size: matrix(n, scale))(scales) for size in image.shape[:2])
    places = (order[None] == jnp.arange(3)[:, None]).astype(image.dtype)
    planes = jnp.einsum("sc,hwc->shw", places, image, precision="highest")
    planes = jnp.einsum("sij,sjw->siw", rows, planes, precision="highest")
    planes = jnp.einsum("sij,shj->shi", columns, planes, precision="highest")
    return jnp.einsum("sc,shw->hwc", places, planes, precision="highest")


def _spline_zoom(size: int, scale: Scalar) -> Float[Array, "n n"]:
    """The crop of a zoomed axis that scipy.ndimage.zoom gives with order 3 and without prefilter."""
    zoomed = jnp.round(size * scale)
    first = jnp.floor((zoomed - size) / 2)
    positions = (first + np.arange(size)) * ((size - 1) / jnp.maximum(zoomed - 1, 1))
    return spline_matrix(jnp.clip(positions, 0, size - 1), size)


def _linear_zoom(size: int, scale: Scalar) -> Float[Array, "n n"]:
    middle = (size - 1) / 2
    positions = (np.arange(size) - middle) / scale + middle
    return jnp.maximum(1 - jnp.abs(positions[:, None] - np.arange(size)[None]), 0)
