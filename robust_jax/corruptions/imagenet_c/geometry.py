"""Elastic transformation and pixelation (arXiv 1903.12261, section 3 and appendix B)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.random_words import random_uniform
from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.images.filters import gaussian_blur
from robust_jax.images.quantise import quantise
from robust_jax.images.resample import map_coordinates, pixelate
from robust_jax.types import Image, PRNGKey

# Amplitude and smoothness of the displacements, and of the affine map; all times the length beside.
ELASTIC = {
    "imagenet224": ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    "cifar32": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "tiny64": ((0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)),
}
# 244 is the original's slip for 224, kept in the published set.
ELASTIC_LENGTH = {"imagenet224": (244,), "cifar32": (32,), "tiny64": (64,)}
PIXELATE = {
    "imagenet224": (0.6, 0.5, 0.4, 0.3, 0.25),
    "cifar32": (0.95, 0.9, 0.85, 0.75, 0.65),
    "tiny64": (0.9, 0.8, 0.7, 0.6, 0.5),
}
TRUNCATE = 3.0


@dataclasses.dataclass(frozen=True)
class ElasticTransform(BenchmarkCorruption):
    """An affine map that moves three points at random, then displacements smoothed by a Gaussian.

    The affine map is bilinear with mirrored borders, the displacements α · G_σ ∗ U(−1, 1) in either direction are
    bilinear with reflected ones. The original takes the first coordinate of the centre from the height and the second
    from the width, though the points are (x, y), which only shows on images that are not square (``clean``: the other
    way round), and its affine map reads at multiples of 1/32 pixel (here it does not).
    """

    variable: ClassVar[str] = "optics"
    by_image: ClassVar[bool] = True
    min_size: ClassVar[int] = 6

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        (length,) = self.table(ELASTIC_LENGTH, image)
        table = np.multiply(self.table(ELASTIC, image), length * self.scale(image))
        alpha, sigma, shift = constants(table, severity)
        key, points_key = jax.random.split(key)
        height, width, _ = image.shape
        centre = (width, height) if self.clean else (height, width)
        rows, columns = random_affine(points_key, image.shape, centre=centre, shift=shift)
        image = map_coordinates(image, rows, columns, mode="mirror")
        noise = 2 * random_uniform(key, (height, width, 2)) - 1
        radius = math.ceil(TRUNCATE * table[:, 1].max())
        field = alpha * gaussian_blur(noise, sigma, radius=radius, truncate=TRUNCATE, mode="reflect")
        rows = jnp.arange(height, dtype=jnp.float32)[:, None] + field[..., 1]
        columns = jnp.arange(width, dtype=jnp.float32)[None] + field[..., 0]
        return map_coordinates(image, rows, columns, mode="reflect")


@dataclasses.dataclass(frozen=True)
class Pixelate(BenchmarkCorruption):
    """Reduced by a box filter to a share of its size, and enlarged again; rounded to eight bits after either axis.

    ``clean``: not rounded. As in the original, sizes are truncated to whole pixels. With the preset ``scaled``, blocks
    grow with images larger than 224 pixels.
    """

    variable: ClassVar[str] = "processing"
    by_image: ClassVar[bool] = True
    min_size: ClassVar[int] = 4

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        del key
        table = np.divide(self.table(PIXELATE, image), max(self.scale(image), 1.0))
        share = constants(table, severity)
        sizes = {}
        for name, side in zip(("height", "width"), image.shape, strict=False):
            # Exact products such as 0.3 · 500 must not fall short of a whole number in single precision.
            sizes[name] = jnp.floor(share * side + 1e-3).astype(jnp.int32)
            sizes[f"max_{name}"], sizes[f"min_{name}"] = int(max(table) * side + 1), int(min(table) * side)
        rounding = (lambda plane: plane) if self.clean else (lambda plane: quantise(plane, "round_u8"))
        return pixelate(image, **sizes, rounding=rounding)


def random_affine(
    key: PRNGKey, shape: tuple[int, ...], *, centre: tuple[int, int], shift: Float[Array, ""]
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Where each pixel reads under the affine map that moves three points by U(−shift, shift) in either direction.

    The points are corners of the square about half of ``centre``, (x, y), of half side a third of the shorter side.
    """
    half = min(shape[:2]) // 3
    x, y = (side // 2 for side in centre)
    corners = np.array([[x + half, y + half], [x + half, y - half], [x - half, y - half]], np.float32)
    moved = corners + shift * jax.random.uniform(key, (3, 2), minval=-1, maxval=1)
    # From the moved points back to the corners, for it is the output's pixels that ask. Three points fix the map:
    # with the first as origin, the others' differences are its basis.
    old, new = corners[1:] - corners[:1], moved[1:] - moved[:1]
    determinant = new[0, 0] * new[1, 1] - new[0, 1] * new[1, 0]
    inverse = jnp.array([[new[1, 1], -new[0, 1]], [-new[1, 0], new[0, 0]]]) / determinant
    matrix = jnp.matmul(inverse, old, precision=jax.lax.Precision.HIGHEST)
    down = jnp.arange(shape[0], dtype=jnp.float32)[:, None] - moved[0, 1]
    right = jnp.arange(shape[1], dtype=jnp.float32)[None] - moved[0, 0]
    columns = right * matrix[0, 0] + down * matrix[1, 0] + corners[0, 0]
    rows = right * matrix[0, 1] + down * matrix[1, 1] + corners[0, 1]
    return rows, columns
