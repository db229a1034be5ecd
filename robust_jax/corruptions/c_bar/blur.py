"""Blur of a turning camera."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.images.resample import apply_matrices
from robust_jax.images.splines import prefilter_matrix, spline_matrix, spline_taps
from robust_jax.types import Image, PRNGKey

Scalar = Float[Array, ""]

_NUM_ANGLES = 21
# Up to so many pixels the blur is one product with a matrix, pixels by pixels.
_DENSE_PIXELS = 4096


@dataclasses.dataclass(frozen=True)
class CircularMotionBlur(BenchmarkCorruption):
    r"""The weighted mean of 21 rotations about the centre, by up to ±1.5 l degrees.

    The rotation by :math:`u \cdot 1.5\, l` degrees, u from −1 to 1, has weight :math:`e^{-2 u^2}`. Cubic splines. l is
    2.8, 3.6, 4.4, 5.2, 6. There is nothing random in it.

    Source: ``circular_motion_blur`` of CIFAR-10-C-bar (Mintun, Kirillov & Xie, arXiv 2102.11273). Its quirks: black
    beyond the image, so that corners darken; truncation to eight bits. ``clean`` repeats the border, and does not
    truncate.
    """

    variable: ClassVar[str] = "motion"
    min_size: ClassVar[int] = 2

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        degrees = 1.5 * constants((2.8, 3.6, 4.4, 5.2, 6), severity)
        return rotation_blur(image, jnp.pi / 180 * degrees, dark_border=not self.clean)


def rotation_blur(image: Image, angle: Scalar, *, dark_border: bool) -> Image:
    """The mean of :class:`CircularMotionBlur` over rotations by up to ``angle`` radians either way.

    Beyond the border is black, or repeats it. The same for every image of a batch, so either one matrix for all, or
    reads at places that are worked out once.
    """
    height, width, channels = image.shape
    share = np.linspace(-1, 1, _NUM_ANGLES)
    weights = np.exp(-2 * share**2)
    weights = (weights / weights.sum()).astype(np.float32)
    angles = angle * share.astype(np.float32)
    coefficients = apply_matrices(image, prefilter_matrix(height), prefilter_matrix(width))
    if height * width <= _DENSE_PIXELS:
        rows, columns, inside = jax.vmap(lambda angle: _turn((height, width), angle, dark_border))(angles)
        by_row = spline_matrix(rows, height) * (inside * weights.reshape(-1, 1, 1))[..., None]
        by_row, by_column = (
            matrix.reshape(_NUM_ANGLES, height * width, -1) for matrix in (by_row, spline_matrix(columns, width))
        )
        matrix = jnp.einsum("tpi,tpj->pij", by_row, by_column, precision="highest").reshape(height * width, -1)
        blurred = jnp.matmul(matrix, coefficients.reshape(height * width, channels), precision="highest")
        return blurred.reshape(image.shape)
    flat = coefficients.reshape(height * width, channels)

    def add(total: Array, turn: tuple) -> tuple[Array, None]:
        angle, weight = turn
        rows, columns, inside = _turn((height, width), angle, dark_border)
        # Else they would be worked out again for every image of a batch.
        by_row, by_column, inside = jax.lax.optimization_barrier(
            (spline_taps(rows, height), spline_taps(columns, width), inside * weight)
        )
        for row, row_weight in by_row:
            for column, column_weight in by_column:
                read = flat.at[row * width + column].get(mode="promise_in_bounds")
                total = total + (inside * row_weight * column_weight)[..., None] * read
        return total, None

    return jax.lax.scan(add, jnp.zeros_like(image), (angles, jnp.asarray(weights)))[0]


def _turn(
    shape: tuple[int, int], angle: Scalar, dark_border: bool
) -> tuple[Float[Array, "h w"], Float[Array, "h w"], Float[Array, "h w"]]:  # fmt: skip
    """Where each pixel of the turned image is read from, within the image, and 1 or 0: whether it is read at all."""
    middle = [(size - 1) / 2 for size in shape]
    down, across = (np.arange(size, dtype=np.float32) - m for size, m in zip(shape, middle, strict=True))
    down, across = jnp.asarray(down)[:, None], jnp.asarray(across)[None]
    rows = jnp.cos(angle) * down + jnp.sin(angle) * across + middle[0]
    columns = jnp.cos(angle) * across - jnp.sin(angle) * down + middle[1]
    inside = (rows >= 0) & (rows <= shape[0] - 1) & (columns >= 0) & (columns <= shape[1] - 1)
    inside = inside.astype(jnp.float32) if dark_border else jnp.ones(shape)
    return jnp.clip(rows, 0, shape[0] - 1), jnp.clip(columns, 0, shape[1] - 1), inside
